"""Signals that ask to stop (SIGINT, SIGTERM, SIGHUP), and child processes that leave in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

STOP_SIGNALS = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if name in signal.Signals.__members__  # Windows has no SIGHUP
)


@contextmanager
def note_signals() -> Iterator[list[int]]:
    """Collect the stop signals that arrive, in order, instead of acting on them.

    A signal that is ignored already (``nohup``) stays ignored. Python allows handlers in the main
    thread only: in any other one nothing is collected.

    Yields:
        The list that grows by each signal.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def block_signals() -> Iterator[None]:
    """Block the stop signals; a process that starts inside begins with them blocked.

    Ctrl-C goes to all processes of a terminal, and would end a new one with a traceback before it
    can ignore the signal.
    """
    resource_tracker.ensure_running()  # starts once, and unblocks SIGINT and SIGTERM by doing so
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals(numbers: Sequence[signal.Signals]) -> None:
    """Ignore these signals in a process that began with the stop signals blocked."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def end_with_parent(parent: int, grace_s: float = 0.0) -> None:
    """End this process, from a thread of its own, once its parent was killed.

    Args:
        parent: The process id of the parent.
        grace_s: Seconds that this process has left from then on.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        time.sleep(grace_s)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
