"""What a worker process does: it trains the runs that the engine sends, a step of each in turn."""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dcpt.grid.slots import Slot
from dcpt.processes import STOP_SIGNALS, end_with_parent, ignore_signals
from dcpt.runs.identity import RunConfig

READY = ("", "ready", "")
"""The first message of a worker: from here on a run that it was sent may have begun."""

_SAVE_ALONE_S = 5.0
"""Seconds that a worker has to save its runs after the death of its parent."""


def work(connection: Connection, study: str, slot: Slot, parent: int) -> None:
    """Train runs until the engine asks to stop or is gone; then save what is in training.

    Args:
        connection: Brings configurations, then None to stop; takes (run, state, words).
        study: The study's folder.
        slot: The device, threads and lanes.
        parent: The process id of the engine.
    """
    # The engine alone decides when to stop: a terminal, Slurm and systemd signal every process.
    ignore_signals(STOP_SIGNALS)
    end_with_parent(parent, _SAVE_ALONE_S)  # a killed one must not leave a run under its lock
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
            if ended.state == "failed" and slot.device != "cpu":
                # After an error of the device itself nothing works in this process any more: it
                # ends here, and its other runs go on in a new one.
                torch.cuda.synchronize(slot.device)


def _receive(connection: Connection) -> Any:
    """The next message; a parent that is gone asks to stop too."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        return None


def _send(connection: Connection, message: tuple[str, str, str]) -> None:
    """Send a message; a parent that is gone needs none, and the run's folder says all of it."""
    with suppress(OSError):
        connection.send(message)
