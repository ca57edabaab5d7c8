"""The first half of a report: the answer, the trade-off, other shares, rates, the verification."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dcpt.decide.records import Recommendation, Verification
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
        f"{base}{format_count(target.n_params)} parameters, {format_count(target.n_tokens)} tokens, "
        f"general loss at most {target.limit}"
    )


def lead_sentences(recommendation: Recommendation, verification: Verification | None) -> str:
    """What follows from the answer, in two or three sentences."""
    best, base = recommendation.best, base_general_loss(recommendation)
    if best is None:
        frontier = frontier_at(recommendation)
        least = min(min(f.general) for f in recommendation.frontiers) if frontier else None
        text = (
            f"The least general loss predicted at any share and learning rate is {nats(least)} nats "
            f"per token; the base stands at {nats(base)} and the limit at "
            f"{nats(recommendation.allowed_general_loss)}."
        )
    else:
        domain = best.losses[recommendation.domain_channel]
        when = "after its final decay" if recommendation.phase == "annealed" else (
            "at constant learning rate"
        )
        text = (
            f"Measured {when}, the general loss should then stand at "
            f"{nats(best.losses[recommendation.general_channel].value)} nats per token, "
            f"{nats(best.general_rise.value, sign=True)} from the base's {nats(base)}, and the "
            f"domain loss at {nats(domain.value)}. The chance of staying within the limit is "
            f"{probability(best.probability)}."
        )
    if verification is not None:
        text += " " + verification_sentence(verification)
    count = len(recommendation.flags)
    if count:
        text += f" Read the {count} warnings below." if count > 1 else " Read the warning below."
    return text


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
        f"{recommendation.target.limit} over the base's {nats(base)}",
    )
    if best is None:
        return [Tile("Share of domain text", "none", "no share meets the limit"), limit]
    rates = recommendation.learning_rate_interval
    if rates is None or rates.low is None or rates.high is None:
        about_rate = "held, not chosen"
    else:
        about_rate = f"{level} interval {rate(rates.low)} to {rate(rates.high)}"
    general = best.losses[recommendation.general_channel]
    domain = best.losses[recommendation.domain_channel]
    before = recommendation.target.base_losses.get(recommendation.domain_channel)
    return [
        Tile(
            "Share of domain text",
            percent(best.ratio, 1),
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
        Tile("Chance to stay within the limit", probability(best.probability), f"limit {nats(allowed)}"),
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
            Tabled(losses_table(recommendation, size_of_token), "Losses before and after, nats per token")
        )
    if recommendation.frontiers:
        parts += [_trade_off_picture(recommendation), _frontier_picture(recommendation)]
    return Section("trade-off", "The trade-off", parts)


def _trade_off_picture(recommendation: Recommendation) -> Picture:
    """General rise and domain loss against the share."""
    best = recommendation.best
    frontier = frontier_at(recommendation)
    at = "" if frontier is None or frontier.learning_rate is None else (
        f" at learning rate {rate(frontier.learning_rate)}"
    )
    if best is None:
        finding = "the general loss stays above the limit at every share"
    else:
        finding = (
            f"the rising general loss{at} reaches the recommendation at {percent(best.ratio)} domain "
            "text, while each further per cent of domain text buys less domain loss"
        )
    return Picture(
        [
            Group(
                [
                    to_svg(
                        plot_general_rise(recommendation),
                        f"Rise of the general loss against the share of domain text{at}: {finding}.",
                        "rise",
                    ),
                    to_svg(
                        plot_domain_cost(recommendation),
                        f"Domain loss against the share of domain text{at}.",
                        "cost",
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


def _frontier_picture(recommendation: Recommendation) -> Picture:
    """Domain loss against general rise over all learning rates."""
    rates = [frontier.learning_rate for frontier in recommendation.frontiers]
    roles = scale_roles(rates)
    finding = (
        "each line runs through all shares at one learning rate; lower and further left is better, and "
        "the best pair is the lowest point left of the limit"
    )
    return Picture(
        [
            Group(
                [
                    to_svg(
                        plot_frontier(recommendation, new_axes(6.2, 4.0)),
                        f"Domain loss against general rise for learning rates "
                        f"{', '.join(rate(value) for value in rates)}; {finding}.",
                        "frontier",
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
    at = f"At learning rate {rate(rates.pop())}: losses" if rates and None not in rates else "Losses"
    return Section(
        "other-shares",
        "What other shares cost",
        [
            Text(
                "Shares that people choose without evidence, at the same learning rate. Domain regret is "
                "the domain loss given away against the recommendation; where it is negative, the share "
                "has a better domain loss and pays with general loss. The probability is that of staying "
                "within the limit."
            ),
            Tabled(choices_table(recommendation), f"{at} in nats per token"),
        ],
    )


def learning_rate_section(recommendation: Recommendation) -> Section:
    """The largest share at each learning rate."""
    held = recommendation.target.learning_rate is not None
    parts: list[Part] = [
        Text(
            "A higher learning rate learns the domain faster and forgets more, so share and rate are "
            "chosen together. "
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
            draw_verified(
                verification, name, new_axes(4.6, 1.15 + 0.6 * len(verification.runs))
            ),
            f"Predicted and measured {channel_name(name)} loss of the verification runs; the "
            "table below has the numbers.",
            f"verified{i}",
        )
        for i, name in enumerate(verified_channels(verification))
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


def warnings_section(recommendation: Recommendation) -> Section:
    """All flags in words, and how far the target lies outside the runs."""
    parts: list[Part] = [Warned(flag.name, _sentence(flag.words)) for flag in recommendation.flags]
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
