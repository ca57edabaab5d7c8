"""Flags about size, tokens, rate and share outside those of the runs."""

from __future__ import annotations

from collections.abc import Iterator

from dcpt.decide.question import Question
from dcpt.decide.records import Recommendation
from dcpt.flags import Flag
from dcpt.laws.points.record import SAME
from dcpt.quantities import (
    format_count,
    format_factor,
    format_rate,
    format_share,
    format_shares,
)

FAR_IN_TOKENS = 2.0
"""Domain losses this many times beyond the longest D of the runs are unreliable: from 11M to 44M
tokens the laws missed those of the pilot by 0.14 nats and more."""


def beyond_the_runs(question: Question, recommendation: Recommendation) -> Iterator[Flag]:
    """Size, tokens, rate and share of the answer outside those of the runs."""
    target, ranges = question.target, question.ranges
    for axis, noun, value in (
        ("n_params", "parameters", target.n_params),
        ("n_tokens", "tokens", target.n_tokens),
    ):
        factor = recommendation.extrapolation.get(axis, 1.0)
        if factor > 1:
            low, high = ranges[axis]
            yield Flag(
                "extrapolates",
                f"The target has {format_count(value)} {noun}, a factor of {format_factor(factor)} "
                f"outside those of the runs ({format_count(low)} to {format_count(high)}), so the "
                "laws extrapolate. Verify with a run nearer to the target.",
                {"axis": axis},
                {"value": value, "low": low, "high": high, "factor": factor},
            )
    yield from _about_a_longer_run(question)
    if target.learning_rate is not None:
        yield from _about_a_fixed_rate(question, recommendation, target.learning_rate)
    best = recommendation.best
    if best and "ratio" in ranges and not ranges["ratio"][0] <= best.ratio <= ranges["ratio"][1]:
        low, high = ranges["ratio"]
        yield Flag(
            "extrapolates",
            f"The share {format_share(best.ratio)} is outside those of the runs "
            f"({format_shares(low, high)}). Add runs at shares beyond it.",
            {"axis": "ratio"},
            {"value": best.ratio, "low": low, "high": high},
        )


def _about_a_longer_run(question: Question) -> Iterator[Flag]:
    """A domain loss far beyond the longest D of the runs."""
    tokens, covered = question.target.n_tokens, question.ranges.get("n_tokens")
    if covered is not None and tokens > FAR_IN_TOKENS * covered[1] * (1 + SAME):
        yield Flag(
            "domain_extrapolated",
            f"The domain loss is predicted at {format_count(tokens)} tokens and the longest run "
            f"has {format_count(covered[1])}. Predictions of the domain loss beyond twice the "
            "longest run are unreliable. Extend a few small runs to "
            f"{format_count(tokens / FAR_IN_TOKENS)} tokens or more.",
            {"axis": "n_tokens"},
            {"value": tokens, "high": covered[1]},
        )


def _about_a_fixed_rate(
    question: Question, recommendation: Recommendation, rate: float
) -> Iterator[Flag]:
    """A fixed rate that no run has, or none at a size near the target's."""
    factor = recommendation.extrapolation.get("learning_rate", 1.0)
    if factor > 1:
        low, high = question.ranges["learning_rate"]
        yield Flag(
            "extrapolates",
            f"The learning rate {format_rate(rate)} is a factor of {format_factor(factor)} outside "
            f"those of the runs ({format_rate(low)} to {format_rate(high)}). Train a small run at "
            "it, or let dcpt choose the rate.",
            {"axis": "learning_rate"},
            {"value": rate, "low": low, "high": high, "factor": factor},
        )
        return
    low, high = question.seen[0], question.seen[-1]
    if not low / (1 + SAME) <= rate <= high * (1 + SAME):
        yield Flag(
            "rate_not_seen_near_size",
            f"The learning rate {format_rate(rate)} was trained at other sizes only. At the sizes "
            f"nearest to the target the runs have {format_rate(low)} to {format_rate(high)}. Add a "
            "run at this rate and size.",
            values={"value": rate, "low": low, "high": high},
        )
