"""Warnings of a recommendation, each a stable name and a sentence for people."""

from __future__ import annotations

import numpy as np

from dcpt.decide.evidence import WIDE_INTERVAL
from dcpt.decide.question import Question
from dcpt.decide.records import LARGEST_RATIO, Choice, Flag, Frontier, Recommendation
from dcpt.decide.sentences import binding_channel, limit_binds
from dcpt.laws.flags.noise import EVALUATION_NOISE, GENERAL_FALL
from dcpt.laws.points.record import SAME
from dcpt.quantities import (
    format_count,
    format_difference,
    format_factor,
    format_loss,
    format_percent,
    format_rate,
    format_share,
    format_shares,
)

NEAR_CLIFF = 0.95
"""Above this share the general loss rises steeply: in the pilot, removing the last 3 % of general
text raised it by 0.9 to 1.6 nats."""

RESOLUTION = 0.03
"""Nats: a limit this close to the rise without any domain text does not determine the share."""

FAR_IN_TOKENS = 2.0
"""Domain losses this many times beyond the longest D of the runs are unreliable: from 11M to 44M
tokens the laws missed those of the pilot by 0.14 nats and more."""

LAWS_DISAGREE = 0.1
"""Largest minus smallest share that the general laws allow, each alone."""


def find_flags(question: Question, recommendation: Recommendation) -> list[Flag]:
    """Find everything a reader should know before trusting a recommendation.

    Args:
        question: The target and its fit.
        recommendation: The answer, its flags not yet filled in.
    """
    return [
        *_about_the_laws(question, recommendation),
        *_beyond_the_runs(question, recommendation),
        *_about_the_limit(question, recommendation),
        *_about_the_rate(question, recommendation),
        *_about_the_certainty(recommendation),
    ]


def _frontier(recommendation: Recommendation) -> Frontier:
    """The frontier at the learning rate decided on, which is that of the habits."""
    rate = recommendation.habits[0].learning_rate
    return next(line for line in recommendation.frontiers if line.learning_rate == rate)


def _beyond_the_runs(question: Question, recommendation: Recommendation) -> list[Flag]:
    flags = []
    target = question.target
    asked = {"n_params": target.n_params, "n_tokens": target.n_tokens}
    nouns = {"n_params": "parameters", "n_tokens": "tokens"}
    for axis, value in asked.items():
        factor = recommendation.extrapolation.get(axis, 1.0)
        if factor > 1:
            low, high = question.ranges[axis]
            flags.append(
                Flag(
                    f"extrapolates:{axis}",
                    f"the target has {format_count(value)} {nouns[axis]}, a factor of "
                    f"{format_factor(factor)} outside those of the runs ({format_count(low)} to "
                    f"{format_count(high)}): the laws extrapolate; verify with a run nearer to the "
                    "target",
                )
            )
    flags += _about_a_longer_run(question)
    factor = recommendation.extrapolation.get("learning_rate", 1.0)
    if factor > 1 and target.learning_rate is not None:
        low, high = question.ranges["learning_rate"]
        flags.append(
            Flag(
                "extrapolates:learning_rate",
                f"the learning rate {format_rate(target.learning_rate)} is a factor of "
                f"{format_factor(factor)} outside those of the runs ({format_rate(low)} to "
                f"{format_rate(high)}): train a small run at it, or leave the rate open",
            )
        )
    elif target.learning_rate is not None:
        flags += _about_a_rate_elsewhere(question, target.learning_rate)
    best = recommendation.best
    ratios = question.ranges.get("ratio")
    if best and ratios and not ratios[0] <= best.ratio <= ratios[1]:
        flags.append(
            Flag(
                "extrapolates:ratio",
                f"the share {format_share(best.ratio)} is outside those of the runs "
                f"({format_shares(*ratios)}): add runs at shares beyond it",
            )
        )
    return flags


def _about_a_longer_run(question: Question) -> list[Flag]:
    """Warn of a domain loss far beyond the longest D of the runs."""
    seen = question.ranges.get("n_tokens")
    if seen is None or question.target.n_tokens <= FAR_IN_TOKENS * seen[1] * (1 + SAME):
        return []
    longest = format_count(seen[1])
    return [
        Flag(
            "domain_extrapolated:n_tokens",
            f"the domain loss is predicted at {format_count(question.target.n_tokens)} tokens and "
            f"the longest run has {longest}: predictions of the domain loss beyond twice the "
            "longest run are unreliable; extend a few small runs to "
            f"{format_count(question.target.n_tokens / FAR_IN_TOKENS)} tokens or more",
        )
    ]


def _about_a_rate_elsewhere(question: Question, rate: float) -> list[Flag]:
    """Warn of a rate that runs have, but none at a size near the target's."""
    low, high = question.seen[0], question.seen[-1]
    if low / (1 + SAME) <= rate <= high * (1 + SAME):
        return []
    return [
        Flag(
            "rate_not_seen_near_size",
            f"the learning rate {format_rate(rate)} was trained at other sizes only; at the sizes "
            f"nearest to the target the runs have {format_rate(low)} to {format_rate(high)}: add a "
            "run at this rate and size",
        )
    ]


