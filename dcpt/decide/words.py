"""Recommendations and verifications as sentences a newcomer understands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dcpt.decide.records import Choice, Interval, Recommendation, Verification, Verified
from dcpt.decide.worst import GENERAL_WORST, risen_as
from dcpt.quantities import format_count
from dcpt.table.channels import GENERAL_TOTAL


def summarise(recommendation: Recommendation) -> list[str]:
    """Say a recommendation in sentences: the answer first, then how sure, other choices, warnings.

    Args:
        recommendation: Of :func:`dcpt.decide.recommend.recommend`.

    Returns:
        Sentences, at least one.
    """
    return [
        _answer(recommendation),
        *_certainty(recommendation),
        *_elsewhere(recommendation),
        *(f"Warning: {flag.words}." for flag in recommendation.flags),
    ]


def _size(recommendation: Recommendation) -> str:
    target = recommendation.target
    return f"{format_count(target.n_params)} parameters and {format_count(target.n_tokens)} tokens"


def _moment(recommendation: Recommendation) -> str:
    return "after its final decay" if recommendation.phase == "annealed" else "at constant rate"


def format_rate(rate: float) -> str:
    """Write a learning rate for people: ``9e-4``, ``7.22e-4``."""
    digits, exponent = f"{rate:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _rate(rate: float | None) -> str:
    return "" if rate is None else f" at a peak learning rate of {format_rate(rate)}"


def _span(interval: Interval, digits: int = 3, sign: str = "") -> str:
    if interval.low is None or interval.high is None:
        return "no interval"
    return f"{interval.low:{sign}.{digits}f} to {interval.high:{sign}.{digits}f}"


def _limit(recommendation: Recommendation) -> str:
    return f"{recommendation.target.limit} (general loss {recommendation.allowed_general_loss:.3f})"


def _answer(recommendation: Recommendation) -> str:
    best = recommendation.best
    if best is None:
        return (
            f"No share of domain text is within the limit {_limit(recommendation)} for "
            f"{_size(recommendation)}{_looked_at(recommendation)}."
        )
    domain = best.losses[recommendation.domain_channel]
    general = binding_channel(recommendation, best)
    rise = general.loss - general.base
    moves = f"{general.name} {'rises' if rise >= 0 else 'falls'} by {abs(rise):.3f}"
    limit = recommendation.target.limit
    within = f"{limit}" if limit.each else _limit(recommendation)
    return (
        f"Train with {format_share(best.ratio)} domain text and the rest general text"
        f"{_rate(best.learning_rate)}: for {_size(recommendation)}, the domain loss is then "
        f"predicted at {domain.value:.3f} nats per token {_moment(recommendation)}, and "
        f"{moves}, within the limit {within}."
    )


@dataclass(frozen=True)
class General:
    """What a limit is on: channel, name in a sentence, loss, and the base's own, nats per token."""

    channel: str
    name: str
    loss: float
    base: float


def binding_channel(recommendation: Recommendation, choice: Choice) -> General:
    """The general loss; where the limit is on each channel, that of the one that rises most."""
    known, limit = recommendation.target.base_losses, recommendation.target.limit
    channel = recommendation.general_channel
    name = "the general loss"
    if channel == GENERAL_WORST:
        apart = {recommendation.domain_channel, GENERAL_WORST, GENERAL_TOTAL}
        risen = {
            part: risen_as(np.array(loss.value), known[part], known[channel], limit)
            for part, loss in choice.losses.items()
            if part not in apart
        }
        channel = max(risen, key=lambda part: float(risen[part]))
        name = f"{channel}, which rises most of the general channels,"
    base = known[channel]
    value = choice.losses[channel].value
    return General(channel, name, base if value is None else value, base)


def format_share(share: float) -> str:
    """A share to a tenth of a per cent, down: rounding up would step over the limit."""
    return f"{math.floor(share * 1000 + 1e-6) / 10:.1f}%"


def _looked_at(recommendation: Recommendation) -> str:
    held = recommendation.target.learning_rate
    return ", at any learning rate looked at" if held is None else _rate(held)


def _certainty(recommendation: Recommendation) -> list[str]:
    best, percent = recommendation.best, f"{recommendation.level:.0%}"
    if best is None:
        return []
    words = [
        f"{percent} intervals: best share {_span(recommendation.ratio_interval, 2)}, domain loss "
        f"{_span(best.losses[recommendation.domain_channel])}, general rise "
        f"{_span(best.general_rise, sign='+')}.",
    ]
    rates = recommendation.learning_rate_interval
    if rates and rates.low is not None and rates.high is not None and rates.low < rates.high:
        words.append(
            f"With share and learning rate both chosen anew, {percent} of the draws choose a rate "
            f"between {format_rate(rates.low)} and {format_rate(rates.high)}."
        )
    return [*words, _odds(recommendation, best)]


