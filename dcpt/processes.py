"""Handle stop signals (SIGINT, SIGTERM, SIGHUP, SIGUSR2), and end child processes in order."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

STOP_SIGNALS = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")
    if name in signal.Signals.__members__  # Windows has neither SIGHUP nor SIGUSR2
)
"""Batch systems send SIGUSR2 to every process of a job before its time is up."""


class _Note:
    """A handler that collects the signals it is called with, in order."""

    def __init__(self) -> None:
        self.received: list[int] = []

    def __call__(self, number: int, _: FrameType | None) -> None:
        self.received.append(number)


@contextmanager
def note_signals() -> Iterator[list[int]]:
    """Collect stop signals in order instead of acting on them.

    A signal that is already ignored (``nohup``) stays ignored. Inside another ``note_signals`` the
    list is that of the outer one, so what arrived before is not missed. Python allows handlers only
    in the main thread: in another thread no signals are collected.

    Yields:
        The list to which signals are appended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    outer = next((handler for handler in before.values() if isinstance(handler, _Note)), None)
    if outer is not None:
        yield outer.received
        return
    note = _Note()
    replaced = {n: held for n, held in before.items() if held not in (signal.SIG_IGN, None)}
    for number in replaced:
        signal.signal(number, note)
    try:
        yield note.received
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


@contextmanager
def block_signals() -> Iterator[None]:
    """Block the stop signals; a process started meanwhile begins with them blocked.

    Ctrl-C goes to all processes of a terminal. It would end a new process with a traceback before
    that can ignore the signal.
    """
    resource_tracker.ensure_running()  # starting it later would unblock SIGINT and SIGTERM
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals(numbers: Sequence[signal.Signals]) -> None:
    """Ignore these signals in a process that started with the stop signals blocked."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def end_with_parent(parent: int, grace_s: float = 0.0) -> None:
    """Start a thread that ends this process after its parent has died.

    Args:
        parent: The process id of the parent.
        grace_s: Seconds to wait before the end.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        time.sleep(grace_s)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_and_exit(function: Callable[..., object], *arguments: object) -> None:
    """Be a whole process: call the function, then end without Python's own end.

    Threads of torch still run when Python ends, and abort the process where they then need Python:
    4 of 17 runs over three sharded processes on two busy cores ended with signal 6 after all work.

    Args:
        function: What the process does. If it raises, the process ends as usual, with exit code 1.
        arguments: Its arguments.
    """
    function(*arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
