"""Records of a plan: requested trunks and planned runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dcpt.grid.speeds import speed_on_h100
from dcpt.quantities import count_things
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.study.folder import StudyFolder

FEWEST_SIZES = 3
"""With two sizes the parameters in N are fitted to both, so no size can be held out of them."""


@dataclass(frozen=True)
class PlannedRun:
    """A planned run.

    Args:
        config: Configuration of the run.
        needs: Hashes of the runs that must be done before it can start.
        about_n_params: Approximate number of parameters, to compare sizes: embeddings plus
            12 x layers x width^2 for a ladder, half the bytes of the weights for a checkpoint.
        n_devices: Devices that the run is sharded over.
    """

    config: RunConfig
    needs: tuple[str, ...] = ()
    about_n_params: float = 1.0
    n_devices: int = 1

    @cached_property
    def identity_hash(self) -> str:
        """The hash of the run's identity; kept, since computing it takes 50 us."""
        return self.config.identity.hash

    @cached_property
    def name(self) -> str:
        """The name of the run, which the engine and the views use."""
        return self.config.name

    @property
    def trained_tokens(self) -> int:
        """All tokens that this run trains; a branch counts its decay only."""
        decay = self.config.identity.decay
        if self.config.identity.kind == "branch" and decay is not None:
            return decay.n_tokens
        return self.config.recorded.n_tokens

    @property
    def start_tokens(self) -> int:
        """Tokens at which the run starts: where a branch leaves its trunk, else 0."""
        decay = self.config.identity.decay
        if self.config.identity.kind == "branch" and decay is not None:
            return decay.start_tokens
        return 0

    @property
    def seconds(self) -> float:
        """Seconds of an H100 that the run takes; on another device they compare runs only."""
        return self.trained_tokens / speed_on_h100(self.about_n_params)


@dataclass(frozen=True)
class Trunk:
    """A requested trunk.

    Args:
        base: Name of the base that it starts from.
        ratio: Share of domain text.
        learning_rate: Peak learning rate.
        seed: Seed of the run.
        n_tokens: Length before the decay, in tokens; None takes that of the study.
    """

    base: str
    ratio: float
    learning_rate: float
    seed: int = 0
    n_tokens: int | None = None


def find_folders(planned: Sequence[PlannedRun], runs: Path) -> dict[str, RunFolder]:
    """Find the folder of every planned run, by the run's name, with a single listing.

    Like ``RunFolder.of``, it finds folders by hash, whatever their slug. ``RunFolder.of`` lists the
    whole folder for each run, which takes 1.6 s for 1,000 runs.
    """
    stored: dict[str, Path] = {}
    for name in sorted(os.listdir(runs)) if runs.is_dir() else []:
        stored.setdefault(name.rpartition("-")[2], runs / name)
    return {run.name: RunFolder(stored.get(run.identity_hash, runs / run.name)) for run in planned}


def unfinished(runs: Sequence[PlannedRun], folder: StudyFolder) -> list[PlannedRun]:
    """The planned runs that are not done yet."""
    folders = find_folders(runs, folder.runs)
    return [run for run in runs if not folders[run.name].is_done(run.config)]


def advise_on_sizes(planned: Sequence[PlannedRun]) -> list[str]:
    """Say which runs belong in a plan whose trunks have fewer than three sizes."""
    trunks = (run.config for run in planned if run.config.identity.kind == "trunk")
    sizes = sorted({config.recorded.size for config in trunks})
    if not 0 < len(sizes) < FEWEST_SIZES:
        return []
    if len(sizes) == 1:
        missing = "at each of two other sizes, best with that of the target"
    else:
        missing = "at a third size, best that of the target"
    return [
        f"the planned runs have {count_things(len(sizes), 'size')} ({', '.join(sizes)}), so the "
        f"error at another size cannot be measured: add two or three short runs {missing} "
        "(key runs, or `dcpt next-runs`)"
    ]
