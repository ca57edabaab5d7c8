"""What a Slurm job does: train its runs, and ask to be started again when its time is up."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any, TypedDict

from dcpt.engines.node import Order, train_here
from dcpt.engines.slurm.client import NoAnswerError, requeue
from dcpt.errors import InputError, Stopped

_UNTIL_KILLED_S = 300.0
"""Seconds that a job waits for its end after it saved its runs. A job that leaves by itself counts
as completed, and Slurm does not start it again."""


class JobEnd(TypedDict):
    """How a job ended; submitit keeps it for the process that submitted.

    Attributes:
        refused: Why the node did not fit; None if it did.
        stopped: Whether a signal stopped it, and Slurm did not start it again.
    """

    refused: str | None
    stopped: bool


def train_job(order: dict[str, Any]) -> JobEnd:
    """Train the runs of a job.

    ``SIGUSR2`` is sent by Slurm before the time limit and before a preemption: the runs are saved
    and the job asks to be put back into the queue. After ``SIGTERM`` Slurm itself decides whether
    the job is started again.

    Args:
        order: The fields of ``dcpt.engines.node.Order``.
    """
    if not order["gpus"]:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # GPUs of other jobs, where Slurm hides none
    try:
        train_here(Order(**order), os.environ.get("SLURMD_NODENAME") or socket.gethostname())
    except InputError as error:
        return {"refused": str(error), "stopped": False}
    except Stopped as stopped:
        print(stopped, flush=True)
        _leave(ask=stopped.number == signal.SIGUSR2)
        return {"refused": None, "stopped": True}
    return {"refused": None, "stopped": False}


def _leave(*, ask: bool) -> None:
    """Wait for the end of the job, so that Slurm starts it again; ask for that first if told to."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # the runs are saved
    if ask:
        try:
            requeue(os.environ["SLURM_JOB_ID"])
        except NoAnswerError as error:
            print(f"Slurm does not start this job again: {error}", flush=True)
            return
    time.sleep(_UNTIL_KILLED_S)
