"""Errors of the laws on held-out points, and the weights of the laws computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from dcpt.laws.fits.folds import SPLITS, Fold
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.solver.search import LawFit

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Gaps = Mapping[str, Mapping[str, Array]]

WORST = 1e6
"""Nats: the error of a law that overflows on held-out points; small enough to be squared."""

TIE = 1.05
"""Laws within 5 % of the lowest held-out error are tied; then the fewest parameters decide."""


@dataclass(frozen=True)
class Stack:
    """A weighted mean of laws.

    Args:
        weights: By law, above 0, sum 1.
        spread: RMSE of the weighted mean by split, nats; empty where nothing could be held out.
    """

    weights: dict[str, float]
    spread: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """Laws of one channel compared in one phase.

    Args:
        errors: Per law, RMSE in nats by split; a split that a law cannot be fitted on is absent.
        weights: Stack weights by law, >= 0, sum 1; only laws that describe the phase.
        choice: The law with the lowest held-out error; among tied ones the fewest parameters.
        spread: RMSE of the stack by split, nats.
        gaps: Predicted minus measured by split and law, nats; NaN where a law predicts none.
    """

    errors: dict[str, dict[str, float]]
    weights: dict[str, float]
    choice: str
    spread: dict[str, float]
    gaps: Gaps = field(default_factory=dict)

    def stack(self, names: Sequence[str]) -> Stack:
        """The stack of the laws that hold at a point, with new weights if some law does not.

        Args:
            names: Laws that hold there, at least one.
        """
        weights = {name: w for name, w in self.weights.items() if w > 0}
        if set(weights) <= set(names):
            return Stack(weights, self.spread)
        stack = stack_laws(self.gaps, names)
        # Laws without held-out points are assumed to be no better than the tested ones.
        return stack if stack.spread else Stack(stack.weights, self.spread)


def saw_phase(fitted: LawFit, annealed: bool) -> bool:
    """Whether a law was fitted to points of a phase; a column may be missing in all of them."""
    there = (fitted.data.points.get("annealed") > 0) == annealed
    return ("annealed" if annealed else "constant") in fitted.law.phases and bool(there.any())


def compare_laws(
    data: ChannelData,
    fits: Mapping[str, LawFit],
    folds: Sequence[Fold],
    held_out: Mapping[str, list[Array]],
    annealed: bool,
) -> Comparison:
    """Choose and stack the laws of a channel for a phase.

    A law that cannot be tested on a split on which another law can be tested gets no weight. Laws
    are compared on the held-out points that all of them predict.
    """
    in_phase = (data.points.get("annealed") > 0) == annealed
    names = [name for name, fitted in fits.items() if saw_phase(fitted, annealed)]
    gaps = {
        split: {n: _gaps(data, folds, held_out[n], split, in_phase) for n in names}
        for split in SPLITS
        if any(fold.split == split for fold in folds)
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
        choice = min(able, key=lambda n: (fits[n].objective / len(fits[n].data.losses), n))
        return Comparison(errors, {n: float(n == choice) for n in names}, choice, {}, gaps)
    score = {n: float(np.sqrt(np.mean([errors[n][s] ** 2 for s in common]))) for n in able}
    tied = [n for n in able if score[n] <= TIE * min(score.values())]
    choice = min(tied, key=lambda n: (_n_free(fits[n]), score[n]))
    best = stack_laws(gaps, names)
    weights = {n: best.weights.get(n, 0.0) for n in names}
    return Comparison(errors, weights, choice, best.spread, gaps)


def _n_free(fitted: LawFit) -> int:
    return int((fitted.upper > fitted.lower).sum())


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


def stack_laws(gaps: Gaps, names: Sequence[str]) -> Stack:
    """Weights >= 0, sum 1, with the smallest squared held-out error; all splits count the same.

    Args:
        gaps: Predicted minus measured by split and law, nats; NaN where a law predicts none.
        names: Laws to weight, at least one.

    Returns:
        The stack; equal weights and no spread where nothing was held out for these laws.
    """
    able, common = _comparable(gaps, names)
    if not common:
        return Stack(dict.fromkeys(able, 1.0 / len(able)), {})
    blocks = {s: np.stack([gaps[s][n][mask] for n in able]) for s, mask in common.items()}
    errors = np.concatenate([b / np.sqrt(b.shape[1]) for b in blocks.values()], axis=1).T
    # A row that is 1000 times heavier than any error makes the weights sum to 1.
    heavy = 1e3 * max(float(np.sqrt((errors**2).mean())), 1e-12)
    system = np.concatenate([errors, np.full((1, len(able)), heavy)])
    solved, _ = nnls(system, np.concatenate([np.zeros(len(errors)), [heavy]]))
    solved = solved / solved.sum()
    spread = {s: float(np.sqrt(np.mean((solved @ b) ** 2))) for s, b in blocks.items()}
    weights = {n: float(w) for n, w in zip(able, solved, strict=True) if w > 0}
    return Stack(weights, spread)
