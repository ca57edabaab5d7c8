"""The ranges that the points of a channel cover, and which questions lie outside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dcpt.flags import Flag
from dcpt.laws.fits.folds import Fold
from dcpt.laws.fits.growth import growth_at, typical_rise
from dcpt.laws.fits.stack import Comparison
from dcpt.laws.flags.kinds import make_flag
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.record import SAME, Points, distinct
from dcpt.laws.solver.search import LawFit

Array = NDArray[np.float64]

PHASES = {"constant": False, "annealed": True}
RANGED = ("n_params", "n_tokens", "ratio", "learning_rate", "unique_tokens")
OF_A_SIZE = ("n_params", "base_loss", "base_loss_general", "base_peak_learning_rate")

AXES = {
    "largest_n": "n_params",
    "longest_d": "n_tokens",
    "ratios": "ratio",
    "outer_ratios": "ratio",
    "learning_rate": "learning_rate",
    "outer_rates": "learning_rate",
}
"""The axis along which each split holds points out; mixtures of sources have none."""

OUTER = {"outer_ratios": "ratios", "outer_rates": "learning_rate"}
"""Splits that hold out the lowest and the highest value of an axis, and those of the values
between."""


@dataclass(frozen=True)
class Seen:
    """The ranges that the points of a channel cover.

    Args:
        values: Per phase and axis, the distinct values, ascending (for n_tokens the lowest and
            the highest).
        steps: Per split, how far the held-out points lay from the nearest ones kept: a log of a
            quotient, for ratios a difference.
        largest: Fields of the largest size (n_params, base losses, base peak learning rate).
        residuals: Per phase, RMSE of its chosen law on the phase's own points, nats, every error
            divided by its growth.
        rises: Per phase, the typical rise of a general loss, nats; None where errors do not grow
            (``fits/growth.py``).
    """

    values: Mapping[str, Mapping[str, tuple[float, ...]]]
    steps: Mapping[str, float]
    largest: Mapping[str, float]
    residuals: Mapping[str, float]
    rises: Mapping[str, float | None] = field(default_factory=dict)

    def ranges_in(self, phase: str) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of each axis among the points of a phase; else of any."""
        if phase in self.values:
            return {axis: (v[0], v[-1]) for axis, v in self.values[phase].items()}
        ranges: dict[str, tuple[float, float]] = {}
        for by_axis in self.values.values():
            for axis, v in by_axis.items():
                low, high = ranges.get(axis, (v[0], v[-1]))
                ranges[axis] = (min(low, v[0]), max(high, v[-1]))
        return ranges

    def distance(self, points: Points, axis: str, phase: str) -> Array:
        """Distance of points of a phase from the nearest value of the runs, shape (M,).

        Along n_tokens a run is a curve: every D between the lowest and the highest is covered.
        """
        values = getattr(points, axis)
        seen = self.values.get(phase, {}).get(axis)
        if values is None or not seen:
            return np.zeros(len(points))
        if axis == "ratio":
            away = np.abs(values[:, None] - np.array(seen)).min(axis=1)
        elif axis == "n_tokens":
            away = np.maximum(np.log(values / seen[-1]), np.log(seen[0] / values))
        else:
            away = np.abs(np.log(values[:, None] / np.array(seen))).min(axis=1)
        return np.where(away > np.log1p(SAME), away, 0.0)

    def remoteness(self, points: Points, split: str, phase: str) -> Array:
        """Distance along a split's axis in units of the held-out distance, shape (M,).

        Outer splits measure shares and rates outside those of the runs, inner splits those between
        them. Without such a split the unit is a factor of e, for shares a difference of 0.25.
        """
        axis = AXES[split]
        unit = self.steps.get(split, self.steps.get(OUTER.get(split, split)))
        away = self.distance(points, axis, phase)
        if split in OUTER or split in OUTER.values():
            low, high = self.ranges_in(phase).get(axis, (-np.inf, np.inf))
            values = getattr(points, axis)
            outside = np.zeros(len(points), bool) if values is None else _beyond(values, low, high)
            away = np.where(outside == (split in OUTER), away, 0.0)
        return away / (unit or (0.25 if axis == "ratio" else 1.0))


def _beyond(values: Array, low: float, high: float) -> NDArray[np.bool_]:
    return (values < low) | (values > high)


def what_was_seen(
    data: ChannelData,
    tested: Points,
    folds: Sequence[Fold],
    fits: Mapping[str, LawFit],
    comparisons: Mapping[str, Comparison],
) -> Seen:
    """Collect the ranges of a channel.

    Args:
        data: All points of the channel.
        tested: The points that the folds index.
        folds: The folds.
        fits: Fitted laws by name.
        comparisons: Comparisons by phase.
    """
    points = data.points
    values = {
        phase: _values(points.take((points.get("annealed") > 0) == is_annealed))
        for phase, is_annealed in PHASES.items()
        if phase in comparisons
    }
    rises = {phase: typical_rise(data, PHASES[phase]) for phase in comparisons}
    residuals = {
        phase: _residual(fits[compared.choice], PHASES[phase], rises[phase])
        for phase, compared in comparisons.items()
    }
    return Seen(values, _steps(tested, folds), _of_the_largest(points), residuals, rises)


def _residual(fitted: LawFit, annealed: bool, rise: float | None) -> float:
    used = fitted.data.take((fitted.data.points.get("annealed") > 0) == annealed)
    miss = fitted.predict(used.points) - used.losses
    return float(np.sqrt(np.mean((miss / growth_at(used.points, used.losses, rise)) ** 2)))


def _values(points: Points) -> dict[str, tuple[float, ...]]:
    values = {}
    for axis in RANGED:
        found = distinct(points, axis)
        if np.isfinite(found).all():
            values[axis] = tuple(map(float, found[[0, -1]] if axis == "n_tokens" else found))
    return values


def _steps(points: Points, folds: Sequence[Fold]) -> dict[str, float]:
    squares: dict[str, list[Array]] = {}
    for fold in folds:
        if fold.split not in AXES:
            continue
        kept = _values(points.take(~fold.held))
        around = Seen({"kept": kept}, {}, {}, {})
        away = around.distance(points.take(fold.held), AXES[fold.split], "kept")
        squares.setdefault(fold.split, []).append(away[away > 0] ** 2)
    # A split whose held-out values are all within 2 % of kept ones has no step.
    there = {split: np.concatenate(parts) for split, parts in squares.items()}
    return {split: float(np.sqrt(np.mean(s))) for split, s in there.items() if len(s)}


def _of_the_largest(points: Points) -> dict[str, float]:
    largest: dict[str, float] = {}
    if points.n_params is not None:
        at_top = points.n_params >= points.n_params.max() * (1 - 1e-6)
        for name in OF_A_SIZE:
            values = getattr(points, name)
            if values is not None and np.isfinite(values[at_top]).any():
                largest[name] = float(np.nanmean(values[at_top]))
    return largest


def flag_question(points: Points, ranges: Mapping[str, tuple[float, float]]) -> list[Flag]:
    """Flags of the axes along which points lie more than 2 % outside the ranges of the runs."""
    flags = []
    for name, (low, high) in ranges.items():
        values = getattr(points, name)
        if values is None:
            continue
        if (values > high * (1 + SAME)).any() or (values < low * (1 - SAME)).any():
            flags.append(make_flag("extrapolates", {"axis": name}))
    return flags
