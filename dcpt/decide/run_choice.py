"""Which runs narrow a decision most: chosen greedily, from the covariance of the predictions.

A run measures losses at its own point. The covariance of the predictions says how much that
narrows the general loss where it crosses a limit; the slope there turns nats into a share. None
of this depends on what the runs will measure, so several can be chosen before any is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.decide.axes import ratio_grid
from dcpt.decide.budget import ROUNDING, Budget, Price
from dcpt.decide.posterior import Posterior
from dcpt.decide.question import Question
from dcpt.decide.records import LARGEST_RATIO
from dcpt.decide.trade_off import best_share
from dcpt.errors import InputError

Array = NDArray[np.float64]

LIMIT_FACTORS = (2 / 3, 1.0, 5 / 3)
"""Limits whose crossings count, in units of the target's: +2, +3 and +5 % where it is +3 %. The
crossing itself is uncertain, and a run at a single predicted crossing misses the true one."""

OWN = LIMIT_FACTORS.index(1.0)

LEAST_GAIN = 0.01
"""A run that lowers the sum of the variances by less, as a share of their sum now, is no use."""

STEP = 0.05
"""Shares from which the slope at a crossing is taken, and between the shares of candidates."""


@dataclass(frozen=True)
class Crossing:
    """Where the general loss meets a limit at the best learning rate for that limit.

    Args:
        channel: The general channel that decides there.
        factor: The limit in units of the target's.
        ratio: Share of domain text.
        learning_rate: Learning rate; NaN where the runs have none.
    """

    channel: str
    factor: float
    ratio: float
    learning_rate: float


@dataclass(frozen=True)
class Candidate:
    """A run that may be trained.

    Args:
        base: Label of its base; None for the base of a target that no study names.
        n_params: Parameters.
        ratio: Share of domain text.
        learning_rate: Peak learning rate; NaN where the runs have none.
        n_tokens: Tokens, the decay included.
        price: What it costs.
        is_short: Whether it has the shortest length of all candidates.
    """

    base: str | None
    n_params: float
    ratio: float
    learning_rate: float
    n_tokens: float
    price: Price
    is_short: bool


@dataclass(frozen=True)
class Step:
    """A chosen run, and how uncertain the decision is after it.

    Args:
        index: Number of the candidate.
        variances: Variance of the share at each crossing, shape (C,).
    """

    index: int
    variances: Array


def find_crossings(question: Question) -> list[Crossing]:
    """The crossings of the limits, by the central predictions.

    Where no share meets a limit, the smallest counts; where a limit does not bind, the best share.

    Raises:
        InputError: If the target has no limit.
    """
    if question.general is None or not question.limits:
        raise InputError(
            "without a limit there is no share at which the general loss crosses it, which is what "
            "the next runs would narrow: give a limit such as +3% (--limit)"
        )
    ratio, rates = ratio_grid(), question.choosable
    pairs = np.tile(ratio, len(rates)), np.repeat(rates, len(ratio))
    shape = len(rates), len(ratio)
    general = question.central(question.general, *pairs).reshape(shape)
    minimized = question.objective({c: question.central(c, *pairs) for c in question.minimized})
    found = []
    for factor in LIMIT_FACTORS:
        allowed = question.base_loss + factor * (question.allowed - question.base_loss)
        shares, losses = best_share(ratio, general, minimized.reshape(shape), allowed)
        if np.isfinite(losses).any():
            row = int(losses.argmin())
            share = float(shares[row])
        else:
            row = int(general.min(axis=1).argmin())
            share = float(ratio[0])
        channel = _deciding_channel(question, share, float(rates[row]))
        found.append(Crossing(channel, factor, share, float(rates[row])))
    return found


def _deciding_channel(question: Question, ratio: float, rate: float) -> str:
    """The limited channel that is nearest to its limit, or exceeds it most."""
    if len(question.limits) == 1:
        return next(iter(question.limits))
    at = np.array([ratio]), np.array([rate])
    return max(
        question.parts,
        key=lambda part: float(question.as_worst(part, question.central(part, *at))[0]),
    )


def crossing_frame(question: Question, crossings: Sequence[Crossing]) -> pd.DataFrame:
    """Three points of the target for each crossing: below it, at it, above it; 3 C rows."""
    ratio = np.array([crossing.ratio for crossing in crossings])
    low, high = np.maximum(ratio - STEP, ratio_grid()[0]), np.minimum(ratio + STEP, LARGEST_RATIO)
    rates = np.repeat([crossing.learning_rate for crossing in crossings], 3)
    return question.frame(np.stack([low, ratio, high], axis=1).ravel(), rates)


def squared_slopes(
    posteriors: Mapping[str, Posterior], crossings: Sequence[Crossing], frame: pd.DataFrame
) -> Array:
    """Squared slope of the mean loss over the share at each crossing, shape (C,).

    Infinite where the loss does not rise with the share: no share is the crossing there, so that
    limit does not count.
    """
    ratio = frame["ratio"].to_numpy(dtype=np.float64)
    slopes = []
    for number, crossing in enumerate(crossings):
        low, high = 3 * number, 3 * number + 2
        mean = posteriors[crossing.channel].mean
        slope = float((mean[high] - mean[low]) / (ratio[high] - ratio[low]))
        slopes.append(slope**2 if slope > 0 else np.inf)
    return np.array(slopes)


def share_variances(
    posteriors: Mapping[str, Posterior], crossings: Sequence[Crossing], squares: Array
) -> Array:
    """Variance of the share at each crossing, shape (C,)."""
    rows = [3 * number + 1 for number in range(len(crossings))]
    variances = [
        posteriors[crossing.channel].covariance[row, row]
        for crossing, row in zip(crossings, rows, strict=True)
    ]
    return np.asarray(np.maximum(np.array(variances), 0.0) / squares)


def choose_runs(
    posteriors: Mapping[str, Posterior],
    crossings: Sequence[Crossing],
    squares: Array,
    candidates: Sequence[Candidate],
    budget: Budget,
    most: int | None = None,
) -> list[Step]:
    """Choose runs one after another, each the one that narrows the shares most for its price.

    The measure is the sum over the limits of var(general loss) / slope^2 at the crossing. The first
    run is a short one.

    Args:
        posteriors: By general channel, at the three points of each crossing and then at the
            candidates.
        crossings: The C crossings.
        squares: Squared slopes, shape (C,).
        candidates: The runs to choose from.
        budget: What they may cost together.
        most: Largest number of runs; None takes as many as the budget allows.

    Returns:
        The chosen runs in order; fewer than the budget allows if no other run narrows a share.
    """
    costs = np.array([budget.of(candidate.price) for candidate in candidates])
    short = np.array([candidate.is_short for candidate in candidates])
    free = np.ones(len(candidates), dtype=bool)
    left = budget.amount * (1 + ROUNDING)
    total = share_variances(posteriors, crossings, squares).sum()
    steps: list[Step] = []
    while most is None or len(steps) < most:
        allowed = free & (costs <= left) & (short | bool(steps))
        gains = np.where(allowed, _gains(posteriors, crossings, squares, len(candidates)), 0.0)
        if not (gains > LEAST_GAIN * total).any():
            break
        index = int((gains / costs).argmax())
        row = 3 * len(crossings) + index
        posteriors = {name: joint.given([row]) for name, joint in posteriors.items()}
        free[index], left = False, left - costs[index]
        steps.append(Step(index, share_variances(posteriors, crossings, squares)))
    return steps


def _gains(
    posteriors: Mapping[str, Posterior],
    crossings: Sequence[Crossing],
    squares: Array,
    n_candidates: int,
) -> Array:
    """By how much each candidate lowers the sum of the variances of the shares."""
    first = 3 * len(crossings)
    gains = np.zeros(n_candidates)
    for number, crossing in enumerate(crossings):
        joint = posteriors[crossing.channel]
        across = joint.covariance[3 * number + 1, first:]
        measured = np.diag(joint.covariance)[first:] + joint.noise**2
        gains += across**2 / measured / squares[number]
    return gains
