"""The tables of a report, made once for HTML and Markdown: every cell is text as people read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dcpt.decide.records import Choice, Recommendation, Verification, Verified
from dcpt.quantities import format_count
from dcpt.report.words import (
    channel_name,
    nats,
    percent,
    probability,
    rate,
    share_span,
    span,
)
from dcpt.table.channels import without_own_decays


@dataclass(frozen=True)
class Table:
    """A heading row and rows of text.

    Args:
        head: Column names.
        rows: One list a row, as long as ``head``.
        words: How many leading columns hold words (left-aligned); the others hold numbers.
        strong: Rows to be set apart.
        bad: Rows that report a miss.
    """

    head: list[str]
    rows: list[list[str]]
    words: int = 1
    strong: frozenset[int] = field(default_factory=frozenset)
    bad: frozenset[int] = field(default_factory=frozenset)


def bytes_per_token(runs: pd.DataFrame) -> dict[str, float]:
    """Bytes behind a token of each channel, from ``bytes_per_token_<channel>`` where known."""
    prefix = "bytes_per_token_"
    found: dict[str, float] = {}
    for column in runs.columns:
        if str(column).startswith(prefix):
            values = runs[column].dropna()
            if len(values):
                found[str(column)[len(prefix) :]] = float(values.iloc[0])
    return found


def losses_table(recommendation: Recommendation, size_of_token: Mapping[str, float]) -> Table:
    """Predicted losses at the recommendation beside the base's own.

    Args:
        recommendation: With a ``best``.
        size_of_token: Bytes per token by channel; where any is known, bits per byte are shown.
    """
    best = recommendation.best
    assert best is not None
    head = ["channel", "base", "predicted", f"{percent(recommendation.level)} interval", "change"]
    if size_of_token:
        head.append("bits per byte")
    rows = []
    for name, interval in best.losses.items():
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


def _choice_row(recommendation: Recommendation, choice: Choice, label: str) -> list[str]:
    """A share with what it costs."""
    domain, regret = choice.losses[recommendation.domain_channel], choice.regret
    compared = regret.value is not None and choice is not recommendation.best
    return [
        label,
        percent(choice.ratio),
        nats(choice.general_rise.value, sign=True),
        "yes" if choice.within_limit else "no",
        probability(choice.probability),
        nats(domain.value),
        nats(regret.value, sign=True) if compared else "",
        span(regret, sign=True) if compared else "",
    ]


def _choice_head(recommendation: Recommendation) -> list[str]:
    """What ``_choice_row`` gives."""
    return [
        "choice",
        "domain share",
        "general rise",
        "within limit",
        "probability",
        "domain loss",
        "domain regret",
        f"{percent(recommendation.level)} interval",
    ]


def choices_table(recommendation: Recommendation) -> Table:
    """What the recommendation and the usual shares cost, in order of the share."""
    rows: list[tuple[float, list[str], bool]] = []
    best = recommendation.best
    if best is not None:
        rows.append((best.ratio, _choice_row(recommendation, best, "recommended"), True))
    for habit in recommendation.habits:
        text = f"{100 * (1 - habit.ratio):.0f}% general text"
        rows.append((habit.ratio, _choice_row(recommendation, habit, text), False))
    rows.sort(key=lambda row: row[0])
    return Table(
        _choice_head(recommendation),
        [row for _, row, _ in rows],
        strong=frozenset(i for i, (_, _, strong) in enumerate(rows) if strong),
    )


def alternatives_table(recommendation: Recommendation) -> Table | None:
    """Other pairs of share and learning rate worth a look, if any."""
    if not recommendation.alternatives:
        return None
    rows = []
    for label, choice in recommendation.alternatives.items():
        words = "rate held" if label.endswith("held") else label
        row = _choice_row(recommendation, choice, words)
        rows.append([row[0], row[1], rate(choice.learning_rate), *row[2:]])
    head = _choice_head(recommendation)
    return Table([*head[:2], "learning rate", *head[2:]], rows)


def rates_table(recommendation: Recommendation) -> Table:
    """The largest share within the limit at every learning rate, and the domain loss there."""
    rows: list[list[str]] = []
    best = recommendation.best
    strong = set()
    for i, frontier in enumerate(recommendation.frontiers):
        share = frontier.largest_ratio
        domain = None
        if share.value is not None:
            domain = float(np.interp(share.value, frontier.ratio, frontier.domain))
        if best is not None and best.learning_rate == frontier.learning_rate:
            strong.add(i)
        rows.append(
            [
                rate(frontier.learning_rate),
                percent(share.value) if share.value is not None else "none",
                share_span(share),
                nats(domain) if domain is not None else "",
            ]
        )
    head = [
        "learning rate",
        "largest share",
        f"{percent(recommendation.level)} interval",
        "domain loss there",
    ]
    return Table(head, rows, strong=frozenset(strong))


def verdict(run: Verified, name: str) -> str:
    """Whether a measured loss lies in its interval, in words, and by how much it misses."""
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
    """Predicted beside measured, a row per run and channel."""
    rows: list[list[str]] = []
    bad: set[int] = set()
    for run in verification.runs:
        for name, interval in run.predicted.items():
            if name not in run.measured:
                continue
            measured = run.measured[name]
            off = None if interval.value is None else measured - interval.value
            said = verdict(run, name)
            if said.startswith("MISS"):
                bad.add(len(rows))
            rows.append(
                [
                    f"{run.label}, {percent(run.ratio)} at {rate(run.learning_rate)}",
                    channel_name(name),
                    said,
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
        f"{percent(verification.level)} interval",
        "measured",
        "difference",
    ]
    return Table(head, rows, words=3, bad=frozenset(bad))


def sizes_table(runs: pd.DataFrame) -> Table:
    """The runs by size: how many, which rates and shares, how far, how many points."""
    if "n_params" in runs:
        groups = [(format_count(float(str(n))), part) for n, part in runs.groupby("n_params")]
    else:
        groups = [("not recorded", runs)]
    rows = []
    for size, part in groups:
        tokens = part["n_tokens"]
        rows.append(
            [
                size,
                str(part["run"].nunique()),
                str(len(part)),
                _listed(part, "learning_rate", rate),
                _listed(part, "ratio", percent),
                format_count(float(tokens.max())),
            ]
        )
    head = ["size", "runs", "points", "learning rates", "domain shares", "tokens"]
    return Table(head, rows)


def _listed(part: pd.DataFrame, column: str, say: object) -> str:
    """The distinct values of a column, or that it is not there."""
    if column not in part:
        return "not recorded"
    assert callable(say)
    return ", ".join(str(say(value)) for value in sorted(part[column].dropna().unique()))


def runs_table(runs: pd.DataFrame) -> Table:
    """Every run with its losses before training, at its last constant point and after its decay."""
    runs = without_own_decays(runs)
    names = [str(c)[5:] for c in runs.columns if str(c).startswith("loss_")]
    phases = [
        name
        for name in ("base", "constant", "annealed")
        if "phase" not in runs or (runs["phase"] == name).any()
    ]
    if "phase" not in runs:
        phases = ["last"]
    head = ["run", "size", "domain share", "learning rate", "tokens"]
    head += [f"{channel_name(name)}, {phase}" for name in names for phase in phases]
    rows = []
    keys = [key for key in ("n_params", "learning_rate", "ratio") if key in runs]
    ordered = runs.sort_values([*keys, "run", "n_tokens"], kind="stable")
    for label, part in ordered.groupby("run", sort=False):
        first = part.iloc[0]
        row = [
            str(label),
            format_count(float(first["n_params"])) if "n_params" in part else "",
            percent(float(first["ratio"])) if "ratio" in part else "",
            rate(float(first["learning_rate"])) if "learning_rate" in part else "",
            format_count(float(part["n_tokens"].max())),
        ]
        for name in names:
            for phase in phases:
                here = part if phase == "last" else part[part["phase"] == phase]
                values = here[f"loss_{name}"].dropna()
                row.append(nats(float(values.iloc[-1])) if len(values) else "")
        rows.append(row)
    return Table(head, rows)
