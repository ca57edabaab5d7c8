"""What a run wrote, and where it runs, read from its folder."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dcpt.atomic_files import DamagedFileError
from dcpt.grid.planned import PlannedRun
from dcpt.grid.status import RunStatus, read_run_status
from dcpt.leases import Owner, holder
from dcpt.runs.folders import LEASE, RunFolder


@dataclass(frozen=True)
class RunLog:
    """What a run's folder tells of it.

    Args:
        status: Its state.
        folder: Its folder.
        owner: The process that trains it; None if none does.
        events: The last lines of ``metrics.jsonl``.
        error: ``error.json`` of its last attempt; None if that did not fail.
        stacks: The end of ``stacks.txt``: where a process that made no progress stood.
    """

    status: RunStatus
    folder: RunFolder
    owner: Owner | None
    events: list[dict[str, Any]]
    error: dict[str, Any] | None
    stacks: list[str]


def read_run_log(planned: PlannedRun, folder: RunFolder, n_lines: int) -> RunLog:
    """Read what a run wrote.

    Args:
        planned: The run.
        folder: Its folder, which need not exist.
        n_lines: The most lines of each file.
    """
    status = read_run_status(planned, folder)
    events: deque[dict[str, Any]] = deque(maxlen=n_lines)
    with suppress(DamagedFileError, FileNotFoundError):  # the status names a damaged file
        events.extend(folder.events())
    stacks: deque[str] = deque(maxlen=n_lines)
    with suppress(FileNotFoundError):
        text = (folder.path / "stacks.txt").read_text(encoding="utf-8", errors="replace")
        stacks.extend(text.splitlines())
    owner = holder(folder.path / LEASE) if status.state == "running" else None
    return RunLog(status, folder, owner, list(events), folder.error(), list(stacks))
