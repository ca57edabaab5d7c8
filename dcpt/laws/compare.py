"""Which law to believe: errors on whole runs, sizes or tokens that a fit did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from dcpt.laws.carry import box, refusal
from dcpt.laws.fitter import Problem
from dcpt.laws.law import evaluate
from dcpt.laws.points import ChannelData, distinct
from dcpt.laws.search import LawFit, search

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SPLITS = ("largest_n", "longest_d", "ratios", "learning_rate")

MOST_FOLDS = 3
"""Ratios, and learning rates, that are held out one at a time."""

FOLD_STARTS = 32

TIE = 1.05
"""Laws within 5 % of the lowest held-out error are tied: the one with fewer parameters wins."""


@dataclass(frozen=True)
class Fold:
    """Points held out together.

    Args:
        split: One of ``SPLITS``.
        label: What is held out.
        held: True where a point is held out, shape (M,) of the channel's points.
    """

    split: str
    label: str
    held: Mask


def list_folds(data: ChannelData) -> list[Fold]:
    """The folds a channel's points can carry; ratios and learning rates from inside the grid."""
    points = data.points
    folds: list[Fold] = []
    sizes = distinct(points, "n_params")
    if len(sizes) > 1:
        held = points.get("n_params") > sizes[-2] * (1 + 1e-6)
        folds.append(Fold("largest_n", f"n_params {sizes[-1]:.4g}", held))
    tokens = distinct(points.take(points.get("annealed") == 0), "n_tokens")
    if len(tokens) >= 4:
        cut = tokens[len(tokens) - max(1, len(tokens) // 3) - 1]
        held = points.get("n_tokens") > cut * (1 + 1e-6)
        folds.append(Fold("longest_d", f"n_tokens > {cut:.4g}", held))
    for split, name in (("ratios", "ratio"), ("learning_rate", "learning_rate")):
        inner = distinct(points, name)[1:-1]
        index = np.unique(np.linspace(0, len(inner) - 1, MOST_FOLDS).round().astype(int))
        for value in inner[index] if len(inner) else ():
            held = np.isclose(getattr(points, name), value, rtol=1e-6)
            folds.append(Fold(split, f"{name} {value:.4g}", held))
    return folds


def predict_held_out(
    fitted: LawFit,
    data: ChannelData,
    folds: Sequence[Fold],
    fixed: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
    seed: int,
) -> list[Array]:
    """Predictions of one law for the points of each fold, fitted without them.

    Returns:
        Per fold an array over the channel's points, shape (M,), NaN where the law predicts none.
    """
    law, used = fitted.law, fitted.data
    index = np.searchsorted(data.rows, used.rows)
    results = [np.full(len(data.losses), np.nan) for _ in folds]
    groups: dict[tuple[bytes, bytes], list[int]] = {}
    for number, fold in enumerate(folds):
        train = used.take(~fold.held[index])
        sizes = len(distinct(train.points, "n_params"))
        if fold.split == "largest_n" and sizes < law.sizes_needed:
            continue
        if refusal(law, train, ignore=frozenset({"annealed"})) is None:
            limits = box(law, train.points, fixed, bounds)
            groups.setdefault((limits[0].tobytes(), limits[1].tobytes()), []).append(number)
    for (low, high), members in groups.items():
        problem = Problem(
            law,
            used.points,
            used.losses,
            fitted.references,
            np.frombuffer(low),
            np.frombuffer(high),
            fitted.delta,
        )
        weights = np.stack([~folds[i].held[index] for i in members]).astype(float)
        values, _, _ = search(problem, weights, n_starts=FOLD_STARTS, seed=seed)
        losses = evaluate(law, used.points, values, fitted.references)
        for row, number in enumerate(members):
            there = folds[number].held[index] & _phases_known(used, folds[number].held[index])
            results[number][index[there]] = losses[row, there]
    return results


def _phases_known(used: ChannelData, held: Mask) -> Mask:
    """Points whose phase is still among the points that a fold leaves."""
    annealed = used.points.get("annealed") > 0
    return np.where(annealed, (annealed & ~held).any(), (~annealed & ~held).any())


@dataclass(frozen=True)
class Comparison:
    """Laws of one channel compared in one phase.

    Args:
        errors: Per law, RMSE in nats by split; a split that a law cannot carry is absent.
        weights: Stack weights by law, >= 0, sum 1; only laws that describe the phase.
        choice: The law with the lowest held-out error; among tied ones the fewest parameters.
        spread: RMSE of the stack by split, nats.
    """

    errors: dict[str, dict[str, float]]
    weights: dict[str, float]
    choice: str
    spread: dict[str, float]


def compare_laws(
    data: ChannelData,
    fits: Mapping[str, LawFit],
    folds: Sequence[Fold],
    held_out: Mapping[str, list[Array]],
    annealed: bool,
) -> Comparison:
    """Choose and stack the laws of one channel for one phase.

    A law that cannot be tested on a split that another one can be tested on gets no weight.
    """
    in_phase = (data.points.get("annealed") > 0) == annealed
    names = [n for n, f in fits.items() if ("annealed" if annealed else "constant") in f.law.phases]
    errors: dict[str, dict[str, float]] = {name: {} for name in names}
    for name in names:
        for split in SPLITS:
            gaps = _gaps(data, folds, held_out[name], split, in_phase)
            if len(gaps):
                errors[name][split] = float(np.sqrt(np.mean(gaps**2)))
    splits = list(errors[max(names, key=lambda n: len(errors[n]))])
    able = [n for n in names if set(splits) <= set(errors[n])]
    if not splits:
        choice = min(able, key=lambda n: (fits[n].objective / len(fits[n].data.losses), n))
        return Comparison(errors, {n: float(n == choice) for n in names}, choice, {})
    score = {n: float(np.sqrt(np.mean([errors[n][s] ** 2 for s in splits]))) for n in able}
    tied = [n for n in able if score[n] <= TIE * min(score.values())]
    choice = min(tied, key=lambda n: (_n_free(fits[n]), score[n]))
    weights = _stack(data, folds, {n: held_out[n] for n in able}, splits, in_phase)
    spread = {}
    for split in splits:
        gaps = np.stack(
            [
                weights[n]
                * _gaps(data, folds, held_out[n], split, in_phase, common=held_out, among=able)
                for n in able
            ]
        ).sum(axis=0)
        spread[split] = float(np.sqrt(np.mean(gaps**2)))
    return Comparison(errors, {n: weights.get(n, 0.0) for n in names}, choice, spread)


def _n_free(fitted: LawFit) -> int:
    return int((fitted.upper > fitted.lower).sum())


def _gaps(
    data: ChannelData,
    folds: Sequence[Fold],
    predictions: list[Array],
    split: str,
    in_phase: Mask,
    common: Mapping[str, list[Array]] | None = None,
    among: Sequence[str] = (),
) -> Array:
    """Predicted minus measured over the held-out points of a split, nats."""
    parts = []
    for number, fold in enumerate(folds):
        if fold.split == split:
            there = fold.held & in_phase & np.isfinite(predictions[number])
            for name in among:
                there &= np.isfinite((common or {})[name][number])
            parts.append((predictions[number] - data.losses)[there])
    return np.concatenate(parts) if parts else np.zeros(0)


def _stack(
    data: ChannelData,
    folds: Sequence[Fold],
    held_out: Mapping[str, list[Array]],
    splits: Sequence[str],
    in_phase: Mask,
) -> dict[str, float]:
    """Non-negative weights, sum 1, with the smallest squared held-out error; splits count alike."""
    names = list(held_out)
    blocks = []
    for split in splits:
        gaps = np.stack(
            [
                _gaps(data, folds, held_out[n], split, in_phase, common=held_out, among=names)
                for n in names
            ]
        )
        blocks.append(gaps / np.sqrt(max(gaps.shape[1], 1)))
    errors = np.concatenate(blocks, axis=1).T
    # The weights sum to 1 through a row far heavier than any error.
    heavy = 1e3 * max(float(np.sqrt((errors**2).mean())), 1e-12)
    system = np.concatenate([errors, np.full((1, len(names)), heavy)])
    right = np.concatenate([np.zeros(len(errors)), [heavy]])
    solved, _ = nnls(system, right)
    solved = solved / solved.sum()
    return dict(zip(names, map(float, solved), strict=True))
