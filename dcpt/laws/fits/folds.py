"""Folds: points that are held out together, and their predictions by laws fitted without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.law import evaluate
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.record import distinct
from dcpt.laws.solver.minimise import Problem
from dcpt.laws.solver.search import LawFit, search
from dcpt.laws.suitable import box, refusal

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SPLITS = ("largest_n", "longest_d", "ratios", "learning_rate")

MOST_FOLDS = 3
"""Largest number of ratios, and of learning rates, that are held out, each in its own fold."""

FOLD_STARTS = 32


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
    """The folds that a channel's points allow; ratios and learning rates from inside the grid."""
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
    """Predictions of a law for the points of each fold, fitted without them.

    Returns:
        For each fold an array over the channel's points, shape (M,); NaN if not predicted.
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
        if refusal(law, train, frozenset({"annealed"}), fixed, bounds) is None:
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
        with np.errstate(over="ignore", invalid="ignore"):
            losses = evaluate(law, used.points, values, fitted.references)
        for row, number in enumerate(members):
            there = folds[number].held[index] & _phases_known(used, folds[number].held[index])
            results[number][index[there]] = losses[row, there]
    return results


def _phases_known(used: ChannelData, held: Mask) -> Mask:
    """Points whose phase also occurs among the points that are not held out."""
    annealed = used.points.get("annealed") > 0
    return np.where(annealed, (annealed & ~held).any(), (~annealed & ~held).any())
