"""Flags about the limit: kept by no share, by every share, or too small to resolve."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dcpt.decide.question import Question
from dcpt.decide.records import LARGEST_RATIO, Choice, Frontier, Recommendation
from dcpt.decide.sentences import binding_channel, is_limit_on_each, limit_binds
from dcpt.flags import Flag
from dcpt.laws.flags.noise import EVALUATION_NOISE, GENERAL_FALL
from dcpt.quantities import (
    format_difference,
    format_loss,
    format_percent,
    format_rate,
    format_share,
)

NEAR_CLIFF = 0.95
"""Above this share the general loss rises steeply: in the pilot, removing the last 3 % of general
text raised it by 0.9 to 1.6 nats."""

RESOLUTION = 0.03
"""Nats: a limit this close to the rise without any domain text does not determine the share."""


def about_the_limit(question: Question, recommendation: Recommendation) -> Iterator[Flag]:
    """A limit that does not determine the share, or that no share meets."""
    best, limit = recommendation.best, question.target.limits_in_words
    frontier = _chosen_frontier(recommendation)
    if not question.limits:
        if best is not None:
            yield _about_no_limit(question, best)
        return
    if question.parts:
        yield _about_several(question, recommendation)
    if best is None and recommendation.central is not None:
        yield _about_the_odds(question, recommendation.central)
    elif best is None:
        least = min((loss for loss in frontier.general if loss is not None), default=None)
        fixed = question.target.learning_rate
        where = "any learning rate" if fixed is None else f"the learning rate {format_rate(fixed)}"
        lowest = (
            "Every general loss is beyond what the laws can predict."
            if least is None
            else f"The lowest predicted general loss is {format_loss(least)}, "
            f"{format_difference(least - question.base_loss)} nats from the base's."
        )
        yield Flag(
            "no_share_meets_limit",
            f"No share at {where} meets the limit {limit} ({format_loss(question.allowed)}). "
            f"{lowest} Raise the limit, or train runs at lower learning rates.",
            values={"allowed": question.allowed, "lowest": least},
        )
    else:
        yield from _about_the_share(question, recommendation, best, frontier)
    yield from _about_a_fall(question, frontier)
    yield from _about_a_small_limit(question)


def _about_no_limit(question: Question, best: Choice) -> Flag:
    """What decides the share where no limit does."""
    top, loss = float(question.ratio[-1]), question.target.minimized_in_words
    if best.ratio < top - 1e-6:
        why = f"the share with the lowest {loss} was chosen"
    elif top < LARGEST_RATIO - 1e-6:
        why = (
            f"the {loss} falls up to the largest share of the runs, {format_share(top)}, "
            "which was chosen: more domain text may be better still"
        )
    else:
        why = f"the {loss} falls up to {format_share(top)}, above which nothing is recommended"
    rise = best.general_rise.value
    general = (
        "What the model forgets is not known."
        if rise is None
        else f"The general loss is predicted to move by {format_difference(rise)} nats."
    )
    return Flag(
        "no_limit",
        f"No limit was asked for, and {why}. {general}",
        values={"share": best.ratio, "largest": top, "general_rise": rise},
    )


def _about_several(question: Question, recommendation: Recommendation) -> Flag:
    """Limits on several channels: which of them decides."""
    best, parts = recommendation.best, question.parts
    binding = None if best is None else binding_channel(recommendation, best)
    where = "" if binding is None else f" ({binding.channel} at the recommendation)"
    words = f"The limits {question.target.limits_in_words} must all be kept."
    if is_limit_on_each(recommendation):
        words = f"The limit is on each of {', '.join(parts)}."
    return Flag(
        "limit_on_each",
        f"{words} The general rise in tables is that of the channel nearest to its limit{where}.",
        values={
            "channels": list(parts),
            "binding": None if binding is None else binding.channel,
        },
    )


def _about_the_odds(question: Question, central: Choice) -> Flag:
    """A limit that the central predictions meet and too few draws keep."""
    target = question.target
    odds = format_percent(target.confidence)
    assert central.probability is not None  # the target has a limit
    return Flag(
        "limit_not_kept_at_odds",
        f"No share keeps the limit {target.limits_in_words} in {odds} of the bootstrap draws. The "
        f"best pair "
        f"by the central predictions, {format_share(central.ratio)} domain text, keeps it in "
        f"{format_percent(central.probability)}. Raise the limit, add runs near that share, or "
        "lower the confidence.",
        values={"confidence": target.confidence, "probability": central.probability},
    )


def _chosen_frontier(recommendation: Recommendation) -> Frontier:
    """The frontier at the chosen learning rate, which is that of the habits."""
    rate = recommendation.habits[0].learning_rate
    return next(line for line in recommendation.frontiers if line.learning_rate == rate)


def _about_the_share(
    question: Question, recommendation: Recommendation, best: Choice, frontier: Frontier
) -> Iterator[Flag]:
    """A share that the limit does not decide, or that lies where losses change fast."""
    limit, allowed_rise = question.target.limits_in_words, question.allowed - question.base_loss
    if best.ratio >= LARGEST_RATIO - 1e-6:
        yield Flag(
            "limit_does_not_bind",
            f"Every share up to {format_share(LARGEST_RATIO)}, above which nothing is recommended, "
            f"is within the limit {limit}, so the limit does not decide the share.",
            values={"share": best.ratio},
        )
    elif not limit_binds(recommendation):
        yield Flag(
            "limit_does_not_bind",
            f"The {question.target.minimized_in_words} is lowest at a share of "
            f"{format_share(best.ratio)}, below the largest that the limit {limit} allows, so the "
            "limit does not decide the share.",
            values={"share": best.ratio},
        )
    if best.ratio >= NEAR_CLIFF:
        yield Flag(
            "near_cliff",
            f"At a share of {format_share(best.ratio)} the general loss rises steeply as general "
            "text is removed. A slightly smaller share costs little domain loss and is much safer.",
            values={"share": best.ratio},
        )
    first = frontier.general[0]
    if first is None or abs(allowed_rise - (first - question.base_loss)) >= RESOLUTION:
        return
    rewarm = first - question.base_loss
    yield Flag(
        "limit_near_rewarm_rise",
        f"The limit allows {format_difference(allowed_rise)} nats, and the learning rate alone, "
        f"with almost no domain text, is predicted to cost {format_difference(rewarm)}, so the "
        "share is poorly determined. Raise the limit, or use lower learning rates.",
        values={"allowed_rise": allowed_rise, "rise": rewarm},
    )


def _about_a_fall(question: Question, frontier: Frontier) -> Iterator[Flag]:
    """General text that the base learns as if it were a domain."""
    least, _ = question.ranges.get("ratio", (0.0, 1.0))
    ratio = np.array([share for share in frontier.ratio if share >= least])
    if not len(ratio) or question.allowed < question.base_loss:  # a limit that asks for a fall
        return
    rate = np.full(len(ratio), frontier.learning_rate or np.nan)
    falls = {
        channel: float(1 - question.central(channel, ratio, rate).min() / base)
        for channel, base in question.target.base_losses.items()
        if channel in question.limits
    }
    falls = {channel: fall for channel, fall in falls.items() if fall > GENERAL_FALL}
    if falls:
        said = ", ".join(
            f"{channel if question.parts else 'the general loss'} by {format_percent(fall)}"
            for channel, fall in falls.items()
        )
        yield Flag(
            "general_falls",
            f"With less domain text the predicted loss falls below the base's: {said}. This "
            "general text differs from what the base was trained on, so within the limit "
            f"{question.target.limits_in_words} the base may forget what this text does not "
            "measure. Measure the general loss on text like the base's, or set a limit below the "
            "base's loss, such as -5%.",
            values=falls,
        )


def _about_a_small_limit(question: Question) -> Iterator[Flag]:
    """A limit below the difference of equal runs or the error of the laws."""
    allowed_rise = question.allowed - question.base_loss
    by_channel = question.fit.by_channel
    missed = max(
        by_channel[channel].comparisons[question.phase].spread.get("ratios", 0.0)
        for channel in question.limits
    )
    if abs(allowed_rise) >= max(EVALUATION_NOISE, missed):
        return
    than = (
        f"less than the laws' error of {format_loss(missed)} on held-out ratios"
        if missed > EVALUATION_NOISE
        else f"no more than the difference between equal runs (about {EVALUATION_NOISE:g})"
    )
    yield Flag(
        "limit_within_noise",
        f"The limit allows {format_difference(allowed_rise)} nats, {than}. It cannot be "
        "distinguished from no rise at all. Raise the limit, or repeat runs with other seeds near "
        "the recommendation.",
        values={"allowed_rise": allowed_rise, "error": max(EVALUATION_NOISE, missed)},
    )
