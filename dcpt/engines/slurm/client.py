"""What Slurm says: the states of jobs, the partitions, and why a job ended."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from dcpt.errors import InputError, did_you_mean

_ANSWER_S = 60.0
"""Seconds to wait for an answer of Slurm; a controller under load takes tens of them."""


_LIVE = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "RESIZING")


class NoAnswerError(Exception):
    """Slurm did not answer; its jobs may go on all the same."""


@dataclass(frozen=True)
class JobState:
    """A job that has not ended.

    Attributes:
        name: Its name.
        state: ``PENDING``, ``RUNNING``, ``COMPLETING`` and so on.
        reason: Why it waits: ``Priority``, ``Resources``, ``Dependency`` and so on.
    """

    name: str
    state: str
    reason: str

    @property
    def is_waiting(self) -> bool:
        """Whether no node has it."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def check_here() -> None:
    """Refuse a machine without Slurm.

    Raises:
        InputError: If there is no ``sbatch``.
    """
    if shutil.which("sbatch") is None:
        raise InputError(
            "engine slurm: this machine has no sbatch; run the command on a login node of the "
            "cluster, or train here with --engine local"
        )


def check_partition(name: str | None) -> None:
    """Refuse a partition that does not exist.

    Raises:
        InputError: With the partitions that exist.
    """
    if name is None:
        return
    known = sorted(set(_ask(["sinfo", "--all", "--noheader", "--format=%R"]).split()))
    missing = [part for part in name.split(",") if part not in known]
    if missing:
        raise InputError(
            f"engine.slurm.partition: Slurm has no partition {missing[0]!r} "
            f"({', '.join(known)}); name one of these" + did_you_mean(missing[0], known)
        )


def live_jobs() -> dict[str, JobState]:
    """The jobs of this user that have not ended, by id; a task of an array is ``123_4``.

    Raises:
        NoAnswerError: If Slurm does not answer.
    """
    answer = _ask(["squeue", "--me", "--array", "--noheader", "--format=%i|%T|%r|%j"])
    jobs = {}
    for line in answer.splitlines():
        job_id, state, reason, name = line.strip().split("|", 3)
        jobs[job_id] = JobState(name, state, reason)
    return jobs


def has_ended(state: str) -> bool:
    """Whether a state is that of an ended job."""
    return state not in _LIVE


def end_states(job_ids: Collection[str]) -> dict[str, str]:
    """How jobs ended, by id: ``COMPLETED``, ``OUT_OF_MEMORY``, ``CANCELLED`` and so on.

    The controller is asked first. It forgets a job after some minutes (``MinJobAge``); the rest is
    asked of the accounting, which can be late: there an ended job may still be ``RUNNING``. Jobs
    that neither knows are left out.
    """
    states = {job_id: state for job_id in job_ids if (state := _controller_state(job_id))}
    late = [job_id for job_id in job_ids if not has_ended(states.get(job_id, "RUNNING"))]
    return states | _accounted_states(late)


def _controller_state(job_id: str) -> str | None:
    """The state of a job by the controller; None if it has forgotten it."""
    try:
        answer = _ask(["scontrol", "--oneliner", "show", "job", job_id])
    except NoAnswerError:
        return None
    states = re.findall(r"\bJobState=(\w+)", answer)
    return states[0] if len(states) == 1 else None


def _accounted_states(job_ids: Collection[str]) -> dict[str, str]:
    if not job_ids or shutil.which("sacct") is None:
        return {}
    wanted = ",".join(sorted(job_ids))
    try:
        answer = _ask(["sacct", "-X", "--noheader", "-P", "--format=JobID,State", "--jobs", wanted])
    except NoAnswerError:
        return {}
    pairs = (line.split("|") for line in answer.splitlines() if "|" in line)
    return {job_id: state.split()[0] for job_id, state in pairs if state}


def requeue(job_id: str) -> None:
    """Put a running job back into the queue; Slurm ends it and starts it again later.

    Raises:
        NoAnswerError: If Slurm does not do it.
    """
    _ask(["scontrol", "requeue", job_id])


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswerError(f"{command[0]}: {error}") from None
    if done.returncode:
        reason = " ".join(done.stderr.split())[:300] or f"exit code {done.returncode}"
        raise NoAnswerError(f"{command[0]}: {reason}")
    return done.stdout
