"""Ends a process that makes no progress, and writes where each of its threads stood.

A grid once waited for a worker that had stopped without a message. The watchdog's own thread needs
no Python, so it also ends a process that waits inside a library or for a device.
"""

from __future__ import annotations

import faulthandler
import time
from typing import IO

STEP_S = 120.0
"""Seconds that a step on an accelerator may take. A process whose longest step took more than a
quarter of this may take four times that step: its size is known from the first step."""

LONG_S = 1800.0
"""Seconds for what is announced: loading, compiling, an evaluation's pass, saving, and for any step
on a CPU, which may be shared."""

_REARM_S = 5.0
"""The limit is renewed at most this often, since each renewal starts a thread."""


class Watchdog:
    """Watches the process; does nothing until it is started.

    Attributes:
        limit_s: Seconds until the process is ended unless a step is noted; 0 if it is not watched.
    """

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._step_s = LONG_S
        self.limit_s = self._renewed = self._last = self._longest = 0.0

    def start(self, file: IO[str], *, on_accelerator: bool) -> None:
        """Start to watch.

        Args:
            file: Open for writing; takes the stacks of all threads.
            on_accelerator: Whether steps run on an accelerator.
        """
        self._file, self._step_s = file, STEP_S if on_accelerator else LONG_S
        self.announce()

    def pause(self) -> None:
        """Do not watch until something is announced: the process waits for work."""
        faulthandler.cancel_dump_traceback_later()
        self.limit_s = self._last = 0.0

    def announce(self) -> None:
        """Announce work that may take long before the next step."""
        if self._file is None:
            return
        self._last = self._last or time.monotonic()
        self._renew(LONG_S)

    def note_step(self) -> None:
        """Note that a run has taken a step."""
        if self._file is None:
            return
        now = time.monotonic()
        if self._last:  # after a pause the time since the last step tells nothing
            self._longest = max(self._longest, now - self._last)
        self._last = now
        self._renew(max(self._step_s, 4 * self._longest))

    def _renew(self, limit_s: float) -> None:
        now = time.monotonic()
        if limit_s != self.limit_s or now - self._renewed >= min(_REARM_S, limit_s / 10):
            assert self._file is not None
            faulthandler.dump_traceback_later(limit_s, file=self._file, exit=True)
            self.limit_s, self._renewed = limit_s, now


WATCHDOG = Watchdog()
"""The watchdog of this process."""
