"""A recommendation in sentences for newcomers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcpt.decide.general_mix import say_mix
from dcpt.decide.limited_channels import GENERAL
from dcpt.decide.records import LARGEST_RATIO, Choice, Recommendation, Verified
from dcpt.decide.worst_channel import as_worst
from dcpt.flags import Flag, show_flags
from dcpt.limit import Limit
from dcpt.quantities import (
    format_chance,
    format_count,
    format_difference,
    format_differences,
    format_loss,
    format_losses,
    format_percent,
    format_rate,
    format_share,
    format_shares,
)
from dcpt.table.channels import GENERAL_TOTAL


def summarise(recommendation: Recommendation) -> list[str]:
    """Describe a recommendation: headline, reasons, intervals, other pairs, warnings.

    Args:
        recommendation: The result of :func:`dcpt.decide.recommend.recommend`.

    Returns:
        Sentences, at least one.

    Examples:
        >>> print(dcpt.summarise(recommendation)[0])
        Tentative: train with 5... % domain text at a peak learning rate of ...
    """
    return [*describe(recommendation), *show_flags(unexplained_flags(recommendation))]


def describe(recommendation: Recommendation) -> list[str]:
    """The sentences of :func:`summarise` without the warnings."""
    return [
        headline(recommendation),
        *expectation(recommendation),
        *reasons(recommendation),
        *_certainty(recommendation),
        *_repetition(recommendation),
        *equivalent(recommendation),
        *_mix(recommendation),
        *recommendation.horizon,
        *_elsewhere(recommendation),
    ]


def unexplained_flags(recommendation: Recommendation) -> list[Flag]:
    """The warnings, most important first, without those that repeat a reason of the evidence."""
    said = {reason.label for reason in recommendation.evidence.reasons}
    return [flag for flag in recommendation.flags if flag.label not in said]


def headline(recommendation: Recommendation) -> str:
    """The answer in one line, as strong as its evidence."""
    evidence, best = recommendation.evidence, recommendation.best
    if evidence.level == "not enough evidence":
        needed = "; ".join(dict.fromkeys(reason.needed for reason in evidence.reasons))
        return f"Not enough evidence to recommend a share of domain text: first {needed}."
    if best is None:
        limit = recommendation.target.limit
        keeps = f"the limits {recommendation.target.limits_in_words}"
        if limit is not None and len(recommendation.limits) == 1:
            keeps = f"the general loss within {limit} of the base's"
        text = f"no share of domain text keeps {keeps}{_at_odds(recommendation)}"
    else:
        text = f"train with {describe_answer(recommendation, best)}."
    return f"Tentative: {text}" if evidence.level == "tentative" else text[0].upper() + text[1:]


def describe_answer(recommendation: Recommendation, best: Choice) -> str:
    """The recommended pair as text; with the share of every source where all were chosen."""
    if not recommendation.shares:
        return describe_pair(best)
    *first, last = (
        f"{format_share(share.value or 0.0)} {name}"
        for name, share in recommendation.shares.items()
    )
    return f"{', '.join(first)} and {last} text{_at_rate(best)}"


def describe_pair(choice: Choice | Verified) -> str:
    """Share and learning rate as text."""
    return f"{format_share(choice.ratio)} domain text{_at_rate(choice)}"


def _at_rate(choice: Choice | Verified) -> str:
    rate = choice.learning_rate
    return "" if rate is None else f" at a peak learning rate of {format_rate(rate)}"


def expectation(recommendation: Recommendation) -> list[str]:
    """The predictions at the answer, called an estimate where the evidence is not enough."""
    best, weak = recommendation.best, recommendation.evidence.level == "not enough evidence"
    if best is None:
        held = recommendation.target.learning_rate
        where = "any learning rate in the grid" if held is None else f"{format_rate(held)}"
        text = (
            f"No share of domain text is within the limit {_limit(recommendation)} for "
            f"{_size(recommendation)} at {where}{_at_odds(recommendation)}"
        )
        said = [f"Estimate: {text[0].lower()}{text[1:]}" if weak else text]
        central = recommendation.central
        return said if central is None else [*said, price_of_certainty(recommendation, central)]
    domain = best.losses[recommendation.domain_channel]
    losses = (
        f"the domain loss is predicted to be {format_loss(domain.value)} nats per token "
        f"{_moment(recommendation)}{_general_words(recommendation, best)}."
    )
    start = f"For {_size(recommendation)}"
    if weak:
        answer = describe_answer(recommendation, best)
        start = f"Estimate, not a recommendation: {answer}. {start}"
    return [f"{start} {losses}", *odds(recommendation, best)]


def _general_words(recommendation: Recommendation, best: Choice) -> str:
    """The end of a sentence: what becomes of the general loss, and its limit."""
    general = binding_channel(recommendation, best)
    if general is None:
        return "; no general loss is known, so neither is what the model forgets"
    rise = general.loss - general.base
    words = (
        f", and {general.name} {'rises' if rise >= 0 else 'falls'} by {format_loss(abs(rise))} to "
        f"{format_loss(general.loss)}"
    )
    target = recommendation.target
    if target.weights:
        words += f"; the {target.minimized_in_words} is minimized"
    if general.limit is None:
        return words if target.weights else f"{words}; no limit was asked for"
    if len(recommendation.limits) == 1:
        return f"{words}; the limit is {_limit(recommendation)}"
    if is_limit_on_each(recommendation):
        return f"{words}; the limit is {general.limit}"
    return f"{words}; the limits are {target.limits_in_words}"


def is_limit_on_each(recommendation: Recommendation) -> bool:
    """Whether a single limit holds for every general channel, and no channel has its own."""
    target = recommendation.target
    return target.limit is not None and target.limit.each and not target.channel_limits


def _at_odds(recommendation: Recommendation) -> str:
    """The end of a sentence about no share: with the odds, if a share is within by prediction."""
    if recommendation.central is None:
        return "."
    return f" in {format_percent(recommendation.target.confidence)} of the bootstrap draws."


def _size(recommendation: Recommendation) -> str:
    target = recommendation.target
    return f"{format_count(target.n_params)} parameters and {format_count(target.n_tokens)} tokens"


def _moment(recommendation: Recommendation) -> str:
    decayed = recommendation.phase == "annealed"
    return "after the final decay" if decayed else "at constant learning rate"


def _limit(recommendation: Recommendation) -> str:
    allowed = format_loss(recommendation.allowed_general_loss)
    return f"{recommendation.target.limits_in_words} (general loss {allowed})"


def reasons(recommendation: Recommendation) -> list[str]:
    """Why the evidence is not stronger, as a single paragraph."""
    evidence = recommendation.evidence
    if not evidence.reasons:
        return []
    why = " ".join(reason.sentence for reason in evidence.reasons)
    start = "Why tentative" if evidence.level == "tentative" else "Why not enough"
    return [f"{start}: {why}"]


@dataclass(frozen=True)
class General:
    """The general loss that a limit is on.

    Args:
        channel: The channel.
        name: Its name in a sentence.
        loss: Its loss, nats per token.
        base: The base's own loss of it, nats per token.
        limit: Its limit; None without one.
    """

    channel: str
    name: str
    loss: float
    base: float
    limit: Limit | None

    @property
    def allowed(self) -> float | None:
        """The largest loss within its limit, nats per token; None without one."""
        return None if self.limit is None else self.limit.on(self.base)


def binding_channel(recommendation: Recommendation, choice: Choice) -> General | None:
    """The general loss; with limits on several channels, that of the binding channel."""
    losses = {name: interval.value for name, interval in choice.losses.items()}
    known = {name: loss for name, loss in losses.items() if loss is not None}
    return most_risen(recommendation, known)


def most_risen(recommendation: Recommendation, losses: dict[str, float]) -> General | None:
    """Pick the general loss; with limits on several channels, the loss nearest to its limit.

    Args:
        recommendation: The recommendation, for its base losses and limits.
        losses: Predicted or measured losses by channel, nats per token.

    Returns:
        None where there is no general loss, or that of the base is not known.
    """
    known, limits = recommendation.target.base_losses, recommendation.limits
    channel, name = recommendation.general_channel, "the general loss"
    if len(limits) > 1:
        nearness = {
            part: float(as_worst(np.array(losses[part]), part, limits, known))
            for part in limits
            if part in losses
        }
        channel = max(nearness, key=lambda part: nearness[part])
        name = f"the loss of {channel}, the binding channel,"
    elif limits and channel not in (GENERAL, GENERAL_TOTAL) and recommendation.target.limit is None:
        name = f"the loss of {channel}"
    if channel is None or channel not in known:
        return None
    loss = losses.get(channel, known[channel])
    return General(channel, name, loss, known[channel], limits.get(channel))


def limit_binds(recommendation: Recommendation) -> bool:
    """Whether the recommended share is the largest that keeps the limit, which then decides it.

    The shares are compared, not the losses: on a cliff the general loss may be far below the limit
    0.001 before the share at which it crosses it.
    """
    best = recommendation.best
    if best is None or not recommendation.limits or best.ratio >= LARGEST_RATIO - 1e-6:
        return False
    for frontier in recommendation.frontiers:
        if frontier.learning_rate == best.learning_rate:
            largest = frontier.kept_ratio
            return largest is not None and best.ratio >= largest - 1e-6
    return False


def odds(recommendation: Recommendation, best: Choice) -> list[str]:
    """The chance of staying within the limit, and what even odds would give; empty without one."""
    if best.probability is None:
        return []
    chance, asked = (
        format_chance(best.probability),
        format_percent(recommendation.target.confidence),
    )
    if limit_binds(recommendation):
        words = f"The chance of staying within the limit is {chance}; {asked} was asked for."
    else:
        words = f"The chance of staying within the limit is {chance}."
    central = recommendation.central
    if central is None or central.pair == best.pair:
        return [words]
    return [f"{words} {price_of_certainty(recommendation, central)}"]


def price_of_certainty(recommendation: Recommendation, central: Choice) -> str:
    """The pair that the central predictions choose, its odds, and the loss that it gains."""
    assert central.probability is not None  # there is a price where there is a limit
    gain, chance = central.regret.value, format_chance(central.probability)
    words = f"By the central predictions alone the best pair is {describe_pair(central)}, with a "
    words += f"chance of {chance}"
    loss = recommendation.target.minimized_in_words
    if gain is None:
        return f"{words}."
    if gain > 0:
        return f"{words} and a {loss} {format_loss(gain)} nats higher."
    return f"{words} and a {loss} {format_loss(-gain)} nats lower: the price of certainty."


def _certainty(recommendation: Recommendation) -> list[str]:
    best, percent = recommendation.best, format_percent(recommendation.level)
    if best is None:
        return []
    share, rise = recommendation.ratio_interval, best.general_rise
    domain = best.losses[recommendation.domain_channel]
    general = f", general rise {format_differences(rise.low, rise.high)}"
    words = [
        f"{percent} intervals: best share {format_shares(share.low, share.high)}, domain loss "
        f"{format_losses(domain.low, domain.high)}{general if rise.value is not None else ''}."
    ]
    rates = recommendation.learning_rate_interval
    if rates and rates.low is not None and rates.high is not None and rates.low < rates.high:
        words.append(
            f"When share and learning rate are both optimized again in each bootstrap draw, "
            f"{percent} of the rates lie between {format_rate(rates.low)} and "
            f"{format_rate(rates.high)}."
        )
    return words


def _repetition(recommendation: Recommendation) -> list[str]:
    """How often the domain text is repeated, and what more of it would give."""
    target, best, domain = recommendation.target, recommendation.best, recommendation.domain_channel
    unique = target.unique_tokens.get(domain)
    if best is None or unique is None or best.ratio * target.n_tokens <= unique:
        return []
    epochs = best.ratio * target.n_tokens / unique
    words = [
        f"The {format_count(unique)} unique tokens of domain text are read {epochs:.2g} times."
    ]
    more = recommendation.twice_the_text
    if more is not None and more.regret.value is not None:
        gain = more.regret.value
        words.append(
            f"With twice as much domain text the best pair would be {describe_pair(more)}, and the "
            f"domain loss {format_loss(abs(gain))} nats {'lower' if gain < 0 else 'higher'}."
        )
    elif more is None:
        words.append("No law that predicts the domain loss here depends on the amount of text.")
    return [" ".join(words)]


def equivalent(recommendation: Recommendation) -> list[str]:
    """What the share is worth in tokens and in model size, against the nearest common share."""
    found = recommendation.equivalent
    if found is None:
        return []
    of_level = f"{format_percent(recommendation.level)} interval "
    needs = []
    for factor, what in (
        (found.tokens, "the tokens"),
        (found.parameters, "the parameters with as many tokens"),
    ):
        if factor is not None:
            low, high = factor.low or 0.0, factor.high or 0.0
            needs.append(f"{factor.value:.2f} times {what} ({of_level}{low:.2f} to {high:.2f})")
            of_level = ""
    words = [
        f"What the share is worth in {what} is not known: {why}."
        for what, why in found.unknown.items()
    ]
    if needs:
        words.insert(
            0,
            f"For the same domain loss, {format_share(found.share)} domain text at this learning "
            f"rate would need {', or '.join(needs)}.",
        )
    return [" ".join(words)]


def _mix(recommendation: Recommendation) -> list[str]:
    """The mix of the general text that the answer is for, where it is known."""
    mix, shares = recommendation.target.mix, recommendation.shares
    if not mix:
        return []
    if not shares:
        return [f"The mix of the general text: {say_mix(mix)}."]
    if recommendation.best is None:
        return [f"Every mix of the general text was compared; what follows is for {say_mix(mix)}."]
    intervals = ", ".join(
        f"{name} {format_shares(share.low, share.high)}" for name, share in shares.items()
    )
    return [
        f"The mix of the general text was chosen too: {say_mix(mix)}. All other pairs are for this "
        f"mix. {format_percent(recommendation.level)} intervals of the shares when all are "
        f"optimized again in each bootstrap draw: {intervals}."
    ]


def _elsewhere(recommendation: Recommendation) -> list[str]:
    best = recommendation.best
    words = []
    for name, choice in recommendation.alternatives.items():
        rate = choice.learning_rate
        if rate is None or (best and best.learning_rate == rate):
            continue
        how = f"is fixed at {format_rate(rate)}"
        if not name.endswith("held"):
            how = f"is chosen freely ({format_rate(rate)})"
        domain = choice.losses[recommendation.domain_channel].value
        regret = choice.regret.value
        cost = "" if regret is None else f" ({format_difference(regret)} nats)"
        if recommendation.target.weights and regret is not None:
            cost = f" (mean loss {format_difference(regret)} nats)"
        outside = ", outside those of the runs" if choice.outside_runs else ""
        words.append(
            f"If the learning rate {how}, the best share is {format_share(choice.ratio)}{outside}, "
            f"with a domain loss of {format_loss(domain)}{cost}."
        )
    return words
