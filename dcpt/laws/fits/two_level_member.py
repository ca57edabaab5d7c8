"""The two-level model as a member beside a channel's laws, with its held-out error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.fits.coverage import PHASES
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.record import SAME, Points, distinct
from dcpt.laws.two_level import TwoLevel, fit_two_level, refuse_table
from dcpt.laws.two_level.priors import shipped_prior
from dcpt.laws.two_level.process import condition, thin

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

TWO_LEVEL = "two-level"

FEW_RUNS = 8
"""At most this many runs of a size are taken as runs at a target."""

PRIOR_STEPS = 1.0
"""The prior's own spread counts as much as this many held-out steps in size."""


@dataclass(frozen=True)
class TwoLevelMember:
    """The two-level model of a channel, with the error that held-out runs show.

    Args:
        model: The model, conditioned on all points.
        spreads: By phase, the factor of the model's standard deviation that held-out runs ask for.
        held_out: By phase, RMSE at the largest size predicted without its runs, nats.
        seed: Seed of the fit, and the number of the channel.
        few_runs: The size of each run whose size has few runs: such a size may be a target's.
    """

    model: TwoLevel
    spreads: Mapping[str, float]
    held_out: Mapping[str, float]
    seed: tuple[int, int]
    few_runs: Mapping[str, float]

    def runs_at(self, n_params: float) -> list[str]:
        """Runs at a size that has few runs."""
        return [run for run, size in self.few_runs.items() if abs(size / n_params - 1) <= SAME]

    def accepts(self, points: Points) -> Mask:
        """Points at which the model predicts, shape (M,)."""
        return self.model.accepts(points)

    def refuse(self, points: Points) -> str | None:
        """Why the model does not predict all of these points; None if it does."""
        return self.model.refuse(points)

    def predict(self, points: Points) -> Array:
        """Median losses, shape (M,), nats per token."""
        return self.model.predict(points)

    def sample(self, points: Points, rows: NDArray[np.intp]) -> Array:
        """Joint draws, shape (len(rows), M), nats per token; points of a single phase."""
        return self.model.sample(points, rows, self.seed, self._spread(points))

    def deviations(self, points: Points) -> Array:
        """Standard deviations, shape (M,), nats per token; points of a single phase."""
        return self._spread(points) * self.model.deviations(points)

    def _spread(self, points: Points) -> float:
        annealed = points.annealed is not None and bool((points.annealed > 0).any())
        return self.spreads.get("annealed" if annealed else "constant", 1.0)


def make_two_level(data: ChannelData, seed: int, stream: int = 0) -> TwoLevelMember | None:
    """The two-level model of a channel; None if its table does not suit it.

    Args:
        data: The channel's points, those of verification runs included.
        seed: Seed of the fit.
        stream: Number of the channel: channels have draws of their own.
    """
    if refuse_table(data) is not None:
        return None
    sizes = data.points.get("n_params")
    at_largest = sizes >= sizes.max() * (1 - SAME)
    whole = fit_two_level(data, shipped_prior(data.side))
    squares: dict[str, list[float]] = {phase: [] for phase in PHASES}
    held_out = {}
    for number, held in enumerate(_held_out(data, at_largest)):
        model = condition(thin(data.take(~held)), whole.prior)
        for phase, is_annealed in PHASES.items():
            there = held & ((data.points.get("annealed") > 0) == is_annealed)
            if not there.any():
                continue
            joint = model.joint(data.points.take(there))
            gaps = joint.scale.to_model(data.losses[there]) - joint.mean
            variance = joint.deviations**2 + joint.noise**2
            squares[phase].append(float(np.mean(gaps**2 / variance)))
            if number == 0:
                misses = joint.losses - data.losses[there]
                held_out[phase] = float(np.sqrt(np.mean(misses**2)))
    return TwoLevelMember(
        model=whole,
        spreads={phase: _spread_of(found) for phase, found in squares.items()},
        held_out=held_out,
        seed=(seed, stream),
        few_runs=_few_runs(data),
    )


def _held_out(data: ChannelData, at_largest: Mask) -> Iterator[Mask]:
    """The largest size, and each of its runs alone if they are few; shape (M,) each."""
    yield at_largest
    runs = np.unique(data.runs[at_largest])
    if 1 < len(runs) <= FEW_RUNS:
        for run in runs:
            yield at_largest & (data.runs == run)


def _few_runs(data: ChannelData) -> dict[str, float]:
    """Name and size of the runs of sizes that have few."""
    few: dict[str, float] = {}
    for size in distinct(data.points, "n_params"):
        runs = np.unique(data.runs[np.isclose(data.points.get("n_params"), size, rtol=SAME)])
        if len(runs) <= FEW_RUNS:
            few |= {data.run_names[run]: float(size) for run in runs}
    return few


def _spread_of(squares: list[float]) -> float:
    """The factor of the standard deviation from mean squared errors in units of the variance.

    At least 1: held-out steps that happen to be met well do not make the next one more certain.
    """
    total = PRIOR_STEPS + sum(squares)
    return max(1.0, float(np.sqrt(total / (PRIOR_STEPS + len(squares)))))
