"""Warnings of a recommendation, each a kind, its values and a sentence for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dcpt.decide.evidence import WIDE_INTERVAL
from dcpt.decide.question import Question
from dcpt.decide.records import LARGEST_RATIO, Choice, Frontier, Interval, Recommendation
from dcpt.decide.sentences import binding_channel, limit_binds
from dcpt.flags import Flag
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
from dcpt.table.units import flag_base_loss

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
        *flag_bases(question),
        *_about_the_laws(question, recommendation),
        *_about_runs_at_the_target(question),
        *_about_texts(question),
        *_beyond_the_runs(question, recommendation),
        *_about_the_limit(question, recommendation),
        *_about_the_rate(question, recommendation),
        *_about_the_certainty(recommendation),
    ]


def flag_bases(question: Question) -> list[Flag]:
    """Flags of base losses of the target that contradict the bases of the runs."""
    target, bases = question.target, question.fit.bases
    return [
        flag
        for channel, loss in target.base_losses.items()
        for flag in flag_base_loss(channel, target.n_params, loss, bases.get(channel, ()))
    ]


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


def _about_the_laws(question: Question, recommendation: Recommendation) -> Iterator[Flag]:
    """Laws that have weight in the fit and do not apply at the target."""
    dropped: dict[str, list[str]] = {}
    for channel, used in recommendation.laws.items():
        for law, weight in question.fit.weights(channel).items():
            if weight > 0 and used.get(law, 0.0) == 0:
                dropped.setdefault(law, []).append(channel)
    if dropped:
        said = ", ".join(f"{law} ({', '.join(channels)})" for law, channels in dropped.items())
        used_laws = dict.fromkeys(
            law for used in recommendation.laws.values() for law in used if used[law] > 0
        )
        yield Flag(
            "laws_dropped",
            f"Laws with weight in the fit do not apply at the target and were not used: {said}. "
            f"The answer uses {', '.join(used_laws)} with new weights. Train runs nearer to the "
            "target.",
            values=dropped,
        )


def _about_texts(question: Question) -> Iterator[Flag]:
    """Unique tokens that the target lacks and that were taken from the runs."""
    for channel, n in question.texts_of_runs.items():
        yield Flag(
            "unique_tokens_of_runs",
            f"The laws of channel {channel} depend on its unique tokens, which the target does not "
            f"name. Those of the runs, {format_count(n)}, were used. If the large run has other "
            f"text, give --unique-tokens {channel}=...",
            {"channel": channel},
            {"unique_tokens": n},
        )


def _about_runs_at_the_target(question: Question) -> Iterator[Flag]:
    """Runs at the target's size that the two-level model takes."""
    names = dict.fromkeys(
        run
        for fit in question.fit.by_channel.values()
        if fit.two_level is not None
        for run in fit.two_level.runs_at(question.target.n_params)
    )
    if names:
        yield Flag(
            "runs_at_target",
            f"The two-level model takes runs at the target's size: {', '.join(names)}.",
            values={"runs": list(names)},
        )


def _beyond_the_runs(question: Question, recommendation: Recommendation) -> Iterator[Flag]:
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


def _about_the_limit(question: Question, recommendation: Recommendation) -> Iterator[Flag]:
    """A limit that does not determine the share, or that no share meets."""
    best, limit = recommendation.best, question.target.limit
    frontier = _chosen_frontier(recommendation)
    if question.parts:
        binding = None if best is None else binding_channel(recommendation, best).channel
        where = "" if binding is None else f" ({binding} at the recommendation)"
        yield Flag(
            "limit_on_each",
            f"The limit is on each of {', '.join(question.parts)}. The general rise in tables is "
            f"that of the channel that rises most{where}.",
            values={"channels": list(question.parts), "binding": binding},
        )
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


