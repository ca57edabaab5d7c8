"""A run over the processes that torchrun started, on a node or on several.

torchrun starts a process for each device, tells each its place in the environment, and ends all of
them when one ends early. The nodes must share the study's folder.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import torch

from dcpt.errors import InputError
from dcpt.processes import note_signals
from dcpt.runs.cancelled import CancelWatch
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training.loop import train_stepwise
from dcpt.training.passes import fitted_to
from dcpt.training.sharded.ranks import Ranks
from dcpt.training.watch import record_error
from dcpt.training.watchdog import WATCHDOG

MEETING_PLACE = "env://"
"""Where torchrun's processes find each other, for ``join_ranks``."""


def read_ranks() -> tuple[Ranks, str]:
    """The place of this process among those that torchrun started, and its device.

    Raises:
        InputError: If torchrun did not start it.
    """
    try:
        index, count, local = (int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except KeyError as missing:
        raise InputError(
            f"train-run is for the processes of torchrun, and {missing} is not set; start it with "
            "torchrun --nproc-per-node GPUS -m dcpt train-run STUDY RUN, or train on one node "
            "with dcpt run-grid"
        ) from None
    return Ranks(index, count), f"cuda:{local}" if torch.cuda.is_available() else "cpu"


def train_joined(config: RunConfig, study: Path, ranks: Ranks, device: str) -> bool:
    """Train a run over processes that have joined; all of them call this.

    SIGTERM, SIGINT, SIGHUP or SIGUSR2 at the first process, or ``dcpt cancel``, saves the run and
    ends it.

    Args:
        config: The run.
        study: The study's folder.
        ranks: The place of this process.
        device: Its device.

    Returns:
        Whether the run is done; otherwise it was saved.

    Raises:
        InputError: If another process trains the run, or as ``train``.
        TrainingError: As ``train``; the reason is in the run's ``error.json`` too.
    """
    folder = RunFolder.of(config, study / "runs")
    with ExitStack() as stack:
        signals = stack.enter_context(note_signals())
        lease = ranks.decide(lambda: stack.enter_context(folder.lock()))
        if lease is None:
            raise InputError(
                f"run {config.name}: another process trains it; `dcpt logs` says which"
            )
        ranks.decide(folder.clear_error)
        cancelled = CancelWatch(folder.path)
        WATCHDOG.start(sys.stderr, on_accelerator=device != "cpu")
        try:
            fitted = ranks.decide(lambda: fitted_to(device, config, study, ranks.count))
            for _ in train_stepwise(
                fitted,
                study,
                device=device,
                must_stop=lambda: bool(signals) or cancelled(),
                check_owner=lease.check,
                ranks=ranks,
            ):
                WATCHDOG.note_step()
            # No process leaves before the first has written the result.
            return ranks.decide(lambda: folder.is_done(config))
        except Exception as error:
            if not (
                folder.path / "error.json"
            ).exists():  # the others only miss the first that fails
                record_error(folder, error)
            raise
        finally:
            WATCHDOG.pause()
