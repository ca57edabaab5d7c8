"""Flags about how certain the answer is: its interval, its laws, the run that is off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dcpt.decide.evidence import WIDE_INTERVAL
from dcpt.decide.records import Interval, Recommendation
from dcpt.flags import Flag
from dcpt.quantities import (
    format_percent,
    format_rate,
    format_share,
    format_shares,
)

LAWS_DISAGREE = 0.1
"""Largest minus smallest share that the general laws allow, each alone."""


def about_the_certainty(recommendation: Recommendation) -> Iterator[Flag]:
    """An interval that is wide or odd, and laws that allow different shares."""
    interval = recommendation.ratio_interval
    if recommendation.best and None not in (interval.low, interval.high):
        yield from _about_the_interval(interval, recommendation)
    alone = recommendation.ratio_by_law
    if alone and max(alone.values()) - min(alone.values()) > LAWS_DISAGREE:
        said = ", ".join(f"{law} {format_share(ratio)}" for law, ratio in sorted(alone.items()))
        yield Flag(
            "laws_disagree",
            f"The laws and models of the general loss allow different shares: {said}. The answer "
            "weights them by their held-out errors. Train a run between them to decide.",
            values=dict(alone),
        )


def _about_the_interval(interval: Interval, recommendation: Recommendation) -> Iterator[Flag]:
    share, low, high = interval.value, interval.low, interval.high
    assert low is not None
    assert high is not None
    values = {"share": share, "low": low, "high": high}
    if high - low > WIDE_INTERVAL:
        yield Flag(
            "wide_interval",
            f"The {format_percent(recommendation.level)} interval of the share, "
            f"{format_shares(low, high)}, is wide. Add runs near the recommendation to narrow it.",
            values=values,
        )
    if low == 0:
        part = (1 - recommendation.level) / 2
        yield Flag(
            "may_be_out_of_reach",
            f"In at least {format_percent(part)} of the bootstrap draws no share meets the limit "
            "at this learning rate. Raise the limit, or lower the rate.",
            values={"draws": part},
        )
    if share is not None and not low <= share <= high:
        yield Flag(
            "outside_own_interval",
            f"The share {format_share(share)}, best by the central predictions, lies outside the "
            f"interval of its bootstrap draws, {format_shares(low, high)}, so the fit is unstable. "
            "Add runs near both.",
            values=values,
        )


def add_answer_without(flag: Flag, answer: Recommendation, other: Recommendation | None) -> Flag:
    """Add to the flag of a run that is off what the answer would be without it.

    Args:
        flag: The flag of the fit.
        answer: The answer from all runs.
        other: The answer without the run; None if there is none.
    """
    if other is None:
        return replace(flag, sentence=f"{flag.sentence} Without it no law predicts the target.")
    return replace(
        flag,
        sentence=(
            f"{flag.sentence} Without it the answer would be {_say_pair(other)}, not "
            f"{_say_pair(answer)}."
        ),
        values={**flag.values, "with": _pair_values(answer), "without": _pair_values(other)},
    )


def _say_pair(answer: Recommendation) -> str:
    """The recommended pair with the interval of the share."""
    if answer.best is None:
        return "that no share meets the limit"
    rate = answer.best.learning_rate
    interval = format_shares(answer.ratio_interval.low, answer.ratio_interval.high)
    at = "" if rate is None else f" at a learning rate of {format_rate(rate)}"
    return f"a share of {format_share(answer.best.ratio)} ({interval}){at}"


def _pair_values(answer: Recommendation) -> dict[str, float | None]:
    best, interval = answer.best, answer.ratio_interval
    return {
        "ratio": None if best is None else best.ratio,
        "ratio_low": interval.low,
        "ratio_high": interval.high,
        "learning_rate": None if best is None else best.learning_rate,
    }
