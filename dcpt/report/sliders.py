"""The sliders of the page: the answers at all their positions, as data for its script."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence

import numpy as np

from dcpt.decide.general_mix import say_mix
from dcpt.decide.records import Evidence, Interval
from dcpt.decide.settings import Answer, Cell, Settings
from dcpt.decide.stops import Stops
from dcpt.flags import SHOWN_IN_FULL
from dcpt.quantities import format_count, format_percent, format_rate
from dcpt.report.cells import channel_name
from dcpt.report.parts import Section, Slider, Sliders, Text
from dcpt.table.study_rows import LARGEST_LOSS

FIELDS = (
    "share",
    "share_low",
    "share_high",
    "general",
    "general_low",
    "general_high",
    "domain",
    "domain_low",
    "domain_high",
    "probability",
    "rate",
    "evidence",
)
"""Numbers of an answer, in the order of the page's data. Losses are in nats per token; ``rate`` and
``evidence`` are places in lists; NaN is unknown."""

BEYOND = {
    "n_params": "The size lies outside those of the runs.",
    "n_tokens": "The number of tokens lies outside those of the runs.",
    "learning_rate": "The learning rate lies outside those of the runs.",
    "ratio": "The share lies outside those of the runs.",
}
"""What lies beyond the runs, by axis."""


def settings_section(settings: Settings) -> Section:
    """Sliders for size, tokens, text, limit and odds."""
    count = sum(len(row) for cell in settings.cells for row in cell.answers)
    about_bases = (
        " A base of another size is taken to lie on the line through the known bases, in the "
        "logarithms of size and loss."
        if len(settings.stops.n_params) > 1
        else ""
    )
    mix = settings.target.mix
    about_mix = f" The mix of the general text stays {say_mix(mix)}." if mix else ""
    return Section(
        "what-if",
        "Other sizes, tokens, limits and odds",
        [
            Text(
                f"Every position of the sliders is an answer computed from the fit, {count:,} in "
                f"all.{about_bases} Everything else is as in the target: each has the lowest "
                f"{settings.target.minimized_in_words}.{about_mix}"
            ),
            Sliders(_sliders(settings), _data(settings)),
        ],
    )


def _sliders(settings: Settings) -> list[Slider]:
    """A slider for each setting with more than one value, at the target's own."""
    stops, target = settings.stops, settings.target
    text = target.unique_tokens.get(settings.domain_channel)
    counts = [
        ("n_params", "Parameters", stops.n_params, target.n_params),
        ("n_tokens", "Tokens of the run", stops.n_tokens, target.n_tokens),
        ("unique_tokens", "Unique tokens of domain text", stops.unique_tokens, text),
    ]
    sliders = [
        Slider(name, label, [format_count(v) for v in values if v is not None], values.index(own))
        for name, label, values, own in counts
        if len(values) > 1
    ]
    limits, odds = stops.limits, stops.confidences
    sliders.append(
        Slider(
            "limit",
            "Limit on the general loss",
            ["none" if limit is None else str(limit) for limit in limits],
            limits.index(target.limit),
        )
    )
    sliders.append(
        Slider(
            "confidence",
            "Odds that the limit is kept",
            [format_percent(value) for value in odds],
            odds.index(target.confidence),
        )
    )
    return [slider for slider in sliders if len(slider.labels) > 1]


def _data(settings: Settings) -> str:
    """All answers as JSON that is safe inside a script element; numbers are base64 of float32."""
    cells, stops = settings.cells, settings.stops
    rates = sorted(
        {curves.learning_rate for cell in cells for curves in cell.curves},
        key=lambda rate: rate or 0.0,
    )
    ratio = next((of.ratio for cell in cells for of in cell.curves), np.array([]))
    evidence: dict[tuple[str, tuple[str, ...]], int] = {}
    answers = [
        _numbers(answer, settings, rates, evidence)
        for cell in cells
        for answer in _all(cell, stops)
    ]
    curves = [[of.general, of.domain] for cell in cells for of in cell.curves]
    record = {
        "names": ["n_params", "n_tokens", "unique_tokens", "limit", "confidence"],
        "shape": [
            len(stops.n_params),
            len(stops.n_tokens),
            len(stops.unique_tokens),
            len(stops.limits),
            len(stops.confidences),
        ],
        "fields": FIELDS,
        "general": channel_name(settings.general_channel or ""),
        "domain": channel_name(settings.domain_channel),
        "level": format_percent(settings.level),
        "ratio": ratio.tolist(),
        "rates": [None if rate is None else format_rate(rate) for rate in rates],
        "evidence": [{"level": level, "reasons": reasons} for level, reasons in evidence],
        "cells": [
            {
                "base": _or_null(cell.base_loss),
                "allowed": [_or_null(loss) for loss in cell.allowed],
                "refusal": cell.refusal,
                "rates": [rates.index(of.learning_rate) for of in cell.curves],
            }
            for cell in cells
        ],
        "answers": _packed(answers),
        "curves": _packed(curves),
    }
    return json.dumps(record, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def _all(cell: Cell, stops: Stops) -> list[Answer | None]:
    """The answers of a cell in the order of the page; of a refused cell as many None."""
    if not cell.answers:
        return [None] * (len(stops.limits) * len(stops.confidences))
    return [answer for row in cell.answers for answer in row]


def _numbers(
    answer: Answer | None,
    settings: Settings,
    rates: Sequence[float | None],
    evidence: dict[tuple[str, tuple[str, ...]], int],
) -> list[float]:
    """The numbers of an answer, in the order of ``FIELDS``; ``evidence`` collects its words."""
    if answer is None:
        return [np.nan] * len(FIELDS)
    words = (answer.evidence.level, tuple(_reasons(answer.evidence)))
    place = evidence.setdefault(words, len(evidence))
    choice = answer.choice
    if choice is None:
        return [*[np.nan] * (len(FIELDS) - 1), place]
    unknown = Interval(None, None, None)
    intervals = [
        choice.losses.get(settings.general_channel or "", unknown),
        choice.losses[settings.domain_channel],
    ]
    odds = answer.probability
    known = [
        choice.ratio,
        answer.interval.low,
        answer.interval.high,
        *(v for interval in intervals for v in (interval.value, interval.low, interval.high)),
        None if odds is None else round(100 * odds) / 100,  # in whole percent, as in the tiles
    ]
    numbers = [np.nan if value is None else value for value in known]
    return [*numbers, rates.index(choice.learning_rate), place]


def _reasons(evidence: Evidence) -> list[str]:
    """Why the evidence is not stronger, in sentences that hold at many settings."""
    sentences = []
    for reason in evidence.reasons:
        axis = reason.subject.get("axis", "")
        if reason.kind == "wide_interval":
            sentences.append("The interval of the share is wide.")
        else:
            sentences.append(BEYOND.get(axis, reason.sentence))
    return sentences[:SHOWN_IN_FULL]


def _or_null(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


def _packed(numbers: object) -> str:
    """Numbers as base64 of little-endian float32; a loss that no model can have is NaN."""
    values = np.asarray(numbers, dtype=np.float64)
    values = np.where(values > LARGEST_LOSS, np.nan, values)
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")