def _about_the_laws(question: Question, recommendation: Recommendation) -> list[Flag]:
    """Warn of laws that have weight in the fit and do not apply at the target."""
    dropped: dict[str, list[str]] = {}
    for channel, used in recommendation.laws.items():
        for law, weight in question.fit.weights(channel).items():
            if weight > 0 and used.get(law, 0.0) == 0:
                dropped.setdefault(law, []).append(channel)
    if not dropped:
        return []
    said = ", ".join(f"{law} ({', '.join(channels)})" for law, channels in dropped.items())
    asked = ", ".join(
        dict.fromkeys(law for used in recommendation.laws.values() for law in used if used[law] > 0)
    )
    return [
        Flag(
            f"laws_dropped:{','.join(dropped)}",
            "laws with weight in the fit do not apply at the target and were not used: "
            f"{said}; the answer uses {asked} with new weights: train runs nearer to the "
            "target",
        )
    ]


def _about_the_limit(question: Question, recommendation: Recommendation) -> list[Flag]:
    flags = []
    best, limit = recommendation.best, question.target.limit
    frontier = _frontier(recommendation)
    if question.parts:
        words = (
            f"the limit is on each of {', '.join(question.parts)}: the general rise in tables is "
            "that of the channel that rises most"
        )
        if best is not None:
            words += f" ({binding_channel(recommendation, best).channel} at the recommendation)"
        flags.append(Flag("limit_on_each", words))
    if best is None:
        possible = [loss for loss in frontier.general if loss is not None]
        least = min(possible, default=None)
        held = question.target.learning_rate
        where = (
            "at any learning rate" if held is None else f"at the learning rate {format_rate(held)}"
        )
        lowest = (
            "every general loss is beyond what the laws can predict"
            if least is None
            else f"the lowest predicted general loss is {format_loss(least)}, "
            f"{format_difference(least - question.base_loss)} nats from the base's"
        )
        flags.append(
            Flag(
                "no_share_meets_limit",
                f"no share {where} meets the limit {limit} ({format_loss(question.allowed)}): "
                f"{lowest}; raise the limit, or train runs at lower learning rates",
            )
        )
    else:
        flags += _about_the_share(question, recommendation, best, frontier)
    return [*flags, *_about_a_fall(question, frontier), *_about_a_small_limit(question)]


def _about_a_fall(question: Question, frontier: Frontier) -> list[Flag]:
    """Warn of general text that the base learns as if it were a domain."""
    least, _ = question.ranges.get("ratio", (0.0, 1.0))
    ratio = np.array([share for share in frontier.ratio if share >= least])
    if not len(ratio) or question.allowed < question.base_loss:  # a limit that asks for a fall
        return []
    rate = np.full(len(ratio), frontier.learning_rate or np.nan)
    falls = {
        channel: 1 - question.central(channel, ratio, rate).min() / base
        for channel, base in question.target.base_losses.items()
        if channel in (question.parts or [question.general])
    }
    said = [
        f"{channel if question.parts else 'the general loss'} by {format_percent(fall)}"
        for channel, fall in falls.items()
        if fall > GENERAL_FALL
    ]
    if not said:
        return []
    return [
        Flag(
            "general_falls",
            "with less domain text the predicted loss falls below the base's: "
            f"{', '.join(said)}. This general text differs from what the base was trained on, so "
            f"within the limit {question.target.limit} the base may forget what this text does not "
            "measure: measure the general loss on text like the base's, or set a limit below the "
            "base's loss, such as -5%",
        )
    ]


def _about_a_small_limit(question: Question) -> list[Flag]:
    """Warn of a limit below the difference of equal runs or the error of the laws."""
    allowed_rise = question.allowed - question.base_loss
    by_channel = question.fit.by_channel
    comparisons = [
        by_channel[channel].comparisons[question.phase]
        for channel in question.parts or (question.general,)
    ]
    missed = max(comparison.spread.get("ratios", 0.0) for comparison in comparisons)
    if abs(allowed_rise) >= max(EVALUATION_NOISE, missed):
        return []
    if missed > EVALUATION_NOISE:
        than = f"less than the laws' error of {format_loss(missed)} on held-out ratios"
    else:
        than = f"no more than the difference between equal runs (about {EVALUATION_NOISE:g})"
    return [
        Flag(
            "limit_within_noise",
            f"the limit allows {format_difference(allowed_rise)} nats, {than}: it cannot be "
            "distinguished from no rise at all; raise the limit, or repeat runs with other seeds "
            "near the recommendation",
        )
    ]


