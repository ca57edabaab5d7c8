"""The tiles at the head of a report: the most important numbers of an answer."""

from __future__ import annotations

from dcpt.decide.records import Choice, Recommendation
from dcpt.decide.sentences import binding_channel
from dcpt.decide.worst_channel import GENERAL_WORST
from dcpt.quantities import format_percent
from dcpt.report.cells import nats, percent, probability, rate, share_span, span
from dcpt.report.decision_figures import base_general_loss
from dcpt.report.parts import Tile


def answer_tiles(recommendation: Recommendation) -> list[Tile]:
    """The most important numbers."""
    best, level = recommendation.best, format_percent(recommendation.level)
    if best is None:
        none = Tile("Share of domain text", "none", "no share meets the limit")
        return [none, _limit_tile(recommendation)]
    rates = recommendation.learning_rate_interval
    if rates is None or rates.low is None or rates.high is None:
        about_rate = "fixed, not chosen"
    else:
        about_rate = f"{level} interval {rate(rates.low)} to {rate(rates.high)}"
        if rates.low == rates.high:
            about_rate = f"chosen in {level} of the bootstrap draws"
    domain = best.losses[recommendation.domain_channel]
    before = recommendation.target.base_losses.get(recommendation.domain_channel)
    weak = recommendation.evidence.level == "not enough evidence"
    return [
        Tile(
            "Share of domain text" + (", estimate" if weak else ""),
            percent(best.ratio),
            f"{level} interval of the best share {share_span(recommendation.ratio_interval)}"
            + _other_shares(recommendation),
        ),
        Tile("Learning rate (peak)", rate(best.learning_rate), about_rate),
        *_general_tile(recommendation, best),
        Tile(
            "Domain loss, predicted",
            nats(domain.value),
            f"{span(domain)}; base {nats(before)}",
        ),
        *_odds_tile(recommendation, best),
    ]


def _other_shares(recommendation: Recommendation) -> str:
    """The shares of the general sources, where all shares were chosen; else empty."""
    mix = recommendation.target.mix
    shares = {name: of for name, of in recommendation.shares.items() if name in mix}
    return "".join(f"; {name} {percent(share.value)}" for name, share in shares.items())


def _limit_tile(recommendation: Recommendation) -> Tile:
    """The limit, on the general loss or on several channels."""
    words, base = recommendation.target.limits_in_words, base_general_loss(recommendation)
    if recommendation.general_channel == GENERAL_WORST:
        return Tile("Limits on channels", words, "from the base's own losses of them")
    allowed = recommendation.allowed_general_loss
    return Tile("Limit on the general loss", nats(allowed), f"{words} from the base's {nats(base)}")


def _odds_tile(recommendation: Recommendation, best: Choice) -> list[Tile]:
    """The chance of staying within the limit; empty without one."""
    if best.probability is None:
        return []
    chance = probability(best.probability)
    words = _about_the_odds(recommendation)
    return [Tile("Chance of staying within the limit", chance, words)]


def _about_the_odds(recommendation: Recommendation) -> str:
    """The odds that were asked for, and their price in the loss that is minimized."""
    central = recommendation.central
    target = recommendation.target
    asked = f"{format_percent(target.confidence)} asked"
    if central is None or central.regret.value is None or central.regret.value >= 0:
        return asked
    return (
        f"{asked}, at a price of {nats(-central.regret.value)} nats of {target.minimized_in_words}"
    )


def _general_tile(recommendation: Recommendation, best: Choice) -> list[Tile]:
    """The general loss; with limits on several channels, that of the binding channel."""
    general = binding_channel(recommendation, best)
    if general is None:
        return []
    name = "General loss, predicted"
    if recommendation.general_channel == GENERAL_WORST:
        name = f"Loss of {general.channel}, predicted (nearest to its limit)"
    interval = best.losses[general.channel]
    return [Tile(name, nats(interval.value), f"{span(interval)}; base {nats(general.base)}")]
