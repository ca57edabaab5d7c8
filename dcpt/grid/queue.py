"""The runs of a call of the engine: those waiting, those in training, and how the others ended.

Everything is kept in memory, so that neither the assignment of runs nor the live view has to read
folders: at 800 runs, reading all of them took 1.1 s of CPU time.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dcpt.atomic_files import DamagedFileError
from dcpt.grid.planned import PlannedRun, find_folders
from dcpt.runs.cancelled import is_cancelled
from dcpt.study.folder import StudyFolder

_RETRY_ELSEWHERE_S = 1.0


@dataclass
class Outcome:
    """How a call of the engine ended.

    Args:
        finished: Names of the runs that finished.
        failed: Name of each run that failed -> the reason.
        cancelled: Names of the runs that were cancelled, in this call or before, and of those that
            start from them.
        notes: Sentences about runs that finished.
        first_step_s: Seconds from the start of the call to the first step of a run.
        later_s: Seconds from there to the end of the call.
        occupancy: Tokens over the speed of an H100 that trains three runs of their size side by
            side, over the number of GPUs x ``later_s``; None on the CPU.
    """

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    first_step_s: float | None = None
    later_s: float | None = None
    occupancy: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether no run is missing."""
        return not self.failed and not self.cancelled


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
        reached: Tokens that a run in training has reached, by name, once its worker reported them.
        moving: Names of runs in training that were asked to end, to move to another worker.
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
        self.reached: dict[str, int] = {}
        self.moving: set[str] = set()
        self.elsewhere: dict[str, float] = {}
        self.alone: set[str] = set()
        self.died: set[str] = set()
        self.stopped: list[str] = []
        self.outcome = Outcome()
        self._began, self._first_step = time.monotonic(), 0.0
        self._trained_s = 0.0
        self._counted: dict[str, int] = {}
        self._branches = self._find_branches()
        self._have_state = self._find_states()
        self._chains = chain_seconds(list(self.pending.values()))
        self._seconds_behind = seconds_behind(list(self.pending.values()))
        self._longest_first = sorted(
            self.pending.values(), key=lambda run: -self._chains[run.identity_hash]
        )
        self._set_cancelled_aside()
        self._drop_orphans()

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
        """The runs that can start now; first those with the longest chain of runs behind them."""
        now = time.monotonic()
        for run in self.to_come():
            if self._can_start(run) and now >= self.elsewhere.get(run.name, 0.0):
                yield run

    def to_come(self) -> Iterator[PlannedRun]:
        """The runs that no worker trains; first those with the longest chain behind them."""
        return (run for run in self._longest_first if run.name in self.pending)

    def _can_start(self, run: PlannedRun) -> bool:
        """Whether the states that the run starts from are on disk."""
        return run.name in self._have_state or self.done.issuperset(run.needs)

    def seconds_left(self, run: PlannedRun) -> float:
        """Seconds of an H100 that the run still takes."""
        if run.name not in self.reached:
            return run.seconds
        trained = self.reached[run.name] - run.start_tokens
        return run.seconds * max(0.0, 1 - trained / run.trained_tokens)

    def earliest_end(self, run: PlannedRun, n_workers: int) -> float:
        """Seconds before which the runs that wait for this run, and it itself, cannot have ended.

        The run trains alone from now on; then follow the longest chain of runs behind it, or all
        runs behind it, evenly on all workers.
        """
        key, left = run.identity_hash, self.seconds_left(run)
        longest = self._chains[key] - run.seconds
        return left + max(longest, self._seconds_behind[key] / n_workers)

    def all_seconds_left(self) -> float:
        """Seconds of an H100 that all runs still take."""
        return sum(map(self.seconds_left, [*self.pending.values(), *self.running.values()]))

    def take(self, run: PlannedRun) -> None:
        """Note that the run was sent to a worker."""
        self.elsewhere.pop(run.name, None)
        self.running[run.name] = self.pending.pop(run.name)

    def put_back(self, run: PlannedRun) -> None:
        """Note that the run waits again."""
        self.pending[run.name] = self.running.pop(run.name)

    def note_progress(self, name: str, n_tokens: int) -> None:
        """Note how far a run in training is.

        A trunk saves the state at which a branch leaves before it trains on, so the branch can
        start once the trunk is past it.
        """
        run = self.running.get(name)
        if run is None:
            return
        self._first_step = self._first_step or time.monotonic()
        self._count(run, n_tokens)
        for branch in self._branches.get(run.identity_hash, ()):
            if branch.start_tokens < n_tokens:
                self._have_state.add(branch.name)

    def end(self, run: PlannedRun, state: str, words: str = "") -> None:
        """Note how the training of a run ended.

        A run that another process trains is tried again later. A run that found too little memory
        is tried again alone, and so is a run whose process died for the first time.

        Args:
            run: A run that was taken.
            state: A state of ``dcpt.training.lanes.Ended``, or ``died``.
            words: Why it failed, or why another process has it now.
        """
        self.moving.discard(run.name)
        if state in ("elsewhere", "crowded", "died", "stopped", "released"):
            self.put_back(run)
        if state == "elsewhere":
            self.outcome.notes += [words] if words else []
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
            self._drop_orphans()
        elif state == "cancelled":
            del self.running[run.name]
            self.outcome.cancelled.append(run.name)
            self._drop_orphans()
        elif state == "finished":
            del self.running[run.name]
            if run.name in self.reached:
                self._count(run, run.start_tokens + run.trained_tokens)
            self.done.add(run.identity_hash)
            self.outcome.finished.append(run.name)

    def measure_occupancy(self, n_gpus: int) -> None:
        """Complete the outcome at the end of the call; ``n_gpus`` is 0 on the CPU."""
        if self._first_step:
            self.outcome.first_step_s = self._first_step - self._began
            self.outcome.later_s = time.monotonic() - self._first_step
            if n_gpus:
                self.outcome.occupancy = self._trained_s / (n_gpus * self.outcome.later_s)

    def _count(self, run: PlannedRun, n_tokens: int) -> None:
        """Note how far a run is; tokens that are trained again after a crash count once."""
        before = self._counted.get(run.name, n_tokens - run.config.identity.batch_tokens)
        self.reached[run.name] = n_tokens
        self._counted[run.name] = max(before, n_tokens)
        self._trained_s += run.seconds * max(0, n_tokens - before) / run.trained_tokens

    def _set_cancelled_aside(self) -> None:
        """Leave out the runs that were cancelled before this call."""
        for name in list(self.pending):
            if is_cancelled(self.folders[name].path):
                del self.pending[name]
                self.outcome.cancelled.append(name)

    def _drop_orphans(self) -> None:
        """Drop the runs that wait for a run that will not be done: failed or cancelled as that."""
        names = {run.identity_hash: run.name for run in self.planned}
        expected = [*self.pending.values(), *self.running.values()]
        alive = self.done | {run.identity_hash for run in expected}
        while orphans := [
            run
            for run in self.pending.values()
            if run.name not in self._have_state and not alive.issuperset(run.needs)
        ]:
            for run in orphans:
                del self.pending[run.name]
                alive.discard(run.identity_hash)
                if any(names.get(needed) in self.outcome.cancelled for needed in run.needs):
                    self.outcome.cancelled.append(run.name)
                else:
                    self.outcome.failed[run.name] = "the run it starts from failed"

    def _find_branches(self) -> dict[str, list[PlannedRun]]:
        """The branches of every trunk, by the hash of the trunk."""
        branches = defaultdict(list)
        for run in self.pending.values():
            if run.start_tokens:
                for trunk in run.needs:
                    branches[trunk].append(run)
        return branches

    def _find_states(self) -> set[str]:
        """Names of the branches whose unfinished trunk saved their state in an earlier call."""
        folders = {run.identity_hash: self.folders[run.name] for run in self.pending.values()}
        return {
            branch.name
            for trunk, branches in self._branches.items()
            if trunk in folders
            for branch in branches
            if folders[trunk].state(branch.start_tokens).exists()
        }


