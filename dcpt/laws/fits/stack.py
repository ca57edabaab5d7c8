"""Errors of the laws on held-out points, and the weights of the laws computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.fits.folds import SPLITS, Fold
from dcpt.laws.fits.growth import growth_at, typical_rise
from dcpt.laws.points.channel_data import ChannelData

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Gaps = Mapping[str, Mapping[str, Array]]

WORST = 1e6
"""Nats: the error of a law that overflows on held-out points; small enough to be squared."""

TIE = 1.05
"""Laws within 5 % of the lowest held-out error are tied; then the fewest parameters decide."""

NEAR = 1.75
"""Laws within this factor of the lowest held-out error share the weight equally.

On 33 held-out sizes, tokens and phases of real tables the error of this mean was 1.21 times that
of the best law in hindsight (geometric mean), between 1.22 and 1.29 for factors of 1.25 to 2 and 3.
Least-squares weights, which follow the noise of few folds, were at 1.30 with the same folds.
"""

GUARD = 3.0
"""A law's prediction is moved to within this many lowest held-out errors of the weighted median.

One law of weight 0.13 predicted 16.4 nats where 2.8 were measured.
"""


@dataclass(frozen=True)
class Candidate:
    """What the comparison knows of a law, or of another model that predicts a channel.

    Args:
        n_fitted: Number of fitted parameters; fewer are preferred among tied laws.
        misfit: Objective per point that it was fitted to; decides where nothing can be held out.
    """

    n_fitted: int
    misfit: float


@dataclass(frozen=True)
class Stack:
    """A weighted mean of laws.

    Args:
        weights: By law, above 0, sum 1.
        spread: RMSE of the weighted mean by split, nats; empty where nothing could be held out.
        unit_errors: The same with every error divided by its growth (``fits/growth.py``).
        guard: How far a law may lie from the weighted median, nats; None if no error is known.
    """

    weights: dict[str, float]
    spread: dict[str, float]
    unit_errors: dict[str, float] = field(default_factory=dict)
    guard: float | None = None

    def mean(self, losses: Array) -> Array:
        """Weighted mean over laws, shape (M,), of their guarded predictions.

        Args:
            losses: Predictions in the order of ``weights``, shape (L, M), nats.
        """
        weights = np.array(list(self.weights.values()))
        return np.asarray(weights @ self.guarded(losses), dtype=np.float64)

    def part(self, names: Sequence[str]) -> Stack:
        """The stack of some of its laws, with the same proportions."""
        total = sum(self.weights[name] for name in names)
        return replace(self, weights={name: self.weights[name] / total for name in names})

    def guarded(self, losses: Array) -> Array:
        """Predictions moved to within ``guard`` of their weighted median, shape (L, M)."""
        if self.guard is None:
            return losses
        order = np.argsort(losses, axis=0)
        reached = np.cumsum(np.array(list(self.weights.values()))[order], axis=0)
        middle = (reached >= 0.5 - 1e-9).argmax(axis=0)[None]
        median = np.take_along_axis(np.take_along_axis(losses, order, axis=0), middle, axis=0)
        return np.clip(losses, median - self.guard, median + self.guard)


@dataclass(frozen=True)
class Comparison:
    """Laws of one channel compared in one phase.

    Args:
        errors: Per law, RMSE in nats by split; a split that a law cannot be fitted on is absent.
        weights: Stack weights by law, >= 0, sum 1; only laws that describe the phase.
        choice: The law with the lowest held-out error; among tied ones the fewest parameters.
        spread: RMSE of the stack by split, nats.
        unit_errors: The same with every error divided by its growth (``fits/growth.py``).
        guard: How far a law may lie from the weighted median of the stack, nats; None if nothing
            was held out.
        gaps: Predicted minus measured by split and law, nats; NaN where a law predicts none.
        growth: Growth of the error at these points by split, shape (points,).
    """

    errors: dict[str, dict[str, float]]
    weights: dict[str, float]
    choice: str
    spread: dict[str, float]
    unit_errors: dict[str, float] = field(default_factory=dict)
    guard: float | None = None
    gaps: Gaps = field(default_factory=dict)
    growth: Mapping[str, Array] = field(default_factory=dict)

    @property
    def whole(self) -> Stack:
        """The stack of all laws with weight."""
        weights = {name: w for name, w in self.weights.items() if w > 0}
        return Stack(weights, self.spread, self.unit_errors, self.guard)

    def stack(self, names: Sequence[str]) -> Stack:
        """The stack of the laws that hold at a point, with new weights if some law does not.

        Args:
            names: Laws that hold there, at least one.
        """
        if set(self.whole.weights) <= set(names):
            return self.whole
        stack = stack_laws(self.gaps, names, self.growth)
        # Laws without held-out points are assumed to be no better than the tested ones.
        return stack if stack.spread else replace(self.whole, weights=stack.weights)


def compare_laws(
    data: ChannelData,
    candidates: Mapping[str, Candidate],
    folds: Sequence[Fold],
    held_out: Mapping[str, list[Array]],
    annealed: bool,
) -> Comparison:
    """Choose and stack the laws of a channel for a phase.

    A law that cannot be tested on a split on which another law can be tested gets no weight. Laws
    are compared on the held-out points that all of them predict. Any model that predicts the folds
    can be compared; nothing here needs a formula.

    Args:
        data: The channel's points, which the folds index.
        candidates: Laws that describe the phase, by name.
        folds: The folds.
        held_out: Predictions of each candidate for the points of each fold, fitted without them,
            shape (M,) each; NaN if not predicted.
        annealed: Whether the phase is ``annealed``.
    """
    in_phase = (data.points.get("annealed") > 0) == annealed
    names = list(candidates)
    gaps = {
        split: {n: _gaps(data, folds, held_out[n], split, in_phase) for n in names}
        for split in SPLITS
        if any(fold.split == split for fold in folds)
    }
    growth = {
        split: np.concatenate([_growth(data, f, annealed) for f in folds if f.split == split])
        for split in gaps
    }
    able, common = _comparable(gaps, names)
    errors: dict[str, dict[str, float]] = {name: {} for name in names}
    for split, by_law in gaps.items():
        for name, gap in by_law.items():
            there = np.isfinite(gap)
            if there.any():
                shown = common[split] if name in able and split in common else there
                errors[name][split] = float(np.sqrt(np.mean(gap[shown] ** 2)))
    if not common:
        choice = min(able, key=lambda n: (candidates[n].misfit, n))
        weights = {n: float(n == choice) for n in names}
        return Comparison(errors, weights, choice, {}, gaps=gaps, growth=growth)
    score = {n: float(np.sqrt(np.mean([errors[n][s] ** 2 for s in common]))) for n in able}
    tied = [n for n in able if score[n] <= TIE * min(score.values())]
    choice = min(tied, key=lambda n: (candidates[n].n_fitted, score[n]))
    best = stack_laws(gaps, names, growth)
    weights = {n: best.weights.get(n, 0.0) for n in names}
    return Comparison(
        errors, weights, choice, best.spread, best.unit_errors, best.guard, gaps, growth
    )


def _growth(data: ChannelData, fold: Fold, annealed: bool) -> Array:
    """Growth of the error at the held-out points of a phase."""
    held = fold.held & ((data.points.get("annealed") > 0) == annealed)
    typical = typical_rise(data, annealed)
    return growth_at(data.points.take(held), data.losses[held], typical)


def _gaps(
    data: ChannelData,
    folds: Sequence[Fold],
    predictions: list[Array],
    split: str,
    in_phase: Mask,
) -> Array:
    """Predicted minus measured over the held-out points of a split, nats; NaN if not predicted."""
    gaps = [
        (predictions[number] - data.losses)[fold.held & in_phase]
        for number, fold in enumerate(folds)
        if fold.split == split
    ]
    return np.clip(np.concatenate(gaps), -WORST, WORST)


def _comparable(gaps: Gaps, names: Sequence[str]) -> tuple[list[str], dict[str, Mask]]:
    """Laws tested on the same splits, and for each split the points that all of them predict.

    The splits are those of the law that was tested on most of them; among sets of equal size, the
    set that more laws share. Without a split every law is returned, and no points.
    """
    tested = {
        n: frozenset(s for s in gaps if n in gaps[s] and np.isfinite(gaps[s][n]).any())
        for n in names
    }

    def rank(splits: frozenset[str]) -> tuple[int, ...]:
        shared_by = sum(splits <= others for others in tested.values())
        return (len(splits), shared_by, *(split in splits for split in SPLITS))

    splits = [s for s in SPLITS if s in max(tested.values(), key=rank)]
    able = [n for n in names if set(splits) <= tested[n]]
    able.sort(key=lambda n: -sum(int(np.isfinite(gaps[s][n]).sum()) for s in splits))
    common: dict[str, Mask] = {s: np.ones(len(gaps[s][able[0]]), dtype=bool) for s in splits}
    kept = []
    for name in able:
        shared = {s: common[s] & np.isfinite(gaps[s][name]) for s in splits}
        if all(mask.any() for mask in shared.values()):
            common = shared
            kept.append(name)
    return [name for name in names if name in kept], common


def stack_laws(
    gaps: Gaps, names: Sequence[str], growth: Mapping[str, Array] | None = None
) -> Stack:
    """Equal weights of the laws whose held-out error is near the lowest; all splits count the same.

    Args:
        gaps: Predicted minus measured by split and law, nats; NaN where a law predicts none.
        names: Laws to weight, at least one.
        growth: Growth of the error at these points by split; None if errors do not grow.

    Returns:
        The stack; equal weights and no spread where nothing was held out for these laws.
    """
    able, common = _comparable(gaps, names)
    if not common:
        return Stack(dict.fromkeys(able, 1.0 / len(able)), {})
    blocks = {s: np.stack([gaps[s][n][mask] for n in able]) for s, mask in common.items()}
    error = np.sqrt(np.mean([(block**2).mean(axis=1) for block in blocks.values()], axis=0))
    near = error <= NEAR * error.min()
    weights = {n: 1.0 / int(near.sum()) for n, is_near in zip(able, near, strict=True) if is_near}
    mean = {s: block[near].mean(axis=0) for s, block in blocks.items()}
    unit = {s: gap / growth[s][common[s]] for s, gap in mean.items()} if growth else mean
    return Stack(weights, _rms(mean), _rms(unit), GUARD * float(error.min()))


def _rms(gaps: Mapping[str, Array]) -> dict[str, float]:
    return {split: float(np.sqrt(np.mean(gap**2))) for split, gap in gaps.items()}
