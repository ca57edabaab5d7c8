"""Engines that tests interrupt, and the files of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dcpt.grid.local import LocalEngine, Worker
from dcpt.grid.planned import PlannedRun
from dcpt.grid.slots import Slot
from dcpt.grid.worker import work
from dcpt.runs.folders import RunFolder
from dcpt.study.folder import StudyFolder


def work_until_stuck(connection: Any, study: str, *arguments: Any) -> None:
    """A worker that waits for a lock for ever once it has taken a few steps."""
    from dcpt.training import lanes, watchdog

    advance, left = lanes.Lanes.advance, Path(study, "hangs")
    steps = 0

    def advance_or_hang(self: lanes.Lanes) -> list[lanes.Ended]:
        nonlocal steps
        steps += 1
        if steps == 5 and (n := int(left.read_text())):
            left.write_text(str(n - 1))
            watchdog.LONG_S = 0.5
            watchdog.WATCHDOG.announce()
            wait_for_ever()
        return advance(self)

    lanes.Lanes.advance = advance_or_hang  # type: ignore[method-assign]
    work(connection, study, *arguments)


def wait_for_ever() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


class Hanging(LocalEngine):
    """Its workers stop in the middle of training, as often as the file ``hangs`` says."""

    _work = staticmethod(work_until_stuck)


class Remembering(LocalEngine):
    """Keeps its workers, so that a test can check how they ended."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.started: list[Worker] = []

    def _start(self, slot: Slot) -> Worker:
        self.started.append(super()._start(slot))
        return self.started[-1]


def folders(study: Path, runs: list[PlannedRun]) -> list[RunFolder]:
    return [RunFolder.of(run.config, StudyFolder(study).runs) for run in runs]


def run_grid(study: Path) -> subprocess.Popen[str]:
    """`dcpt run-grid` with one worker, in its own process group."""
    code = "from dcpt.cli import main; main()"
    command = [sys.executable, "-c", code, "run-grid", str(study), "--workers", "1"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def kill_worker(worker: Worker) -> int:
    pid: int = worker.process.pid
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for a condition; the limit only makes a failing test end."""
    deadline = time.monotonic() + 1200
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