def _odds(recommendation: Recommendation, best: Choice) -> str:
    """How often the limit is kept, and what keeps it more often."""
    safe = recommendation.alternatives.get("safe")
    binds = not any(flag.name == "limit_does_not_bind" for flag in recommendation.flags)
    kept = f"the general loss stays within it in {best.probability:.0%} of the draws"
    if best.probability >= 0.9:
        return f"The limit is likely to hold: {kept}."
    start = "The share goes as far as the limit allows" if binds else "The limit is not what binds"
    words = f"{start}: {kept}"
    if safe is None:
        return f"{words}, and no pair looked at does so in nine of ten."
    return (
        f"{words}; to be safer take {format_share(safe.ratio)} domain text"
        f"{_rate(safe.learning_rate)} ({safe.probability:.0%} of the draws, domain loss "
        f"{safe.regret.value:+.3f} nats)."
    )


def _elsewhere(recommendation: Recommendation) -> list[str]:
    best = recommendation.best
    words = []
    for name, choice in recommendation.alternatives.items():
        rate = choice.learning_rate
        if rate is None or name == "safe" or (best and best.learning_rate == rate):
            continue
        how = name if name.endswith("held") else f"{name} freely ({format_rate(rate)})"
        domain = choice.losses[recommendation.domain_channel].value
        regret = choice.regret.value
        cost = "" if regret is None else f", {regret:+.3f} nats from the recommendation's"
        words.append(
            f"With the {how} the best share is {choice.ratio:.2f}, domain loss {domain:.3f}{cost}."
        )
    return words


def verification_words(recommendation: Recommendation, verification: Verification) -> list[str]:
    """Say what the verifying runs measured, a miss as plainly as a hit.

    Args:
        recommendation: What was recommended.
        verification: Its verification, the words not yet filled in.

    Returns:
        Sentences, the verdict on the limit first.
    """
    general, domain = recommendation.general_channel, recommendation.domain_channel
    allowed = recommendation.allowed_general_loss
    main = next(one for one in verification.runs if one.label == "recommendation")
    rise = main.measured[general] - recommendation.target.base_losses[general]
    verdict = "held" if verification.limit_held else "did NOT hold"
    moved = f"{'rose' if rise >= 0 else 'fell'} by {abs(rise):.3f}"
    words = [
        f"The limit {verdict}: at the recommended share ({main.ratio:.2f}) the general loss "
        f"{moved} to {main.measured[general]:.3f}, and {allowed:.3f} is allowed."
    ]
    if general == GENERAL_WORST:
        words.append(
            "The limit is on each general channel: the general loss told here is what it would be "
            "if all had risen as much as the one that rose most."
        )
    words += [
        _compared(one, channel, verification.level)
        for one in verification.runs
        for channel in one.measured
    ]
    words.append(_best_words(verification, main, domain))
    ratio = verification.measured_ratio
    if ratio is None:
        words.append(
            "The trained runs do not bracket the limit, so the measured largest share is not "
            "known: all of them are on one side of it."
        )
    else:
        lies = "inside" if verification.ratio_held else "OUTSIDE"
        words.append(
            f"Between the trained runs the general loss crosses the limit at a share of about "
            f"{ratio:.2f}, {lies} the interval of the recommendation "
            f"({_span(recommendation.ratio_interval, 2)})."
        )
    return words


def _compared(one: Verified, channel: str, level: float) -> str:
    predicted, measured = one.predicted[channel], one.measured[channel]
    lies = "inside" if one.inside[channel] else "OUTSIDE"
    error = measured - (predicted.value or 0.0)
    return (
        f"{one.label[0].upper()}{one.label[1:]} ({one.ratio:.2f}), {channel} loss: predicted "
        f"{predicted.value:.3f} ({level:.0%}: {_span(predicted)}), measured {measured:.3f} "
        f"({error:+.3f}), {lies} the interval."
    )


def _best_words(verification: Verification, main: Verified, domain: str) -> str:
    if verification.best_measured is None:
        return "None of the trained runs is within the limit."
    if verification.best_measured == main.label:
        return (
            "Of the trained runs within the limit, the recommendation has the lowest domain loss."
        )
    best = next(one for one in verification.runs if one.label == verification.best_measured)
    gain = main.measured[domain] - best.measured[domain]
    if verification.limit_held:
        return (
            f"Of the trained runs within the limit, the {best.label} ({best.ratio:.2f}) has the "
            f"lowest domain loss, {gain:.3f} nats below the recommendation's: the recommendation "
            "was too cautious."
        )
    side = "below" if gain > 0 else "above"
    return (
        f"Of the trained runs within the limit, the {best.label} ({best.ratio:.2f}) has the lowest "
        f"domain loss, {abs(gain):.3f} nats {side} the recommendation's, which broke the limit."
    )
