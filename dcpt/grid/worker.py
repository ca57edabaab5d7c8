"""The worker process: it trains the runs that the engine sends, a step of each in turn."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from dcpt.errors import InputError
from dcpt.grid.messages import (
    Compile,
    End,
    FromWorker,
    Progress,
    Ready,
    Release,
    Start,
    Stop,
    ToWorker,
)
from dcpt.grid.slots import Slot
from dcpt.processes import STOP_SIGNALS, end_with_parent, ignore_signals
from dcpt.runs.identity import RunConfig

if TYPE_CHECKING:
    from dcpt.training.lanes import Lanes

_SAVE_ALONE_S = 5.0
"""Seconds for a worker to save its runs after its parent died."""

_REPORT_EVERY_S = 0.2


def work(connection: Connection, study: str, slot: Slot, parent: int, stacks: str) -> None:
    """Train runs until the engine stops or dies; then save the runs in training.

    Args:
        connection: Receives and sends the records of ``dcpt.grid.messages``.
        study: The study's folder.
        slot: The device, threads and lanes.
        parent: The process id of the engine.
        stacks: A file for the stacks of all threads, if the process makes no progress.
    """
    # Only the engine decides when to stop; terminals, Slurm and systemd signal every process.
    ignore_signals(STOP_SIGNALS)
    end_with_parent(parent, _SAVE_ALONE_S)  # an orphaned worker must not keep a run locked
    _share_compiled_code()
    import torch

    from dcpt.training.host_memory import keep_freed_memory
    from dcpt.training.lanes import Lanes
    from dcpt.training.watchdog import WATCHDOG

    torch.set_num_threads(slot.threads)
    if not slot.is_accelerator:
        keep_freed_memory()
    lanes = Lanes(Path(study), slot.devices, slot.lanes_for)
    with open(stacks, "w", encoding="utf-8") as file:
        WATCHDOG.start(file, on_accelerator=slot.is_accelerator)
        _send(connection, Ready())
        _train(connection, lanes, slot)
        WATCHDOG.pause()


def _share_compiled_code() -> None:
    """Keep inductor's compiled code where all workers and later calls find it.

    Inductor's default is a temporary folder, which a restart of the machine empties.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache_path("dcpt") / "inductor"))


def _train(connection: Connection, lanes: Lanes, slot: Slot) -> None:
    """Take a step of every run in turn, until the engine says stop and all runs are saved."""
    import torch

    from dcpt.training.watchdog import WATCHDOG

    reported, known = time.monotonic(), set[str]()
    while len(lanes) or not lanes.stopping:
        while not lanes.stopping and (not len(lanes) or connection.poll()):
            if not len(lanes):
                WATCHDOG.pause()  # the next message may take hours
            _follow(_receive(connection), lanes, slot)
        for ended in lanes.advance():
            _send(connection, End(ended.run, ended.state, ended.words))
            if ended.state == "failed" and slot.is_accelerator and len(slot.devices) == 1:
                # After an error of the device nothing works in this process: it ends here, and its
                # other runs continue in a new process.
                torch.cuda.synchronize(slot.device)
        reached = lanes.reached()
        if reached.keys() - known or time.monotonic() - reported >= _REPORT_EVERY_S:
            _send(connection, Progress(reached))
            reported, known = time.monotonic(), set(reached)


def _follow(message: ToWorker, lanes: Lanes, slot: Slot) -> None:
    """Do what the engine says."""
    match message:
        case Compile(config):
            _compile(RunConfig.model_validate(config), lanes, slot.device)
        case Start(config):
            lanes.add(RunConfig.model_validate(config))
        case Release(run):
            lanes.release(run)
        case Stop():
            lanes.stop()


def _compile(config: RunConfig, lanes: Lanes, device: str) -> None:
    """Take a few steps of an untrained model, so that its code is compiled."""
    from dcpt.training.timing import time_steps
    from dcpt.training.watchdog import WATCHDOG

    WATCHDOG.announce()
    with suppress(InputError):  # it is reported when a run of this model starts
        time_steps(config, lanes.study, device=device)
        lanes.note_compiled(config)


def _receive(connection: Connection) -> ToWorker:
    """Receive the next message; Stop also if the parent died."""
    try:
        message: ToWorker = connection.recv()
    except (EOFError, OSError):
        return Stop()
    return message


def _send(connection: Connection, message: FromWorker) -> None:
    """Send a message, unless the parent died; the run's folder has the same content."""
    with suppress(OSError):
        connection.send(message)