def _about_the_odds(question: Question, central: Choice) -> Flag:
    """A limit that the central predictions meet and too few draws keep."""
    target = question.target
    odds = format_percent(target.confidence)
    return Flag(
        "limit_not_kept_at_odds",
        f"No share keeps the limit {target.limit} in {odds} of the bootstrap draws. The best pair "
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
    limit, allowed_rise = question.target.limit, question.allowed - question.base_loss
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
            f"The domain loss is lowest at a share of {format_share(best.ratio)}, below the "
            f"largest that the limit {limit} allows, so the limit does not decide the share.",
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
        if channel in (question.parts or [question.general])
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
            f"{question.target.limit} the base may forget what this text does not measure. Measure "
            "the general loss on text like the base's, or set a limit below the base's loss, such "
            "as -5%.",
            values=falls,
        )


def _about_a_small_limit(question: Question) -> Iterator[Flag]:
    """A limit below the difference of equal runs or the error of the laws."""
    allowed_rise = question.allowed - question.base_loss
    by_channel = question.fit.by_channel
    missed = max(
        by_channel[channel].comparisons[question.phase].spread.get("ratios", 0.0)
        for channel in question.parts or (question.general,)
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


def _about_the_rate(question: Question, recommendation: Recommendation) -> Iterator[Flag]:
    """Losses at constant rate, and a learning rate that the runs do not decide."""
    best, target = recommendation.best, question.target
    if recommendation.phase != "annealed":
        yield Flag(
            "constant_rate_losses",
            "The runs have no points after a decay, so losses at constant learning rate were used. "
            "A decay undoes part of the rise and changes the best pair. Add decay branches.",
        )
    if target.learning_rate is not None:
        yield Flag(
            "learning_rate_held",
            f"The learning rate was fixed at {format_rate(target.learning_rate)} as asked. Another "
            "rate may allow a better pair.",
            values={"learning_rate": target.learning_rate},
        )
    elif best is not None and best.learning_rate is None:
        yield Flag(
            "learning_rate_held",
            "The runs table has no learning rate, so the answer is valid at the runs' rate only. "
            "Whether another rate is better is unknown.",
        )
    elif best is not None and best.learning_rate is not None:
        yield from _about_a_chosen_rate(question, best.learning_rate)


def _about_a_chosen_rate(question: Question, rate: float) -> Iterator[Flag]:
    """A rate without a choice, or at the edge of those of the runs."""
    rates = question.choosable
    if len(rates) == 1 and len({rate for _, rate, _ in question.fit.seen_rates}) > 1:
        yield Flag(
            "learning_rate_by_rule",
            "Every size was trained at one learning rate of its own, so the effect of another rate "
            f"is unknown. {format_rate(rates[0])}, which continues that rule to the target, was "
            "used. Train one size at three rates so that the rate can be chosen.",
            values={"learning_rate": rates[0]},
        )
    elif len(rates) == 1:
        yield Flag(
            "learning_rate_held",
            f"All runs have one learning rate ({format_rate(rates[0])}), so it was used. Another "
            "rate may change the loss more than the share does. Train a few small runs at a third "
            "of it and at three times it.",
            values={"learning_rate": rates[0]},
        )
    elif rate in (rates[0], rates[-1]):
        end, more = ("lowest", "lower") if rate == rates[0] else ("highest", "higher")
        yield Flag(
            "learning_rate_at_edge",
            f"The chosen learning rate {format_rate(rate)} is the {end} of the runs at sizes near "
            f"the target. A {more} one may be better. Add runs there.",
            values={"learning_rate": rate},
        )


def _about_the_certainty(recommendation: Recommendation) -> Iterator[Flag]:
    """An interval that is wide or odd, and laws that allow different shares."""
    interval = recommendation.ratio_interval
    if recommendation.best and None not in (interval.low, interval.high):
        yield from _about_the_interval(interval, recommendation)
    alone = recommendation.ratio_by_law
    if alone and max(alone.values()) - min(alone.values()) > LAWS_DISAGREE:
        said = ", ".join(f"{law} {format_share(ratio)}" for law, ratio in sorted(alone.items()))
        yield Flag(
            "laws_disagree",
            f"The laws of the general loss allow different shares: {said}. Train a run between "
            "them to decide.",
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
