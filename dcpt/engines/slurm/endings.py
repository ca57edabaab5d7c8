"""What became of the runs of a job that has left the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from dcpt.engines.slurm.client import end_states, has_ended
from dcpt.engines.slurm.job import JobEnd
from dcpt.engines.slurm.submissions import Job, slurm_folder
from dcpt.engines.slurm.submit import log_file, read_end
from dcpt.errors import InputError
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import RunQueue
from dcpt.runs.cancelled import is_cancelled
from dcpt.runs.failures import ErrorKind, write_error
from dcpt.study.folder import StudyFolder

_MEMORY = "OUT_OF_MEMORY"
_UNKNOWN = "an unknown state"

_MOST_LATE_LOOKS = 30
"""Looks, 20 s apart, at a job that left the queue and has not ended by the accounting: 10 minutes.
An accounting that is away for longer would keep the call waiting for ever."""


class Endings:
    """Settles the runs of ended jobs; remembers the jobs that were killed for memory.

    Args:
        folder: The study.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self._memory: list[str] = []
        self._late: Counter[str] = Counter()

    def check_memory(self) -> None:
        """Refuse to go on after jobs that were killed for memory.

        Raises:
            InputError: Names the jobs.
        """
        if self._memory:
            raise InputError(self._memory)

    def settle(
        self,
        jobs: Sequence[Job],
        by_hash: Mapping[str, PlannedRun],
        queue: RunQueue,
        elsewhere: Collection[str] = (),
    ) -> set[str]:
        """Note how the runs of jobs that left the queue ended.

        Args:
            jobs: The jobs.
            by_hash: The planned runs, by hash.
            queue: The runs of the call.
            elsewhere: Hashes of the runs of jobs that have not ended. They are left to these.

        Returns:
            Ids of the jobs to settle later: by the accounting they have not ended. A job that was
            cancelled would count as lost, and be submitted again.

        Raises:
            InputError: If a node did not fit the study.
        """
        unfinished: dict[Job, list[PlannedRun]] = {}
        for job in jobs:
            runs = [by_hash[key] for key in job.runs if key in by_hash]
            for run in runs:
                if run.name in queue.running and queue.is_done(run):
                    queue.end(run, "finished")
                elif run.name in queue.running and run.identity_hash in elsewhere:
                    queue.end(run, "released")
            if left := [run for run in runs if run.name in queue.running]:
                unfinished[job] = left
        states = end_states([job.id for job in unfinished]) if unfinished else {}
        later = set()
        for job, left in unfinished.items():
            state = states.get(job.id, _UNKNOWN)
            if not has_ended(state) and self._late[job.id] < _MOST_LATE_LOOKS:
                self._late[job.id] += 1
                later.add(job.id)
            else:
                self._settle(job, left, state if has_ended(state) else _UNKNOWN, queue)
        return later

    def _settle(self, job: Job, left: Sequence[PlannedRun], state: str, queue: RunQueue) -> None:
        """Note how the unfinished runs of a job ended."""
        end = read_end(self.folder, job.id)
        if end is not None and end["refused"] is not None:
            raise InputError(f"job {job.id}: {end['refused']}")
        log = log_file(self.folder, job.id)
        if end is None and state == "FAILED" and not log.is_file():
            raise InputError(
                f"job {job.id} failed and wrote nothing to {slurm_folder(self.folder)}, so its "
                "node does not see this folder; put the study on a file system that all nodes "
                "share, and rerun"
            )
        if state == _MEMORY:
            self._memory.append(
                f"job {job.id} was killed for memory; what was trained is kept: raise "
                "engine.slurm.memory, or lower training.micro_batch_sequences, and rerun"
            )
        for run in left:
            self._end(run, job, state, end, queue)

    def _end(
        self, run: PlannedRun, job: Job, state: str, end: JobEnd | None, queue: RunQueue
    ) -> None:
        """Retry or fail a run whose job ended without it.

        A run whose job was lost, whose node died, or whose job was stopped before it saved a run
        further, is submitted once more, alone.
        """
        has_saved = end is not None and end["stopped"] and end["advanced"]
        has_stalled = end is not None and end["stalled"]
        folder = queue.folders[run.name]
        error, missing = folder.error(), set(run.needs) - queue.done
        if is_cancelled(folder.path):
            queue.end(run, "cancelled")
        elif error is not None:
            queue.end(run, "failed", error["message"])
        elif missing & _cancelled(queue):
            queue.end(run, "cancelled")
        elif missing and not missing & _hashes(queue):
            queue.end(run, "failed", "the run it starts from failed")
        elif has_saved or missing:
            queue.end(run, "released")  # saved in time, or its base is still to come
        elif has_stalled:
            words = (
                f"the time of its job {job.id} was up twice before a run could be saved further; "
                "raise engine.slurm.time_limit, and rerun"
            )
            queue.end(run, "failed", write_error(folder, words, "", "killed"))
        elif state in (_MEMORY, "CANCELLED") or run.name in queue.died:
            words = f"{_ended(job, state)}; its output is in {log_file(self.folder, job.id)}"
            kind: ErrorKind = "out_of_memory" if state == _MEMORY else "killed"
            queue.end(run, "failed", write_error(folder, words, "", kind))
        else:
            queue.end(run, "died")


def _hashes(queue: RunQueue) -> set[str]:
    """Hashes of the runs that are still to be done."""
    return {run.identity_hash for run in [*queue.pending.values(), *queue.running.values()]}


def _cancelled(queue: RunQueue) -> set[str]:
    """Hashes of the runs that were cancelled."""
    names = set(queue.outcome.cancelled)
    return {run.identity_hash for run in queue.planned if run.name in names}


def _ended(job: Job, state: str) -> str:
    """How a job ended, as the beginning of a sentence."""
    if state == "CANCELLED":
        return f"its job {job.id} was cancelled; rerun the same command to go on"
    if state == _MEMORY:
        return f"its job {job.id} was killed for memory; raise engine.slurm.memory and rerun"
    return (
        f"its job {job.id} ended in {state}, the second of its jobs that did not finish it; rerun "
        "the same command to resume from the last checkpoint"
    )
