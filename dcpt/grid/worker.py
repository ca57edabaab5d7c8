"""The worker process: it trains the runs that the engine sends, a step of each in turn."""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dcpt.grid.slots import Slot
from dcpt.processes import STOP_SIGNALS, end_with_parent, ignore_signals
from dcpt.runs.identity import RunConfig

READY = ("", "ready", "")
"""The first message of a worker; after it, a run that was sent may have started."""

_SAVE_ALONE_S = 5.0
"""Seconds for a worker to save its runs after its parent died."""


def work(connection: Connection, study: str, slot: Slot, parent: int) -> None:
    """Train runs until the engine stops or dies; then save the runs in training.

    Args:
        connection: Receives configurations, then None to stop; sends (run, state, words).
        study: The study's folder.
        slot: The device, threads and lanes.
        parent: The process id of the engine.
    """
    # Only the engine decides when to stop; terminals, Slurm and systemd signal every process.
    ignore_signals(STOP_SIGNALS)
    end_with_parent(parent, _SAVE_ALONE_S)  # an orphaned worker must not keep a run locked
    import torch

    from dcpt.training.lanes import Lanes

    torch.set_num_threads(slot.threads)
    lanes = Lanes(Path(study), slot.device)
    _send(connection, READY)
    while len(lanes) or not lanes.stopping:
        while not lanes.stopping and (not len(lanes) or connection.poll()):
            message = _receive(connection)
            if message is None:
                lanes.stop()
            else:
                lanes.add(RunConfig.model_validate(message))
        for ended in lanes.advance():
            _send(connection, (ended.run, ended.state, ended.words))
            if ended.state == "failed" and slot.is_accelerator:
                # After an error of the device nothing works in this process: it ends here, and its
                # other runs continue in a new process.
                torch.cuda.synchronize(slot.device)


def _receive(connection: Connection) -> Any:
    """Receive the next message; None also if the parent died."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        return None


def _send(connection: Connection, message: tuple[str, str, str]) -> None:
    """Send a message, unless the parent died; the run's folder has the same content."""
    with suppress(OSError):
        connection.send(message)
