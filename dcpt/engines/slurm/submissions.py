"""The jobs that were submitted for a study, in its folder: a later call finds them there.

An array is recorded before it is submitted, and again with its id, so that a call that was killed
in between loses none: the name of an array is found in the queue.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dcpt.atomic_files import DamagedFileError, read_record, write_record
from dcpt.engines.slurm.client import JobState
from dcpt.study.folder import StudyFolder

_REMEDY = (
    "move it away and rerun the same command: jobs that are still queued then find their runs done"
)

_LATE_S = 120.0
"""Seconds in which a busy controller may still take jobs after ``sbatch`` gave up or was killed.
Submitted again meanwhile they would stand in the queue twice."""


@dataclass(frozen=True)
class Job:
    """A job, or a task of an array.

    Attributes:
        id: Its id: ``123`` or ``123_4``.
        runs: Identity hashes of its runs.
    """

    id: str
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """A job, or an array of them, that was submitted together.

    Attributes:
        name: The name of its jobs, which no other submission has.
        packs: Identity hashes of the runs of each job.
        job_id: The id that Slurm gave; None if it was not heard.
        sent_at: When it was submitted, in seconds since 1970.
    """

    name: str
    packs: tuple[tuple[str, ...], ...]
    job_id: str | None = None
    sent_at: float = 0.0

    @property
    def jobs(self) -> list[Job]:
        """Its jobs; none if Slurm's id is unknown."""
        if self.job_id is None:
            return []
        if len(self.packs) == 1:
            return [Job(self.job_id, self.packs[0])]
        return [Job(f"{self.job_id}_{index}", runs) for index, runs in enumerate(self.packs)]

    @property
    def may_come(self) -> bool:
        """Whether Slurm gave no id, and may still put the jobs into the queue."""
        return self.job_id is None and time.time() - self.sent_at < _LATE_S


def slurm_folder(folder: StudyFolder) -> Path:
    """Where the files of jobs lie: what they were told, their output, and the record of them."""
    return (folder.path / "slurm").absolute()


def read_submissions(folder: StudyFolder) -> list[Submission]:
    """The submissions of earlier calls.

    Raises:
        DamagedFileError: If the record cannot be read.
    """
    path = _record(folder)
    found = read_record(path, _REMEDY) or {"submissions": []}
    try:
        return [
            Submission(**{**each, "packs": tuple(map(tuple, each["packs"]))})
            for each in found["submissions"]
        ]
    except (KeyError, TypeError) as error:
        raise DamagedFileError(path, f"it has no valid {error}", _REMEDY) from None


def write_submissions(folder: StudyFolder, submissions: Sequence[Submission]) -> None:
    """Record the submissions."""
    slurm_folder(folder).mkdir(exist_ok=True)
    write_record(_record(folder), {"submissions": [asdict(each) for each in submissions]})


def still_queued(
    submissions: Sequence[Submission], live: Mapping[str, JobState]
) -> tuple[list[Submission], list[Job]]:
    """The submissions with jobs that have not ended or may still come, and the jobs in the queue.

    Args:
        submissions: Those of earlier calls.
        live: What the queue holds.
    """
    ids = {state.name: job_id.partition("_")[0] for job_id, state in live.items()}
    known = [
        replace(each, job_id=ids.get(each.name)) if each.job_id is None else each
        for each in submissions
    ]
    left = [each for each in known if each.may_come or any(job.id in live for job in each.jobs)]
    return left, [job for each in left for job in each.jobs if job.id in live]


def _record(folder: StudyFolder) -> Path:
    return slurm_folder(folder) / "jobs.json"
