"""The runs of a call of the engine: those waiting, those in training, and how the others ended.

Everything is kept in memory, so that neither the assignment of runs nor the live view has to read
folders: at 800 runs, reading all of them took 1.1 s of CPU time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dcpt.atomic_files import DamagedFileError
from dcpt.grid.planned import PlannedRun, find_folders
from dcpt.study.folder import StudyFolder

_RETRY_ELSEWHERE_S = 1.0


@dataclass
class Outcome:
    """How a call of the engine ended.

    Args:
        finished: Names of the runs that finished.
        failed: Name of each run that failed -> the reason.
        notes: Sentences about runs that finished.
    """

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class RunQueue:
    """The planned runs of a call.

    Args:
        planned: All planned runs, done or not.
        folder: The study.

    Attributes:
        planned: All planned runs, done or not.
        folders: The folder of every planned run, by name.
        done: Identity hashes of the runs that are done.
        pending: Runs that no worker trains, by name.
        running: Runs that were sent to a worker, by name.
        elsewhere: Names of pending runs that another process trains, and the time
            (``time.monotonic``) before which they are not tried again.
        alone: Names of runs that train without others in their process.
        died: Names of runs whose process died once.
        stopped: Names of runs that were saved because the call was stopped.
        outcome: The runs that ended.
    """

    def __init__(self, planned: Sequence[PlannedRun], folder: StudyFolder) -> None:
        self.planned = planned
        self.folders = find_folders(planned, folder.runs)
        self.done = {run.identity_hash for run in planned if self.is_done(run)}
        self.pending = {run.name: run for run in planned if run.identity_hash not in self.done}
        self.running: dict[str, PlannedRun] = {}
        self.elsewhere: dict[str, float] = {}
        self.alone: set[str] = set()
        self.died: set[str] = set()
        self.stopped: list[str] = []
        self.outcome = Outcome()
        self._costliest_first = sorted(self.pending.values(), key=lambda run: -run.cost)
        self._fail_orphans()

    @property
    def is_unfinished(self) -> bool:
        """Whether a run is still to be trained."""
        return bool(self.pending or self.running)

    def is_done(self, run: PlannedRun) -> bool:
        """Whether the run's folder is complete; a damaged folder is not."""
        try:
            return self.folders[run.name].is_done(run.config)
        except DamagedFileError:
            return False

    def ready(self) -> Iterator[PlannedRun]:
        """The runs that can start now, costliest first."""
        now = time.monotonic()
        for run in self._costliest_first:
            if (
                run.name in self.pending
                and self.done.issuperset(run.needs)
                and now >= self.elsewhere.get(run.name, 0.0)
            ):
                yield run

    def take(self, run: PlannedRun) -> None:
        """Note that the run was sent to a worker."""
        self.elsewhere.pop(run.name, None)
        self.running[run.name] = self.pending.pop(run.name)

    def put_back(self, run: PlannedRun) -> None:
        """Note that the run waits again."""
        self.pending[run.name] = self.running.pop(run.name)

    def end(self, run: PlannedRun, state: str, words: str = "") -> None:
        """Note how the training of a run ended.

        A run that another process trains is tried again later. A run that found too little memory
        is tried again alone, and so is a run whose process died for the first time.

        Args:
            run: A run that was taken.
            state: A state of ``dcpt.training.lanes.Ended``, or ``died``.
            words: Why it failed.
        """
        if state in ("elsewhere", "crowded", "died", "stopped"):
            self.put_back(run)
        if state == "elsewhere":
            self.elsewhere[run.name] = time.monotonic() + _RETRY_ELSEWHERE_S
        elif state in ("crowded", "died"):
            self.alone.add(run.name)
            if state == "died":
                self.died.add(run.name)
        elif state == "stopped":
            self.stopped.append(run.name)
        elif state == "failed":
            del self.running[run.name]
            self.outcome.failed[run.name] = words
            self._fail_orphans()
        else:
            del self.running[run.name]
            self.done.add(run.identity_hash)
            self.outcome.finished.append(run.name)

    def _fail_orphans(self) -> None:
        """Fail the runs that wait for a run that will not be done."""
        expected = [*self.pending.values(), *self.running.values()]
        alive = self.done | {run.identity_hash for run in expected}
        while orphans := [r for r in self.pending.values() if not alive.issuperset(r.needs)]:
            for run in orphans:
                del self.pending[run.name]
                alive.discard(run.identity_hash)
                self.outcome.failed[run.name] = "the run it starts from failed"
