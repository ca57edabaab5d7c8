"""The tables of a decision: losses, other shares, rates and verified runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dcpt.decide.records import Choice, Frontier, Recommendation, Verification, Verified
from dcpt.decide.worst_channel import GENERAL_WORST
from dcpt.quantities import format_percent
from dcpt.report.cells import channel_name, nats, percent, probability, rate, share_span, span
from dcpt.report.parts import Table
from dcpt.table.study_rows import LARGEST_LOSS


def losses_table(recommendation: Recommendation, size_of_token: Mapping[str, float]) -> Table:
    """Predicted losses at the recommendation next to those of the base.

    Args:
        recommendation: A recommendation whose ``best`` is not None.
        size_of_token: Bytes per token by channel; where any is known, bits per byte are shown.
    """
    best = recommendation.best
    assert best is not None
    level = format_percent(recommendation.level)
    head = ["channel", "base", "predicted", f"{level} interval", "change"]
    if size_of_token:
        head.append("bits per byte")
    rows = []
    for name, interval in best.losses.items():
        if name == GENERAL_WORST:  # a pseudo-channel
            continue
        base = recommendation.target.base_losses.get(name)
        known = base is not None and interval.value is not None
        change = interval.value - base if known and interval.value and base else None
        row = [
            channel_name(name),
            nats(base),
            nats(interval.value),
            span(interval),
            nats(change, sign=True),
        ]
        if size_of_token:
            size = size_of_token.get(name)
            bits = interval.value / math.log(2) / size if size and interval.value else None
            row.append(nats(bits))
        rows.append(row)
    return Table(head, rows)


def shares_table(recommendation: Recommendation) -> Table:
    """The share of every source, for a recommendation that chose them all."""
    mix, level = recommendation.target.mix, format_percent(recommendation.level)
    rows = [
        [
            channel_name(name),
            "none" if share.value is None else percent(share.value),
            share_span(share),
            percent(mix[name]) if name in mix else "",
        ]
        for name, share in recommendation.shares.items()
    ]
    return Table(["source", "share", f"{level} interval", "part of the general text"], rows)


OUTSIDE_MARK = " *"
"""Follows a share outside those of the runs, in tables of choices."""

BEYOND = "beyond the laws"
"""Replaces a loss that the laws cannot predict, in tables of choices."""


def choice_notes(choices: Sequence[Choice]) -> list[str]:
    """Explain the marks that occur in a table of choices."""
    notes = []
    if any(choice.outside_runs for choice in choices):
        notes.append("* This share is outside those of the runs.")
    if any(choice.beyond_laws for choice in choices):
        notes.append(
            f"{BEYOND[0].upper()}{BEYOND[1:]}: the predicted loss is above {LARGEST_LOSS:g} nats "
            "per token, which the laws cannot predict."
        )
    return notes


def choice_cells(recommendation: Recommendation, choice: Choice) -> dict[str, str]:
    """The cells of a choice, for the terminal and the page."""
    general, domain = recommendation.general_channel, recommendation.domain_channel
    compared = choice.regret.value is not None and choice is not recommendation.best

    def cell(channel: str, text: str) -> str:
        return BEYOND if channel in choice.beyond_laws else text

    cells = {"domain share": percent(choice.ratio) + (OUTSIDE_MARK if choice.outside_runs else "")}
    if general is not None:
        cells["general rise"] = cell(general, nats(choice.general_rise.value, sign=True))
    if choice.probability is not None:
        cells["within limit"] = "yes" if choice.within_limit else "no"
        cells["chance of staying within the limit"] = probability(choice.probability)
    return {
        **cells,
        "domain loss": cell(domain, nats(choice.losses[domain].value)),
        _regret_name(recommendation): nats(choice.regret.value, sign=True) if compared else "",
        f"{format_percent(recommendation.level)} interval": (
            span(choice.regret, sign=True) if compared else ""
        ),
    }


def _regret_name(recommendation: Recommendation) -> str:
    return "regret" if recommendation.target.weights else "domain regret"


def compared_choices(recommendation: Recommendation) -> list[tuple[str, Choice]]:
    """The recommendation, the central pair and common shares at its learning rate, by share."""
    best, central = recommendation.best, recommendation.central
    rows = [
        (f"{format_percent(1 - habit.ratio)} general text", habit)
        for habit in recommendation.habits
    ]
    if best is not None:
        weak = recommendation.evidence.level == "not enough evidence"
        rows.append(("estimate" if weak else "recommended", best))
    if central is not None and (best is None or central.pair != best.pair):
        at = "" if central.learning_rate is None else f", at {rate(central.learning_rate)}"
        rows.append((f"central{at}", central))
    return sorted(rows, key=lambda row: row[1].ratio)


def choices_table(recommendation: Recommendation) -> Table:
    """The cost of the recommendation, the central pair and common shares, by share."""
    rows, strong, head = [], set(), ["choice"]
    for i, (label, choice) in enumerate(compared_choices(recommendation)):
        cells = choice_cells(recommendation, choice)
        head = ["choice", *cells]
        rows.append([label, *cells.values()])
        if choice is recommendation.best:
            strong.add(i)
    return Table(head, rows, strong=frozenset(strong))


def alternatives_table(recommendation: Recommendation) -> Table | None:
    """Other pairs of share and learning rate, if any."""
    if not recommendation.alternatives:
        return None
    rows, head = [], ["choice"]
    for label, choice in recommendation.alternatives.items():
        words = "rate fixed" if label.endswith("held") else label
        share, *names = (cells := choice_cells(recommendation, choice))
        head = ["choice", share, "learning rate", *names]
        others = [cells[name] for name in names]
        rows.append([words, cells[share], rate(choice.learning_rate), *others])
    return Table(head, rows)


def rates_table(recommendation: Recommendation) -> Table:
    """The largest shares at every learning rate: at the asked odds, and by central prediction."""
    rows: list[list[str]] = []
    best, odds = recommendation.best, format_percent(recommendation.target.confidence)
    strong = set()
    for i, frontier in enumerate(recommendation.frontiers):
        share = frontier.largest_ratio
        if best is not None and best.learning_rate == frontier.learning_rate:
            strong.add(i)
        rows.append(
            [
                rate(frontier.learning_rate),
                "none" if frontier.kept_ratio is None else percent(frontier.kept_ratio),
                _domain_loss_there(recommendation, frontier),
                "none" if share.value is None else percent(share.value),
                share_span(share),
            ]
        )
    head = [
        "learning rate",
        f"share kept at {odds}",
        "domain loss there",
        "central share",
        f"its {format_percent(recommendation.level)} interval",
    ]
    return Table(head, rows, strong=frozenset(strong))


def _domain_loss_there(recommendation: Recommendation, frontier: Frontier) -> str:
    """The domain loss at the share that is kept at a learning rate; empty where there is none."""
    share, rate_there = frontier.kept_ratio, frontier.learning_rate
    if share is None:
        return ""
    best = [] if recommendation.best is None else [recommendation.best]
    for choice in (*best, *recommendation.alternatives.values()):
        if (choice.ratio, choice.learning_rate) == (share, rate_there):
            return choice_cells(recommendation, choice)["domain loss"]
    domain = np.array(frontier.domain, dtype=np.float64)
    loss = float(np.interp(share, frontier.ratio, domain))
    return BEYOND if np.isnan(loss) else nats(loss)


def verdict(run: Verified, name: str) -> str:
    """Whether a measured loss lies in its interval, and by how much it misses."""
    interval, measured = run.predicted[name], run.measured[name]
    inside = run.inside.get(name)
    if inside is None or interval.low is None or interval.high is None:
        return "no interval"
    if inside:
        return "inside"
    if measured > interval.high:
        return f"MISS: {nats(measured - interval.high)} above the interval"
    return f"MISS: {nats(interval.low - measured)} below the interval"


def verification_table(verification: Verification) -> Table:
    """Predicted and measured losses, a row per run and channel."""
    rows: list[list[str]] = []
    bad: set[int] = set()
    for run in verification.runs:
        for name, interval in run.predicted.items():
            if name not in run.measured or name == GENERAL_WORST:
                continue
            measured = run.measured[name]
            off = None if interval.value is None else measured - interval.value
            if run.inside.get(name) is False:
                bad.add(len(rows))
            rows.append(
                [
                    f"{run.label}, {percent(run.ratio)} at {rate(run.learning_rate)}",
                    channel_name(name),
                    verdict(run, name),
                    nats(interval.value),
                    span(interval),
                    nats(measured),
                    nats(off, sign=True),
                ]
            )
    head = [
        "run",
        "channel",
        "verdict",
        "predicted",
        f"{format_percent(verification.level)} interval",
        "measured",
        "difference",
    ]
    return Table(head, rows, words=3, bad=frozenset(bad))
