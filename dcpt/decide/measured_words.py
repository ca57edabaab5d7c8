"""A verification as sentences: what was measured first, then how the predictions did."""

from __future__ import annotations

from dcpt.decide.limited_channels import mean_loss
from dcpt.decide.records import Recommendation, Verification, Verified
from dcpt.decide.sentences import describe_pair, most_risen
from dcpt.decide.worst_channel import GENERAL_WORST
from dcpt.quantities import (
    format_count,
    format_difference,
    format_loss,
    format_losses,
    format_percent,
    format_share,
    format_shares,
)


def measured_headline(recommendation: Recommendation, verification: Verification) -> str:
    """State in one line whether the recommended pair met the limit, and the best trained pair."""
    main, best = verification.main, verification.best
    if verification.limit_held is None:
        return _headline_without_limit(recommendation, verification)
    limit = recommendation.target.limits_in_words
    margin = verification.limit_margin
    verdict = f"Measured: {describe_pair(main)} keeps the limit of {limit}"
    if not verification.limit_held:
        by = "" if margin is None else f" by {format_loss(-margin)} nats"
        verdict = f"Measured: {describe_pair(main)} exceeds the limit of {limit}{by}"
    if verification.limit_within_noise:
        verdict += ", within noise"
    if best is None:
        return f"{verdict}. None of the trained pairs is within the limit."
    if best is main:
        return f"{verdict} and is the best of the trained pairs."
    return f"{verdict}. The best trained pair within the limit is {describe_pair(best)}."


def _headline_without_limit(recommendation: Recommendation, verification: Verification) -> str:
    main, best = verification.main, verification.best
    words = f"Measured: {describe_pair(main)} gives a {recommendation.target.minimized_in_words} of"
    words += f" {format_loss(_minimized(recommendation, main))}"
    if best is None or best is main:
        return f"{words}, the lowest of the trained pairs."
    return f"{words}. The lowest of the trained pairs is that of {describe_pair(best)}."


def _minimized(recommendation: Recommendation, run: Verified) -> float:
    """The measured loss that the target minimizes, nats per token."""
    weights = recommendation.target.weights or {recommendation.domain_channel: 1.0}
    return float(mean_loss(weights, run.measured))


def verification_words(recommendation: Recommendation, verification: Verification) -> list[str]:
    """State what the verification runs measured, misses as plainly as hits.

    Args:
        recommendation: What was recommended.
        verification: Its verification; ``words`` is not read.

    Returns:
        Sentences: the headline, the findings, then every run and channel.
    """
    return [
        measured_headline(recommendation, verification),
        *verification_findings(recommendation, verification),
        *(
            _compared(run, channel, verification.level)
            for run in verification.runs
            for channel in run.measured
            if channel != GENERAL_WORST
        ),
    ]


def verification_findings(recommendation: Recommendation, verification: Verification) -> list[str]:
    """State what the runs show together: limit, noise, direction of the misses, largest share.

    Args:
        recommendation: What was recommended.
        verification: Its verification.
    """
    words = _limit_words(recommendation, verification)
    words += _direction_words(recommendation, verification)
    if verification.fitted:
        words.append(
            f"The fit contains {len(verification.fitted)} of these "
            f"{len(verification.runs)} runs, so they do not test its predictions."
        )
    words.append(_best_words(recommendation, verification))
    if verification.limit_held is None:
        return words
    ratio, interval = verification.measured_ratio, recommendation.ratio_interval
    if ratio is None:
        words.append(
            "All trained runs are on one side of the limit, so the largest share within it was not "
            "measured."
        )
    else:
        lies = "inside" if verification.ratio_held else "OUTSIDE"
        words.append(
            "Interpolated between the trained runs, the general loss crosses the limit at a share "
            f"of about {format_percent(ratio)}, {lies} the predicted interval "
            f"({format_shares(interval.low, interval.high)})."
        )
    return words


def _limit_words(recommendation: Recommendation, verification: Verification) -> list[str]:
    """Whether the limit was kept, in one sentence; empty without a limit."""
    main = verification.main
    general = most_risen(recommendation, main.measured)
    if general is None or general.allowed is None:
        return []
    rise = general.loss - general.base
    verdict = "held" if verification.limit_held else "did NOT hold"
    noise = verification.limit_within_noise
    if noise is not None:
        error = main.standard_errors.get(general.channel)
        known = "" if error is None else f" (standard error {format_loss(error)})"
        verdict += f", within noise{known}" if noise else f", beyond noise{known}"
    return [
        f"The limit {verdict}: at {format_share(main.ratio)} domain text {general.name} "
        f"{'rose' if rise >= 0 else 'fell'} by {format_loss(abs(rise))} to "
        f"{format_loss(general.loss)}, and the limit allows {format_loss(general.allowed)}."
    ]


def _direction_words(recommendation: Recommendation, verification: Verification) -> list[str]:
    """Channels whose losses all runs miss in the same direction, in one sentence."""
    sided = {c: off for c, off in verification.one_sided.items() if c != GENERAL_WORST}
    if not sided:
        return []
    misses = [
        f"{_side_of(recommendation, channel)} {format_loss(abs(off))} nats "
        f"{'lower' if off < 0 else 'higher'} than predicted"
        for channel, off in sided.items()
    ]
    count = f"In all {format_count(len(verification.runs))} runs"
    measured = {channel for run in verification.runs for channel in run.measured} - {GENERAL_WORST}
    if len(sided) > 1 and set(sided) == measured and len({off < 0 for off in sided.values()}) == 1:
        direction = "lower" if next(iter(sided.values())) < 0 else "higher"
        return [
            f"{count} every loss is {direction} than predicted: {'; '.join(misses)} (on average)."
        ]
    return [f"{count} {'; '.join(misses)} (on average)."]


def _side_of(recommendation: Recommendation, channel: str) -> str:
    if channel == recommendation.domain_channel:
        return "the domain loss is"
    if channel == recommendation.general_channel:
        return "the general loss is"
    return f"the loss of {channel} is"


def _compared(run: Verified, channel: str, level: float) -> str:
    predicted, measured = run.predicted[channel], run.measured[channel]
    lies = {True: "inside the interval", False: "OUTSIDE the interval", None: "no interval"}
    off = None if predicted.value is None else measured - predicted.value
    return (
        f"{run.label[0].upper()}{run.label[1:]} ({format_share(run.ratio)}), {channel} loss: "
        f"measured {format_loss(measured)}, predicted {format_loss(predicted.value)} "
        f"({format_percent(level)} interval {format_losses(predicted.low, predicted.high)}), "
        f"difference {format_difference(off)}, {lies[run.inside.get(channel)]}."
    )


def _best_words(recommendation: Recommendation, verification: Verification) -> str:
    main, best = verification.main, verification.best
    loss = recommendation.target.minimized_in_words
    if best is None:
        return "None of the trained runs is within the limit."
    which = "Of the trained runs"
    which += "" if verification.limit_held is None else " within the limit"
    if best is main:
        return f"{which}, the recommendation has the lowest {loss}."
    gain = _minimized(recommendation, main) - _minimized(recommendation, best)
    start = (
        f"{which}, the {best.label} ({format_share(best.ratio)}) has "
        f"the lowest {loss}, {format_loss(abs(gain))} nats "
    )
    if verification.limit_held is None:
        return f"{start}below the recommendation's."
    if verification.limit_held:
        return f"{start}below the recommendation's: the recommendation was too cautious."
    side = "below" if gain > 0 else "above"
    return f"{start}{side} the recommendation's, which exceeded the limit."
