"""Train one run of a study with the processes of torchrun."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dcpt.errors import InputError
from dcpt.pipeline.named_runs import find_run
from dcpt.pipeline.text_changes import check_text
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.cancelled import CANCELLED, is_cancelled
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig


@dataclass(frozen=True)
class Trained:
    """How a call ended.

    Args:
        run: Name of the run's folder.
        n_tokens: Its tokens.
        is_done: Whether it is done; otherwise it was saved.
        is_first: Whether this process is the first, which prints.
    """

    run: str
    n_tokens: int
    is_done: bool
    is_first: bool


def train_run(file: Path, name: str) -> Trained:
    """Train a run of a study; every process of torchrun calls this.

    Args:
        file: The study file, on a file system that all nodes share.
        name: The run, as in ``find_run``.

    Raises:
        InputError: If torchrun did not start this process, no run is meant, or the run cannot be
            trained now. Of several processes the first says so.
    """
    from dcpt.training.sharded.ranks import join_ranks
    from dcpt.training.sharded.torchrun import MEETING_PLACE, read_ranks, train_joined

    ranks, device = read_ranks()
    with join_ranks(ranks, device, MEETING_PLACE):
        try:
            config = ranks.decide(lambda: _choose(file, name))
            is_done = train_joined(config, file.absolute().parent, ranks, device)
        except Exception as error:
            # The others may wait for this process in a collective operation, so it leaves at once.
            _leave(error, speaks=ranks.is_first or not isinstance(error, InputError))
    return Trained(config.name, config.recorded.n_tokens, is_done, ranks.is_first)


def _choose(file: Path, name: str) -> RunConfig:
    """The run to train, as the study plans it."""
    workspace = Workspace(file)
    check_text(workspace)
    config = find_run(workspace, name).config
    workspace.planner.settle_warmup()
    folder = RunFolder.of(config, workspace.folder.runs)
    if is_cancelled(folder.path):
        raise InputError(
            f"run {config.name} is cancelled; to train it, delete {folder.path / CANCELLED}"
        )
    return config


def _leave(error: Exception, *, speaks: bool) -> NoReturn:
    """End this process with the message of an error."""
    if isinstance(error, InputError):
        lines = [f"dcpt: {problem}" for problem in error.problems]
    else:
        lines = [traceback.format_exc()]
    if speaks:
        print("\n".join(lines), file=sys.stderr, flush=True)
    os._exit(2 if isinstance(error, InputError) else 1)
