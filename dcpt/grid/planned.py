"""What a plan is made of: the runs that are asked for, and the runs to train."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.study.folder import StudyFolder


@dataclass(frozen=True)
class PlannedRun:
    """One run and the hashes of the runs that must be done before it can start.

    ``about_n_params`` is near enough to compare sizes: the embeddings and 12 layers times width
    squared of a ladder, half the bytes of a checkpoint's weights.
    """

    config: RunConfig
    needs: tuple[str, ...] = ()
    about_n_params: float = 1.0

    @cached_property
    def identity_hash(self) -> str:
        """The hash of the run's identity; kept, since computing it takes 50 us."""
        return self.config.identity.hash

    @cached_property
    def name(self) -> str:
        """The name of the run, by which the engine and the views know it."""
        return self.config.name

    @property
    def trained_tokens(self) -> int:
        """Tokens that this run trains in all; a branch counts its decay alone."""
        decay = self.config.identity.decay
        if self.config.identity.kind == "branch" and decay is not None:
            return decay.n_tokens
        return self.config.recorded.n_tokens

    @property
    def cost(self) -> float:
        """Grows with the time the run takes; used for order only."""
        return self.about_n_params * self.trained_tokens


@dataclass(frozen=True)
class Trunk:
    """What a person asks of one run: where it starts, its ratio, learning rate and seed.

    ``n_tokens`` is its length before the decay; None takes the study's.
    """

    base: str
    ratio: float
    learning_rate: float
    seed: int = 0
    n_tokens: int | None = None


def find_folders(planned: Sequence[PlannedRun], runs: Path) -> dict[str, RunFolder]:
    """The folder of every planned run, by the run's name, from one listing.

    As ``RunFolder.of`` finds it: by its hash, under whatever slug. ``RunFolder.of`` lists the whole
    folder for each run, which takes 1.6 s for 1,000 runs.
    """
    stored: dict[str, Path] = {}
    for name in sorted(os.listdir(runs)) if runs.is_dir() else []:
        stored.setdefault(name.rpartition("-")[2], runs / name)
    return {run.name: RunFolder(stored.get(run.identity_hash, runs / run.name)) for run in planned}


def unfinished(runs: Sequence[PlannedRun], folder: StudyFolder) -> list[PlannedRun]:
    """The planned runs that are not done yet."""
    folders = find_folders(runs, folder.runs)
    return [run for run in runs if not folders[run.name].is_done(run.config)]
