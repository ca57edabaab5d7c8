"""The first half of a report: the answer, the trade-off, other shares, rates, verification."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from dcpt.decide.measured_words import measured_headline, verification_findings
from dcpt.decide.records import Recommendation, Verification
from dcpt.decide.sentences import (
    equivalent,
    expectation,
    headline,
    limit_binds,
    reasons,
    unexplained_flags,
)
from dcpt.flags import SHOWN_IN_FULL
from dcpt.quantities import count_things, format_count, format_factor, format_percent
from dcpt.report.cells import channel_name, nats, percent, probability, rate
from dcpt.report.decision_figures import (
    base_general_loss,
    draw_verified,
    frontier_at,
    plot_domain_cost,
    plot_frontier,
    plot_general_rise,
    verified_channels,
)
from dcpt.report.decision_tables import (
    alternatives_table,
    choice_notes,
    choices_table,
    compared_choices,
    losses_table,
    rates_table,
    shares_table,
    verification_table,
)
from dcpt.report.parts import Bullets, Group, Part, Picture, Section, Tabled, Text, Warned
from dcpt.report.theme import new_axes, scale_roles, to_svg


def answer_sentence(recommendation: Recommendation, verification: Verification | None) -> str:
    """The first line of the page: the measured result, or else the answer."""
    if verification is not None:
        return measured_headline(recommendation, verification)
    return headline(recommendation)


def question_line(recommendation: Recommendation) -> str:
    """The question: size, tokens and limit of the large run."""
    target = recommendation.target
    base = f"{target.base}, " if target.base else ""
    words = (
        f"{base}{format_count(target.n_params)} parameters, {format_count(target.n_tokens)} tokens"
    )
    if target.weights:
        words += f", lowest {target.minimized_in_words}"
    if not recommendation.limits:
        loss = "" if target.weights else ", lowest domain loss"
        return f"{words}{loss} without a limit on the general loss"
    if len(recommendation.limits) > 1:
        return f"{words}, limits {target.limits_in_words}"
    return f"{words}, general loss at most {target.limits_in_words}"


def lead_sentences(recommendation: Recommendation, verification: Verification | None) -> str:
    """The sentences below the answer; measured results before predictions.

    Args:
        recommendation: The answer.
        verification: Results of the verification runs, if any.
    """
    predicted = [*expectation(recommendation), *reasons(recommendation)]
    if verification is not None:
        predicted.insert(0, f"The prediction was: {headline(recommendation)}")
        predicted.insert(0, verification_sentence(recommendation, verification))
    count = len(unexplained_flags(recommendation))
    if count:
        predicted.append(
            f"There {'is 1 warning' if count == 1 else f'are {count} warnings'} below."
        )
    return " ".join(predicted)


def verification_sentence(recommendation: Recommendation, verification: Verification) -> str:
    """The result of the verification runs, misses as plainly as hits."""
    held = "All losses measured at the recommended pair lie inside the predicted intervals."
    missed = "A loss measured at the recommended pair lies OUTSIDE its predicted interval (a miss)."
    findings = verification_findings(recommendation, verification)
    return " ".join([findings[0], held if verification.recommendation_held else missed])


def trade_off_section(
    recommendation: Recommendation, size_of_token: Mapping[str, float]
) -> Section:
    """Predicted losses, the trade-off and the frontier."""
    parts: list[Part] = [
        Text(
            "More domain text makes the model better at the domain and worse at everything else. "
            "Small runs were trained at different shares; a formula fitted to their losses (a law) "
            "predicts the losses of the large run at each share. Shaded bands contain "
            f"{format_percent(recommendation.level)} of the predictions of laws fitted to "
            "resampled runs."
        )
    ]
    if recommendation.shares:
        parts += _mixture_parts(recommendation)
    if recommendation.best is not None:
        parts.append(
            Tabled(
                losses_table(recommendation, size_of_token),
                "Losses before and after, nats per token",
            )
        )
    if recommendation.frontiers:
        parts.append(_trade_off_picture(recommendation))
    if recommendation.frontiers and base_general_loss(recommendation) is not None:
        parts.append(_frontier_picture(recommendation))
    return Section("trade-off", "The trade-off", parts)


def _mixture_parts(recommendation: Recommendation) -> list[Part]:
    """The share of every source, where all were chosen."""
    return [
        Text(
            "The runs differ in the mix of the general text, so the share of every source was "
            "chosen. Each interval is that of the best share when all shares are optimized again "
            "in each bootstrap draw. Everything else on this page is for this mix of the general "
            "text."
        ),
        Tabled(shares_table(recommendation), "Share of every source in training"),
    ]


def _trade_off_picture(recommendation: Recommendation) -> Picture:
    """General rise and domain loss against the share."""
    frontier = frontier_at(recommendation)
    at = ""
    if frontier is not None and frontier.learning_rate is not None:
        at = f" at learning rate {rate(frontier.learning_rate)}"
    finding = _trade_off_finding(recommendation)
    drawn = f"Domain loss against the share of domain text{at}."
    panels = [to_svg(plot_domain_cost(recommendation), drawn)]
    legend = [
        ("domain loss", "domain"),
        ("recommended share r*; strip: interval of the central share", "pick"),
        ("circles: shares that people often choose", ""),
    ]
    if base_general_loss(recommendation) is not None:
        drawn = f"Rise of the general loss against the share of domain text{at}: {finding}."
        panels.insert(0, to_svg(plot_general_rise(recommendation), drawn))
        legend.insert(0, ("general loss", "general"))
    if recommendation.limits:
        legend.append(("dashed: the limit", ""))
    return Picture([Group(panels)], f"What to see: {finding}.", legend)


def _trade_off_finding(recommendation: Recommendation) -> str:
    """The caption: where the limit is reached, and the effect of ten more points of share."""
    best, frontier = recommendation.best, frontier_at(recommendation)
    if best is None or frontier is None:
        return "the general loss stays above the dashed limit at every share"
    loss = recommendation.target.minimized_in_words
    met = f"the {loss} is lowest at {percent(best.ratio)} domain text"
    if best.probability is not None:
        met = f"the general loss is below the dashed limit at {percent(best.ratio)} domain text"
        if limit_binds(recommendation):
            met = (
                f"{percent(best.ratio)} domain text keeps the general loss below the dashed limit "
                f"in {probability(best.probability)} of the bootstrap draws"
            )
    more = min(best.ratio + 0.1, frontier.ratio[-1])
    general, domain = (
        float(
            np.interp(more, frontier.ratio, losses) - np.interp(best.ratio, frontier.ratio, losses)
        )
        for losses in (
            np.array(frontier.general, dtype=np.float64),
            np.array(frontier.domain, dtype=np.float64),
        )
    )
    points = 100 * (more - best.ratio)
    if points < 1 or np.isnan([general, domain]).any():
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
        "each line runs through all shares at one learning rate; lower and further left is better"
    )
    if recommendation.limits:
        finding += ", and the recommended pair lies left of the limit by what its odds ask for"
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
        "single",
    )


def other_shares_section(recommendation: Recommendation) -> Section:
    """The cost of common shares."""
    rates = {habit.learning_rate for habit in recommendation.habits}
    target = recommendation.target
    regret = "Regret" if target.weights else "Domain regret"
    at = (
        f"At learning rate {rate(rates.pop())}: losses" if rates and None not in rates else "Losses"
    )
    return Section(
        "other-shares",
        "What other shares cost",
        [
            Text(
                f"Common shares at the same learning rate. {regret} is the "
                f"{target.minimized_in_words} minus that at the recommended share."
                + (
                    " Where it is negative, the share keeps the limit less often than asked."
                    if recommendation.limits
                    else ""
                )
            ),
            Tabled(choices_table(recommendation), f"{at} in nats per token"),
            *(Text(words) for words in equivalent(recommendation)),
            *(
                Text(note)
                for note in choice_notes([choice for _, choice in compared_choices(recommendation)])
            ),
        ],
    )


def learning_rate_section(recommendation: Recommendation) -> Section:
    """The largest share at each learning rate."""
    target = recommendation.target
    odds = format_percent(target.confidence)
    words = (
        "A higher learning rate learns the domain faster and forgets more, so share and rate are "
        "chosen together. "
    )
    if target.learning_rate is not None:
        words += "Here the rate was fixed by the target."
    elif recommendation.limits:
        words += (
            f"For each rate: the largest share that keeps the limit in {odds} of the bootstrap "
            "draws, the domain loss there, and the largest share within the limit by the central "
            "prediction, with its interval."
        )
    parts: list[Part] = [Text(words)]
    if recommendation.limits:
        title = "Largest share within the limit at each learning rate"
        parts.append(Tabled(rates_table(recommendation), title))
    others = alternatives_table(recommendation)
    if others is not None:
        title = "Best pairs at other learning rates"
        if recommendation.limits:
            title = f"Other pairs that keep the limit in {odds} of the bootstrap draws"
        parts.append(Tabled(others, title))
    return Section("learning-rate", "Learning rate", parts)


def verification_section(
    recommendation: Recommendation, verification: Verification | None
) -> Section:
    """Predicted and measured losses: the result, a figure and a table."""
    if verification is None:
        text = (
            "The large run has not been trained at the recommendation yet: everything above is "
            "predicted. `dcpt verify` trains it there and at two neighbouring shares."
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
        Text(verification_sentence(recommendation, verification), "verdict"),
        Picture(
            [Group(panels)],
            "What to see: each bar is the predicted interval with its center, each marker the "
            "measured loss; a cross outside the bar is a miss.",
        ),
        Tabled(verification_table(verification), "Predicted and measured, nats per token"),
        *(Text(words) for words in verification_findings(recommendation, verification)[1:]),
    ]
    return Section("verification", "Verification", parts)


def warnings_section(recommendation: Recommendation) -> Section:
    """Why the evidence is not stronger, then the warnings: the first in full, the others folded.

    Args:
        recommendation: The recommendation, with its flags filled in.
    """
    warnings = [
        *(
            Warned(reason.label, f"{reason.sentence} What to do: {reason.needed}.")
            for reason in recommendation.evidence.reasons
        ),
        *(Warned(flag.label, flag.sentence) for flag in unexplained_flags(recommendation)),
    ]
    folded = warnings[SHOWN_IN_FULL:]
    parts: list[Part] = [*warnings[:SHOWN_IN_FULL]]
    if folded:
        more = [f"{warned.text} ({warned.name})" for warned in folded]
        parts.append(Bullets(more, count_things(len(folded), "more warning")))
    if not parts:
        parts.append(Text("None."))
    names = {"n_params": "parameters", "n_tokens": "tokens", "learning_rate": "learning rate"}
    factors = [
        f"{names.get(axis, axis)} {format_factor(factor)}x"
        for axis, factor in recommendation.extrapolation.items()
        if math.isfinite(factor)
    ]
    if factors:
        parts.append(
            Text(f"How far the target lies outside the runs (1x: inside): {', '.join(factors)}.")
        )
    if recommendation.horizon:
        parts.append(Text(" ".join(recommendation.horizon)))
    return Section("warnings", "Warnings", parts)