def chain_seconds(runs: Sequence[PlannedRun]) -> dict[str, float]:
    """The longest chain of runs that begins with each run, in seconds of an H100.

    A branch can start when its trunk has reached its start; other runs wait for the end of the run
    that they need.

    Args:
        runs: Runs that are not done; a run comes after those it needs.

    Returns:
        Seconds by the hash of the run.
    """
    chains = {run.identity_hash: run.seconds for run in runs}
    seconds = dict(chains)
    tokens = {run.identity_hash: run.trained_tokens for run in runs}
    for run in reversed(runs):
        for needed in run.needs:
            if needed in chains:
                share = run.start_tokens / tokens[needed] if run.start_tokens else 1.0
                begins = seconds[needed] * share
                chains[needed] = max(chains[needed], begins + chains[run.identity_hash])
    return chains


def seconds_behind(runs: Sequence[PlannedRun]) -> dict[str, float]:
    """Seconds of an H100 of all runs that wait for each run.

    Args:
        runs: Runs that are not done; a run comes after those it needs.

    Returns:
        Seconds by the hash of the run.
    """
    behind = {run.identity_hash: 0.0 for run in runs}
    for run in reversed(runs):
        for needed in run.needs:
            if needed in behind:
                behind[needed] += run.seconds + behind[run.identity_hash]
    return behind
