"""What a Slurm job does: train its runs, and ask to be started again when its time is up."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from dcpt.atomic_files import DamagedFileError
from dcpt.engines.node import Order, read_run, train_here
from dcpt.engines.slurm.client import NoAnswerError, requeue
from dcpt.errors import InputError, Stopped
from dcpt.processes import note_signals
from dcpt.runs.folders import RunFolder
from dcpt.study.folder import StudyFolder

_UNTIL_KILLED_S = 300.0
"""Seconds that a job waits for its end after it saved its runs. A job that leaves by itself counts
as completed, and Slurm does not start it again."""


class JobEnd(TypedDict):
    """How a job ended; submitit keeps it for the process that submitted.

    Attributes:
        refused: Why the node did not fit; None if it did.
        stopped: Whether a signal stopped it, and Slurm did not start it again.
        advanced: Whether it saved a run further than it was when the job started.
        stalled: Whether its time was up twice in a row before it could save a run further.
    """

    refused: str | None
    stopped: bool
    advanced: bool
    stalled: bool


_ENDED: JobEnd = {"refused": None, "stopped": False, "advanced": True, "stalled": False}


def train_job(order: dict[str, Any]) -> JobEnd:
    """Train the runs of a job.

    ``SIGUSR2`` is sent by Slurm before the time limit and before a preemption: the runs are saved
    and the job asks to be put back into the queue. After ``SIGTERM`` Slurm itself decides whether
    the job is started again. A job whose time was up twice in a row before it saved a run further
    is not put back, since it would be started for ever. A preemption does not count: a campaign
    that warned jobs at random failed the runs of 3 of 100 jobs, warned twice while torch loaded.

    Args:
        order: The fields of ``dcpt.engines.node.Order``.
    """
    if not order["gpus"]:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # GPUs of other jobs, where Slurm hides none
    # Also while torch loads, for seconds: submitit's handler would fail a job of under ten minutes,
    # and any job while the controller is away.
    with note_signals():
        return _train_order(order)


def _train_order(order: dict[str, Any]) -> JobEnd:
    """Train the runs of a job while signals are noted."""
    began, job_order, before = time.monotonic(), Order(**order), _saved(order)
    try:
        train_here(job_order, os.environ.get("SLURMD_NODENAME") or socket.gethostname())
    except InputError as error:
        return {**_ENDED, "refused": str(error)}
    except Stopped as stopped:
        print(stopped, flush=True)
        is_warned, has_advanced = stopped.number == signal.SIGUSR2, _saved(order) != before
        is_time_up = is_warned and time.monotonic() - began >= job_order.warned_after_s
        has_stalled = is_time_up and _note_stall(job_order, has_advanced=has_advanced)
        if not has_stalled:
            _leave(ask=is_warned)
        return {**_ENDED, "stopped": True, "advanced": has_advanced, "stalled": has_stalled}
    return _ENDED


def _saved(order: dict[str, Any]) -> list[object]:
    """How far the job's runs are on disk: evaluations, states, the checkpoint's step, the result.

    A run that is stopped saves its checkpoint also without a step, so the file alone tells nothing.
    """
    from dcpt.training.state import read_step

    runs = StudyFolder(Path(order["study"])).runs
    saved: list[object] = []
    for record in order["runs"]:
        folder = RunFolder.of(read_run(record).config, runs)
        with suppress(DamagedFileError, FileNotFoundError):
            saved.append((folder.path.name, len(folder.points()), sorted(folder.states())))
        with suppress(DamagedFileError, FileNotFoundError):
            saved.append((folder.path.name, read_step(folder.checkpoint)))
        saved.append((folder.path / "result.json").exists())
    return saved


def _note_stall(order: Order, *, has_advanced: bool) -> bool:
    """Whether this start of the job and the one before saved no run further.

    The job's next start is another process, so a file beside the marker remembers it.
    """
    stalled = Path(order.marker_file).with_name(f"{_own_id()}.stalled")
    has_stalled = stalled.exists() and not has_advanced
    if has_advanced or has_stalled:
        stalled.unlink(missing_ok=True)
    else:
        stalled.touch()
    return has_stalled


def _leave(*, ask: bool) -> None:
    """Wait for the end of the job, so that Slurm starts it again; ask for that first if told to.

    The runs are saved, so further signals are noted and change nothing.
    """
    if ask:
        try:
            requeue(_own_id())
        except NoAnswerError as error:
            print(f"Slurm does not start this job again: {error}", flush=True)
            return
    time.sleep(_UNTIL_KILLED_S)


def _own_id() -> str:
    """The id of this job; of a task of an array ``123_4``.

    ``SLURM_JOB_ID`` of the last task is that of its array: put back by it, all tasks of the array
    start again, also those that have ended.
    """
    environment = os.environ
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment["SLURM_JOB_ID"]
