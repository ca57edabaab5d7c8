"""What a share is worth: the tokens, or the model size, that another share needs for the same loss.

Both compare the domain loss of the recommended pair with that of the nearest common share at the
same learning rate: at the same size with more or fewer tokens, and with the same tokens at another
size. The base of another size is taken to lie on the line through the known bases, in the
logarithms of size and loss (``dcpt.decide.stops``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from dcpt.decide.checks import named_losses
from dcpt.decide.evidence import FARTHEST_SIZE
from dcpt.decide.question import Array, Question
from dcpt.decide.records import HABITS, Choice, Equivalent, Interval
from dcpt.decide.stops import base_losses_at, sizes_with_known_bases
from dcpt.errors import InputError

LEAST, MOST = 0.25, 4.0
"""Factors of the tokens and of the size that are tried."""

FARTHEST_TOKENS = 2.0
"""Tokens at most this many times the longest run: beyond, the domain loss is unreliable."""

N_FACTORS = 33

OTHER_SHARE = 0.02
"""A common share this near to the recommended one is no other share."""


def find_equivalent(question: Question, best: Choice, level: float) -> Equivalent:
    """How many times the tokens, or the parameters, the nearest common share needs.

    Args:
        question: The target and its fit.
        best: The pair whose domain loss is to be reached.
        level: Interval probability.
    """
    others = [share for share in HABITS if abs(share - best.ratio) >= OTHER_SHARE]
    share = min(others, key=lambda other: abs(other - best.ratio))
    found: dict[str, Interval] = {}
    unknown: dict[str, str] = {}
    for name, columns_at in (("tokens", _tokens_at), ("parameters", _sizes_at)):
        try:
            found[name] = _find_factor(question, best, share, level, *columns_at(question))
        except InputError as error:
            unknown[name] = "; ".join(error.problems)
    return Equivalent(share, found.get("tokens"), found.get("parameters"), unknown)


def _tokens_at(question: Question) -> tuple[Array, Mapping[str, Array]]:
    """Factors of the tokens, shape (F,), and the columns of the target there."""
    tokens, (_, longest) = question.target.n_tokens, question.ranges["n_tokens"]
    factors = _factors(FARTHEST_TOKENS * longest / tokens, "tokens")
    return factors, {"n_tokens": tokens * factors}


def _sizes_at(question: Question) -> tuple[Array, Mapping[str, Array]]:
    """Factors of the size, shape (F,), and the columns of the target there."""
    fit, target = question.fit, question.target
    smallest, largest = question.ranges.get("n_params", (0.0, 0.0))
    if smallest == largest:
        raise InputError("the runs have a single size")
    if target.base_losses and sizes_with_known_bases(fit, target) < 2:
        raise InputError(
            "the losses of a base of another size are not known (the table has no rows of other "
            "bases at n_tokens = 0)"
        )
    factors = _factors(FARTHEST_SIZE * largest / target.n_params, "parameters")
    losses = pd.DataFrame([_base_losses(question, size) for size in target.n_params * factors])
    return factors, {
        "n_params": target.n_params * factors,
        **{f"base_loss_{name}": losses[name].to_numpy() for name in losses},
    }


def _base_losses(question: Question, n_params: float) -> dict[str, float]:
    """Losses of a base of another size, with those that are computed from others."""
    fit, target = question.fit, question.target
    there = replace(target, base_losses=base_losses_at(fit, target, n_params))
    losses = named_losses(fit, there, fit.general_channel).base_losses
    return {name: loss for name, loss in losses.items() if name in target.base_losses}


def _factors(most: float, what: str) -> Array:
    """Factors that are tried, ascending, shape (F,)."""
    if most <= LEAST:
        raise InputError(f"the target lies too far outside the {what} of the runs")
    return np.geomspace(LEAST, min(MOST, most), N_FACTORS)


def _find_factor(
    question: Question,
    best: Choice,
    share: float,
    level: float,
    factors: Array,
    columns: Mapping[str, Array],
) -> Interval:
    """The factor at which another share has the domain loss of a pair.

    Raises:
        InputError: If it lies outside the factors, or no law predicts the loss there.
    """
    channel, rate = question.domain, np.nan if best.learning_rate is None else best.learning_rate
    elsewhere = question.frame(np.full(len(factors), share), np.full(len(factors), rate))
    here = question.frame(np.array([best.ratio]), np.array([rate]))
    frame = pd.concat([elsewhere.assign(**columns), here], ignore_index=True)
    points = question.points_at(channel, frame)
    central, draws = question.fit.central(channel, points), question.fit.sample(channel, points)
    value = _reached(factors, central[None, :-1], central[None, -1])[0]
    of_draws = _reached(factors, draws[:, :-1], draws[:, -1])
    tail = (1 - level) / 2
    if np.isnan(value) or np.isnan(of_draws).mean() > tail:
        raise InputError(f"it is outside {factors[0]:.2g} to {factors[-1]:.2g} times")
    low, high = np.nanquantile(of_draws, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high))


def _reached(factors: Array, losses: Array, wanted: Array) -> Array:
    """The first factor at which a falling loss reaches the wanted one.

    Args:
        factors: Ascending factors of the tokens, shape (F,).
        losses: Losses there, shape (M, F).
        wanted: Losses to reach, shape (M,).

    Returns:
        Interpolated in the logarithm, shape (M,); NaN where it is reached at none of them, or at
        the first one already.
    """
    within = losses <= wanted[:, None]
    first = within.argmax(axis=1)
    found = within.any(axis=1) & (first > 0)
    rows, before = np.arange(len(losses)), np.maximum(first - 1, 0)
    drop = losses[rows, before] - losses[rows, first]
    part = (losses[rows, before] - wanted) / np.where(drop > 0, drop, 1.0)
    logs = np.log(factors)
    return np.where(found, np.exp(logs[before] + part * (logs[first] - logs[before])), np.nan)
