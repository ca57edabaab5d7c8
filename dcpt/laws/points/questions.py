"""From a question (a frame, or numbers by keyword) to the points of one channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.points.channel_data import base_losses
from dcpt.laws.points.record import Points, annealed_of, share_of
from dcpt.table.cells import column_numbers, show
from dcpt.table.columns import KIND_RULES, known_column
from dcpt.table.rate_histories import read_history
from dcpt.table.schedules import Schedule

Array = NDArray[np.float64]

FIELDS = (
    *("n_params", "n_tokens", "ratio", "learning_rate", "base_peak_learning_rate"),
    *("base_n_tokens", "warmup_tokens", "batch_tokens", "branch_n_tokens"),
    *("lr_area", "anneal_area"),
)
TEXTS = ("phase", "schedule")

DECAY = 0.1
"""Length of a decay, in tokens before it, where an annealed question has no branch_n_tokens."""


def frame_from_keywords(keywords: Mapping[str, Any]) -> pd.DataFrame:
    """Table columns from keywords; numbers are repeated to the longest one.

    Raises:
        InputError: If a keyword is not a column of a question, is no number, or lengths differ.
    """
    allowed = (*FIELDS, *TEXTS, "base_loss", "base_loss_<channel>", "unique_tokens_<channel>")
    families = ("base_loss_", "unique_tokens_")
    wrong = [name for name in keywords if name not in allowed and not name.startswith(families)]
    if wrong:
        raise InputError(f"predict does not know {', '.join(wrong)}; it takes {', '.join(allowed)}")
    given = {name: value for name, value in keywords.items() if value is not None}
    size = max((np.size(v) for v in given.values()), default=0)
    if any(np.size(v) not in (1, size) for v in given.values()):
        sizes = ", ".join(f"{n} has {np.size(v)}" for n, v in given.items())
        raise InputError(f"predict needs one length for all its columns, and {sizes}")
    frame = pd.DataFrame({n: np.broadcast_to(np.ravel(v), size) for n, v in given.items()})
    for name in frame.columns:
        if name not in TEXTS:
            column_numbers(frame, name)
    return frame


def check_question(frame: pd.DataFrame) -> None:
    """Refuse what no law can be asked, by the rules of the runs table, all problems together.

    A count need not be whole here: a curve over tokens is asked anywhere.

    Args:
        frame: Table columns.

    Raises:
        InputError: Naming column, value, rule and remedy.
    """
    problems = []
    at_base = np.zeros(len(frame), dtype=bool)
    if "n_tokens" in frame.columns:
        at_base = np.asarray(frame["n_tokens"] == 0)
        if len(frame) and at_base.all():
            problems.append(
                "n_tokens 0 is the base before CPT, whose losses are given and not predicted; ask "
                "for n_tokens above 0"
            )
    for name in map(str, frame.columns):
        try:
            if name == "phase":
                _phases(frame, name)
            elif name in FIELDS or name.startswith(("base_loss", "unique_tokens_")):
                problems += _broken_rules(name, column_numbers(frame, name))
            elif name.startswith("loss_"):
                problems += _broken_rules(name, column_numbers(frame[at_base], name))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)


def _broken_rules(name: str, values: Array) -> Iterator[str]:
    """One sentence for the first rule of its column that a question's numbers break."""
    column = known_column("base_loss_own" if name == "base_loss" else name)
    values = values[~np.isnan(values)]
    if column is None or not len(values):
        return
    tested = np.floor(values) if column.kind == "count" else values
    for rule in (*KIND_RULES[column.kind], *column.rules):
        broken = np.flatnonzero(rule.broken(tested))
        if len(broken):
            value = float(values[broken[0]])
            says = rule.says(value) if np.isfinite(value) else "is not a finite number; correct it"
            more = f" ({len(broken) - 1:,} more like it)" if len(broken) > 1 else ""
            yield f"{name} {show(value)} {says}{more}"
            return


def _phases(frame: pd.DataFrame, default: str) -> pd.Series:
    """The phase of each row; a row at D = 0 needs none.

    Raises:
        InputError: If a phase is neither ``constant`` nor ``annealed``.
    """
    if "phase" not in frame.columns:
        return pd.Series(default, frame.index)
    phase = frame["phase"]
    wrong = ~phase.isin(["constant", "annealed"])
    if "n_tokens" in frame.columns:
        wrong &= frame["n_tokens"] != 0
    if wrong.any():
        raise InputError(
            f"phase {phase[wrong].iloc[0]!r} cannot be predicted: write constant (at the trunk's "
            "learning rate) or annealed (after a decay to zero)"
        )
    return phase


def ask_points(
    frame: pd.DataFrame,
    channel: str,
    side: str,
    general: str | None,
    defaults: Mapping[str, float | None],
    phase: str,
    schedules: Mapping[str, Schedule] | None = None,
    with_history: bool = True,
) -> Points:
    """The points of a frame as one channel sees them.

    Args:
        frame: Table columns. Base losses come from D = 0 rows of the same run, from
            ``base_loss_<channel>``, or, where only one number is meant, ``base_loss``.
        channel: The channel asked for.
        side: Its side.
        general: The channel whose base loss stands for the general side.
        defaults: Values of columns that the frame has not; None is unknown.
        phase: Used where the frame has no such column.
        schedules: Those that the frame's column ``schedule`` names.
        with_history: Whether a law will ask for the learning rate's history: that of a large
            target has many steps.

    Raises:
        InputError: If a number or a phase is none, or a schedule is named wrongly.
    """
    absent = {n: v for n, v in defaults.items() if v is not None and n not in frame.columns}
    frame = frame.assign(**absent)

    def column(name: str) -> Array | None:
        if name not in frame.columns:
            return None
        return column_numbers(frame, name)

    def base_loss(name: str | None) -> Array | None:
        if name is None:
            return None
        if {"run", "n_tokens", f"loss_{name}"} <= set(frame.columns):
            found = base_losses(frame, name)
            return found if np.isfinite(found).any() else None
        return column(f"base_loss_{name}")

    ratio, phases = column("ratio"), _phases(frame, phase)
    own = base_loss(channel)
    lg0 = base_loss(general)
    if "base_loss" in frame.columns:
        own = column("base_loss") if own is None else own
        lg0 = column("base_loss") if lg0 is None and side == "general" else lg0
    points = Points(
        n_params=column("n_params"),
        n_tokens=column("n_tokens"),
        share=share_of(side, ratio),
        ratio=ratio,
        learning_rate=column("learning_rate"),
        annealed=annealed_of(phases),
        base_loss=own,
        base_loss_general=lg0,
        base_peak_learning_rate=column("base_peak_learning_rate"),
        base_n_tokens=column("base_n_tokens"),
        warmup_tokens=column("warmup_tokens"),
        unique_tokens=column(f"unique_tokens_{channel}"),
    )
    if schedules is None and "schedule" in frame.columns and frame["schedule"].notna().any():
        raise InputError(
            f"schedule {frame['schedule'].dropna().iloc[0]!r} is named and no file of schedules is "
            "given; add --schedules FILE (schedules=)"
        )
    if not with_history:
        return points
    asked = frame.assign(**{name: column(name) for name in FIELDS if name in frame}, phase=phases)
    return replace(points, **read_history(asked, schedules, DECAY))
