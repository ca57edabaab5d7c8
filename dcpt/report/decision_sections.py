"""The first half of a report: the answer, the trade-off, other shares, rates, the verification."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dcpt.decide.records import Recommendation, Verification
from dcpt.decide.words import binding_channel, format_share
from dcpt.quantities import format_count
from dcpt.report.figures import (
    base_general_loss,
    draw_verified,
    frontier_at,
    plot_domain_cost,
    plot_frontier,
    plot_general_rise,
    verified_channels,
)
from dcpt.report.parts import Bullets, Group, Part, Picture, Section, Tabled, Text, Tile, Warned
from dcpt.report.tables import (
    alternatives_table,
    choices_table,
    losses_table,
    rates_table,
    verification_table,
)
from dcpt.report.theme import new_axes, scale_roles, to_svg
from dcpt.report.words import (
    channel_name,
    nats,
    percent,
    probability,
    rate,
    share_span,
    span,
)


def answer_sentence(recommendation: Recommendation) -> str:
    """The answer in one sentence."""
    best, limit = recommendation.best, recommendation.target.limit
    if best is None:
        return f"No share of domain text keeps the general loss within {limit} of the base."
    if best.learning_rate is None:
        return f"Train with {percent(best.ratio)} domain text."
    return (
        f"Train with {percent(best.ratio)} domain text at a learning rate of "
        f"{rate(best.learning_rate)}."
    )


def question_line(recommendation: Recommendation) -> str:
    """What was asked: size, tokens and limit of the large run."""
    target = recommendation.target
    base = f"{target.base}, " if target.base else ""
    return (
        f"{base}{format_count(target.n_params)} parameters, {format_count(target.n_tokens)} "
        f"tokens, general loss at most {target.limit}"
    )


def lead_sentences(
    recommendation: Recommendation, verification: Verification | None, warnings: int
) -> str:
    """What follows from the answer, in a few sentences.

    Args:
        recommendation: The answer.
        verification: What the trained runs gave, if any.
        warnings: How many there are.
    """
    best, base = recommendation.best, base_general_loss(recommendation)
    if best is None:
        frontier = frontier_at(recommendation)
        least = min(min(f.general) for f in recommendation.frontiers) if frontier else None
        text = (
            f"The least general loss predicted at any share and learning rate is {nats(least)} "
            f"nats per token; the base stands at {nats(base)} and the limit at "
            f"{nats(recommendation.allowed_general_loss)}."
        )
    else:
        domain = best.losses[recommendation.domain_channel]
        general = binding_channel(recommendation, best)
        when = (
            "after its final decay"
            if recommendation.phase == "annealed"
            else ("at constant learning rate")
        )
        text = (
            f"Measured {when}, {general.name} should then stand at {nats(general.loss)} nats per "
            f"token, {nats(general.loss - general.base, sign=True)} from the base's "
            f"{nats(general.base)}, and the domain loss at {nats(domain.value)}. The chance of "
            f"staying within the limit is {probability(best.probability)}{_safer(recommendation)}."
        )
    if verification is not None:
        text += " " + verification_sentence(verification)
    if warnings:
        text += (
            " Read the warning below." if warnings == 1 else f" Read the {warnings} warnings below."
        )
    return text


def _safer(recommendation: Recommendation) -> str:
    """The pair that keeps the limit in nine of ten draws, where the best one does not."""
    best, safe = recommendation.best, recommendation.alternatives.get("safe")
    if best is None or safe is None or safe.ratio >= best.ratio:
        return ""
    at = "" if safe.learning_rate is None else f" at {rate(safe.learning_rate)}"
    return (
        f"; for {probability(safe.probability)}, take {percent(safe.ratio)} domain text{at} and "
        f"give away {nats(safe.regret.value)} nats of domain loss"
    )


def verification_sentence(verification: Verification) -> str:
    """Whether the prediction held, said as plainly when it did not."""
    held = "the measured losses lie inside the predicted intervals"
    missed = "a measured loss lies OUTSIDE its predicted interval (a miss)"
    limit = "within the limit" if verification.limit_held else "BEYOND the limit"
    return (
        f"The large run was really trained: at the recommendation "
        f"{held if verification.recommendation_held else missed}, and the general loss is {limit}."
    )


def answer_tiles(recommendation: Recommendation) -> list[Tile]:
    """The numbers that matter."""
    best, base = recommendation.best, base_general_loss(recommendation)
    level = percent(recommendation.level)
    allowed = recommendation.allowed_general_loss
    limit = Tile(
        "Limit on the general loss",
        nats(allowed),
        f"{recommendation.target.limit} from the base's {nats(base)}",
    )
    if best is None:
        return [Tile("Share of domain text", "none", "no share meets the limit"), limit]
    rates = recommendation.learning_rate_interval
    if rates is None or rates.low is None or rates.high is None:
        about_rate = "held, not chosen"
    else:
        about_rate = f"{level} interval {rate(rates.low)} to {rate(rates.high)}"
        if rates.low == rates.high:
            about_rate = f"chosen in {level} of the draws"
    general = best.losses[recommendation.general_channel]
    domain = best.losses[recommendation.domain_channel]
    before = recommendation.target.base_losses.get(recommendation.domain_channel)
    return [
        Tile(
            "Share of domain text",
            format_share(best.ratio),
            f"{level} interval {share_span(recommendation.ratio_interval)}",
        ),
        Tile("Learning rate (peak)", rate(best.learning_rate), about_rate),
        Tile(
            "General loss, predicted",
            nats(general.value),
            f"{span(general)}; base {nats(base)}",
        ),
        Tile(
            "Domain loss, predicted",
            nats(domain.value),
            f"{span(domain)}; base {nats(before)}",
        ),
        Tile(
            "Chance to stay within the limit",
            probability(best.probability),
            f"limit {nats(allowed)}",
        ),
    ]


def trade_off_section(
    recommendation: Recommendation, size_of_token: Mapping[str, float]
) -> Section:
    """Predicted losses, the trade-off and the frontier."""
    parts: list[Part] = [
        Text(
            "More domain text makes the model better at the domain and worse at everything else. "
            "Small runs were trained at different shares; a formula fitted to their losses (a law) "
            "says what the large run would give at each share. Shaded bands hold "
            f"{percent(recommendation.level)} of what resampled runs and rival laws predict."
        )
    ]
    if recommendation.best is not None:
        parts.append(
            Tabled(
                losses_table(recommendation, size_of_token),
                "Losses before and after, nats per token",
            )
        )
    if recommendation.frontiers:
        parts += [_trade_off_picture(recommendation), _frontier_picture(recommendation)]
    return Section("trade-off", "The trade-off", parts)


def _trade_off_picture(recommendation: Recommendation) -> Picture:
    """General rise and domain loss against the share."""
    frontier = frontier_at(recommendation)
    at = ""
    if frontier is not None and frontier.learning_rate is not None:
        at = f" at learning rate {rate(frontier.learning_rate)}"
    finding = _trade_off_finding(recommendation)
    return Picture(
        [
            Group(
                [
                    to_svg(
                        plot_general_rise(recommendation),
                        f"Rise of the general loss against the share of domain text{at}: "
                        f"{finding}.",
                    ),
                    to_svg(
                        plot_domain_cost(recommendation),
                        f"Domain loss against the share of domain text{at}.",
                    ),
                ]
            )
        ],
        f"What to see: {finding}.",
        [
            ("general loss", "general"),
            ("domain loss", "domain"),
            ("recommended share r* and its interval", "pick"),
            ("circles: shares that people often choose", ""),
            ("dashed: the limit", ""),
        ],
    )


def _trade_off_finding(recommendation: Recommendation) -> str:
    """What the trade-off shows: where the limit is met, and what ten more points would do."""
    best, frontier = recommendation.best, frontier_at(recommendation)
    if best is None or frontier is None:
        return "the general loss stays above the dashed limit at every share"
    allowed = recommendation.allowed_general_loss - base_general_loss(recommendation)
    binds = abs((best.general_rise.value or 0.0) - allowed) < 2e-3
    met = (
        f"the general loss climbs to the dashed limit at {percent(best.ratio)} domain text"
        if binds
        else f"the general loss is below the dashed limit at {percent(best.ratio)} domain text"
    )
    more = min(best.ratio + 0.1, frontier.ratio[-1])
    general, domain = (
        float(
            np.interp(more, frontier.ratio, losses) - np.interp(best.ratio, frontier.ratio, losses)
        )
        for losses in (frontier.general, frontier.domain)
    )
    points = 100 * (more - best.ratio)
    if points < 1:
        return met
    return (
        f"{met}; {points:.0f} points more would move the general loss by "
        f"{nats(general, sign=True)} and the domain loss by {nats(domain, sign=True)} nats"
    )


def _frontier_picture(recommendation: Recommendation) -> Picture:
    """Domain loss against general rise over all learning rates."""
    rates = [frontier.learning_rate for frontier in recommendation.frontiers]
    roles = scale_roles(rates)
    finding = (
        "each line runs through all shares at one learning rate; lower and further left is better, "
        "and the best pair is the lowest point left of the limit"
    )
    return Picture(
        [
            Group(
                [
                    to_svg(
                        plot_frontier(recommendation, new_axes(5.3, 3.7)),
                        f"Domain loss against general rise for learning rates "
                        f"{', '.join(rate(value) for value in rates)}; {finding}.",
                    )
                ]
            )
        ],
        f"What to see: {finding} (the green diamond).",
        [(f"rate {rate(value)}", roles[value]) for value in rates],
        "one",
    )


def other_shares_section(recommendation: Recommendation) -> Section:
    """What the usual shares would cost."""
    rates = {habit.learning_rate for habit in recommendation.habits}
    at = (
        f"At learning rate {rate(rates.pop())}: losses" if rates and None not in rates else "Losses"
    )
    return Section(
        "other-shares",
        "What other shares cost",
        [
            Text(
                "Shares that people choose without evidence, at the same learning rate. Domain "
                "regret is the domain loss given away against the recommendation; where it is "
                "negative, the share has a better domain loss and pays with general loss. The "
                "probability is that of staying within the limit."
            ),
            Tabled(choices_table(recommendation), f"{at} in nats per token"),
        ],
    )


def learning_rate_section(recommendation: Recommendation) -> Section:
    """The largest share at each learning rate."""
    held = recommendation.target.learning_rate is not None
    parts: list[Part] = [
        Text(
            "A higher learning rate learns the domain faster and forgets more, so share and rate "
            "are chosen together. "
            + (
                "Here the rate was held as asked."
                if held
                else "For each rate: the largest share within the limit, and the domain loss there."
            )
        ),
        Tabled(rates_table(recommendation), "Largest share within the limit at each learning rate"),
    ]
    others = alternatives_table(recommendation)
    if others is not None:
        parts.append(
            Tabled(others, "Other pairs: the safe one keeps the limit in nine of ten draws")
        )
    return Section("learning-rate", "Learning rate", parts)


def verification_section(verification: Verification | None) -> Section:
    """Predicted beside measured, in words, a figure and a table."""
    if verification is None:
        text = (
            "The large run has not been trained at the recommendation yet: all of the above is "
            "predicted. dcpt verify trains it there and at two neighbouring shares."
        )
        return Section("verification", "Verification", [Text(text)])
    panels = [
        to_svg(
            draw_verified(verification, name, new_axes(4.6, 1.15 + 0.6 * len(verification.runs))),
            f"Predicted and measured {channel_name(name)} loss of the verification runs; the "
            "table below has the numbers.",
        )
        for name in verified_channels(verification)
    ]
    parts: list[Part] = [
        Text(verification_sentence(verification), "verdict"),
        Picture(
            [Group(panels)],
            "What to see: each bar is the predicted interval with its middle, the marker what was "
            "measured; a cross outside the bar is a miss.",
        ),
        Tabled(verification_table(verification), "Predicted beside measured, nats per token"),
        Bullets(list(verification.words), "The same in sentences"),
    ]
    return Section("verification", "Verification", parts)


def warnings_section(
    recommendation: Recommendation, warnings: Sequence[tuple[str, str]]
) -> Section:
    """All warnings in words, and how far the target lies outside the runs.

    Args:
        recommendation: With its extrapolation factors.
        warnings: Name and sentence of each flag, those of the decision first.
    """
    parts: list[Part] = [Warned(name, _sentence(words)) for name, words in warnings]
    if not parts:
        parts.append(Text("None."))
    names = {"n_params": "parameters", "n_tokens": "tokens", "learning_rate": "learning rate"}
    factors = [
        f"{names.get(axis, axis)} {factor:.3g}x"
        for axis, factor in recommendation.extrapolation.items()
        if math.isfinite(factor)
    ]
    if factors:
        parts.append(
            Text(f"How far the target lies outside the runs (1x: inside): {', '.join(factors)}.")
        )
    return Section("warnings", "Warnings", parts)


def _sentence(words: str) -> str:
    """A flag's words with a capital and a full stop."""
    text = words[:1].upper() + words[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
