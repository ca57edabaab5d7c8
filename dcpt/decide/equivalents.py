"""What a share is worth in tokens: how many another share needs for the same domain loss."""

from __future__ import annotations

import numpy as np

from dcpt.decide.question import Array, Question
from dcpt.decide.records import HABITS, Choice, Interval, TokenEquivalent
from dcpt.errors import InputError

LEAST, MOST = 0.25, 4.0
"""Factors of the tokens that are tried."""

FARTHEST = 2.0
"""Tokens at most this many times the longest run: beyond, the domain loss is unreliable."""

N_FACTORS = 33

OTHER_SHARE = 0.02
"""A common share this near to the recommended one is no other share."""


def find_equivalent(question: Question, best: Choice, level: float) -> TokenEquivalent | None:
    """How many times the tokens the nearest common share needs for the domain loss of a pair.

    Args:
        question: The target and its fit.
        best: The pair; the other share has its learning rate.
        level: Interval probability.

    Returns:
        None where the answer lies outside the factors that the runs cover, or no law holds at other
        numbers of tokens.
    """
    others = [share for share in HABITS if abs(share - best.ratio) >= OTHER_SHARE]
    share = min(others, key=lambda other: abs(other - best.ratio))
    tokens, (_, longest) = question.target.n_tokens, question.ranges["n_tokens"]
    most = min(MOST, FARTHEST * longest / tokens)
    if most <= LEAST:
        return None
    factors = np.geomspace(LEAST, most, N_FACTORS)
    channel, rate = question.domain, np.nan if best.learning_rate is None else best.learning_rate
    ratio = np.array([*np.full(N_FACTORS, share), best.ratio])
    frame = question.frame(ratio, np.full(len(ratio), rate))
    points = question.points_at(channel, frame.assign(n_tokens=tokens * np.append(factors, 1.0)))
    try:
        central, draws = question.fit.central(channel, points), question.fit.sample(channel, points)
    except InputError:  # laws fitted at a single number of tokens hold at no other
        return None
    value = _reached(factors, central[None, :-1], central[None, -1])[0]
    of_draws = _reached(factors, draws[:, :-1], draws[:, -1])
    tail = (1 - level) / 2
    if np.isnan(value) or np.isnan(of_draws).mean() > tail:
        return None
    low, high = np.nanquantile(of_draws, [tail, 1 - tail])
    return TokenEquivalent(share, Interval(float(value), float(low), float(high)))


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