def _about_the_share(
    question: Question, recommendation: Recommendation, best: Choice, frontier: Frontier
) -> list[Flag]:
    flags = []
    limit, allowed_rise = question.target.limit, question.allowed - question.base_loss
    if best.ratio >= LARGEST_RATIO - 1e-6:
        flags.append(
            Flag(
                "limit_does_not_bind",
                f"every share up to {format_share(LARGEST_RATIO)}, above which nothing is "
                f"recommended, is within the limit {limit}: the limit does not decide the share",
            )
        )
    elif not limit_binds(recommendation):
        flags.append(
            Flag(
                "limit_does_not_bind",
                f"the domain loss is lowest at a share of {format_share(best.ratio)}, below the "
                f"largest that the limit {limit} allows: the limit does not decide the share",
            )
        )
    if best.ratio >= NEAR_CLIFF:
        flags.append(
            Flag(
                "near_cliff",
                f"at a share of {format_share(best.ratio)} the general loss rises steeply as "
                "general text is removed: a slightly smaller share costs little domain "
                "loss and is much safer",
            )
        )
    first = frontier.general[0]
    rewarm = np.inf if first is None else first - question.base_loss
    if abs(allowed_rise - rewarm) < RESOLUTION:
        flags.append(
            Flag(
                "limit_near_rewarm_rise",
                f"the limit allows {format_difference(allowed_rise)} nats, and the learning rate "
                "alone, with almost no domain text, is predicted to cost "
                f"{format_difference(rewarm)}: the share is poorly determined under such a limit; "
                "raise the limit, or use lower learning rates",
            )
        )
    return flags


def _about_the_rate(question: Question, recommendation: Recommendation) -> list[Flag]:
    flags = []
    best, target, rates = recommendation.best, question.target, question.choosable
    if recommendation.phase != "annealed":
        flags.append(
            Flag(
                "constant_rate_losses",
                "the runs have no points after a decay, so losses at constant learning rate were "
                "used: a decay undoes part of the rise and changes the best pair; add decay "
                "branches",
            )
        )
    if target.learning_rate is not None:
        flags.append(
            Flag(
                "learning_rate_held",
                f"the learning rate was fixed at {format_rate(target.learning_rate)} as asked: "
                "another rate may allow a better pair",
            )
        )
    elif best is None or best.learning_rate is None:
        if best is not None:
            flags.append(
                Flag(
                    "learning_rate_held",
                    "the runs table has no learning rate, so the answer holds at the runs' rate "
                    "only; whether another rate is better is unknown",
                )
            )
    elif len(rates) == 1 and len({rate for _, rate, _ in question.fit.seen_rates}) > 1:
        flags.append(
            Flag(
                "learning_rate_by_rule",
                "every size was trained at one learning rate of its own, so the effect of another "
                f"rate is unknown: {format_rate(rates[0])}, which continues that rule to the "
                "target, was used; train one size at three rates so that the rate can be chosen",
            )
        )
    elif len(rates) == 1:
        flags.append(
            Flag(
                "learning_rate_held",
                f"all runs have one learning rate ({format_rate(rates[0])}), so it was used: "
                "another rate may change the loss more than the share does; train a few small runs "
                "at a third of it and at three times it",
            )
        )
    elif best.learning_rate in (rates[0], rates[-1]):
        end, more = ("lowest", "lower") if best.learning_rate == rates[0] else ("highest", "higher")
        flags.append(
            Flag(
                "learning_rate_at_edge",
                f"the chosen learning rate {format_rate(best.learning_rate)} is the {end} of the "
                f"runs at sizes near the target: a {more} one may be better; add runs there",
            )
        )
    return flags


def _about_the_certainty(recommendation: Recommendation) -> list[Flag]:
    flags = []
    interval, percent = recommendation.ratio_interval, format_percent(recommendation.level)
    low, high = interval.low, interval.high
    if recommendation.best and low is not None and high is not None:
        if high - low > WIDE_INTERVAL:
            flags.append(
                Flag(
                    "wide_interval",
                    f"the {percent} interval of the share, {format_shares(low, high)}, is wide: "
                    "add runs near the recommendation to narrow it",
                )
            )
        if low == 0:
            flags.append(
                Flag(
                    "may_be_out_of_reach",
                    f"in at least {format_percent((1 - recommendation.level) / 2)} of the "
                    "bootstrap draws no share meets the limit at this learning rate: raise the "
                    "limit, or lower the rate",
                )
            )
        if not low <= recommendation.best.ratio <= high:
            flags.append(
                Flag(
                    "outside_own_interval",
                    f"the recommended share {format_share(recommendation.best.ratio)} lies outside "
                    f"the interval of its bootstrap draws, {format_shares(low, high)}: the fit is "
                    "unstable; add runs near both",
                )
            )
    alone = recommendation.ratio_by_law
    if alone and max(alone.values()) - min(alone.values()) > LAWS_DISAGREE:
        said = ", ".join(f"{law} {format_share(ratio)}" for law, ratio in sorted(alone.items()))
        flags.append(
            Flag(
                "laws_disagree",
                f"the laws of the general loss allow different shares: {said}; train a run between "
                "them to decide",
            )
        )
    return flags
