"""The learning-rate history of a table's rows: from their own columns, or from named schedules.

A row's own columns mean the schedule that this project trains: a linear warmup over
``warmup_tokens`` to ``learning_rate``, constant from there on, and for an annealed row a linear
decay to zero from ``branch_n_tokens`` to ``n_tokens``. Any other one is written down in a file of
schedules (``dcpt.table.schedules``), and rows name it in the column ``schedule``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.table.rate_curves import Curve, History, history_at
from dcpt.table.schedules import MOST_STEPS, Schedule

Array = NDArray[np.float64]
Index = NDArray[np.intp]

CLOSE = 0.02
"""A learning rate or an area within 2 % of what a schedule says is the same one."""

FILE_OF_SCHEDULES = "--schedules FILE"

AREAS = ("lr_area", "anneal_area")
DROPS = ("drop_sizes", "drop_rates", "drop_areas")


def read_history(
    table: pd.DataFrame,
    schedules: Mapping[str, Schedule] | None = None,
    decay: float | None = None,
    shape: Schedule | None = None,
) -> dict[str, Array]:
    """The learning-rate history of each row: fields of the laws' points.

    A known ``lr_area`` or ``anneal_area`` of the table is a person's own and stays. Where that
    ``lr_area`` is not what the schedule says, another schedule was trained: nothing else of it is
    known then. A row's step is ``n_tokens / batch_tokens``, rounded.

    Args:
        table: M rows of a runs table with a plain index, or of a question.
        schedules: Those that the column ``schedule`` names; None leaves its rows unknown.
        decay: Tokens of the final decay as a share of those before it, for annealed rows without
            ``branch_n_tokens``; None leaves them unknown.
        shape: The curve of all rows, whatever their columns say: stretched to end at each row, with
            its ``learning_rate`` as the peak.

    Returns:
        ``lr_area``, ``anneal_area`` (M,), ``drop_sizes``, ``drop_rates``, ``drop_areas`` (M, J),
        NaN where unknown (also beyond ten million steps), and ``learning_rate`` (M,) where a
        schedule gives it; what is known nowhere is absent.

    Raises:
        InputError: If a row names an unknown schedule, lies beyond its end, lacks
            ``batch_tokens`` or contradicts its peak.
    """
    parts = list(_by_columns(table, decay) if shape is None else _by_shape(table, shape))
    rates = _numbers(table, "learning_rate")
    if schedules is not None:
        _refuse_rows(table, schedules, rates)
        parts += _by_name(table, schedules)
        rates = np.where(np.isnan(rates), _peaks(table, schedules), rates)
    width = max((part.drop_sizes.shape[1] for _, part in parts), default=1)
    found = {name: np.full(len(table), np.nan) for name in AREAS}
    found |= {name: np.full((len(table), width), np.nan) for name in DROPS}
    for index, part in parts:
        for name in AREAS:
            found[name][index] = getattr(part, name)
        for name in DROPS:
            drops = getattr(part, name)
            found[name][index] = part.drop_rates.max() if name == "drop_rates" else 0.0
            found[name][index, : drops.shape[1]] = drops
    own = _numbers(table, "lr_area")
    other = np.abs(own - found["lr_area"]) > CLOSE * own
    for name in ("anneal_area", *DROPS):
        found[name][other] = np.nan
    for name in AREAS:
        given = _numbers(table, name)
        found[name] = np.where(np.isnan(given), found[name], given)
    if schedules is not None:
        found["learning_rate"] = rates
    return {name: values for name, values in found.items() if not np.isnan(values).all()}


def lacks_history(table: pd.DataFrame, schedules: Mapping[str, Schedule] | None) -> tuple[str, ...]:
    """What a table lacks for the history of its rows: columns, or the file of their schedules."""
    if schedules is None and _names(table).notna().any():
        return (f"{FILE_OF_SCHEDULES}, which defines the names in the column schedule",)
    columns = (
        ("batch_tokens",)
        if schedules is not None
        else ("learning_rate", "batch_tokens", "warmup_tokens")
    )
    return tuple(name for name in columns if np.isnan(_numbers(table, name)).all())


def _numbers(table: pd.DataFrame, name: str) -> Array:
    """A column as numbers, shape (M,); NaN where unknown."""
    if name not in table.columns:
        return np.full(len(table), np.nan)
    return np.asarray(pd.to_numeric(table[name]), dtype=np.float64)


def _names(table: pd.DataFrame) -> pd.Series[Any]:
    """The schedule that each row names; missing where it names none, or is out of every fit."""
    if "schedule" not in table.columns:
        return pd.Series(None, index=table.index, dtype=object)
    if "excluded" not in table.columns:
        return table["schedule"]
    return table["schedule"].mask(table["excluded"].notna())


def steps_of(table: pd.DataFrame) -> Array:
    """Steps of each row so far, shape (M,), rounded; NaN where unknown."""
    batch = _numbers(table, "batch_tokens")
    return np.rint(_numbers(table, "n_tokens") / np.where(batch > 0, batch, np.nan))


def _peaks(table: pd.DataFrame, schedules: Mapping[str, Schedule]) -> Array:
    """The peak of the schedule that each row names, shape (M,); NaN where it names none."""
    peaks = {name: schedule.peak for name, schedule in schedules.items()}
    return np.asarray(_names(table).map(peaks), dtype=np.float64)


def _refuse_rows(table: pd.DataFrame, schedules: Mapping[str, Schedule], rates: Array) -> None:
    """Raise all that is wrong with the rows that name a schedule, one sentence per schedule."""
    if "schedule" not in table.columns:
        raise InputError(
            "schedules are given and the table has no column schedule; add it, with one of "
            + ", ".join(schedules)
        )
    names, steps, problems = _names(table), steps_of(table), []

    def refuse(wrong: Any, words: str) -> None:
        rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
        if len(rows):
            more = f" ({len(rows) - 1:,} more like it)" if len(rows) > 1 else ""
            problems.append(f"row {rows[0] + 2}{more}, column schedule: {words}")

    for name in names.dropna().unique():
        mine, schedule = (names == name).to_numpy(dtype=bool), schedules.get(name)
        if schedule is None:
            known = ", ".join(schedules)
            refuse(mine, f"{name!r} is not among the schedules given; there are {known}")
            continue
        refuse(
            mine & np.isnan(steps),
            f"{name!r} counts steps, which are n_tokens / batch_tokens; give batch_tokens there",
        )
        refuse(
            mine & (steps > schedule.n_steps),
            f"n_tokens / batch_tokens lies beyond the end of {name!r}, step {schedule.n_steps}; "
            "make its last segment longer, or correct batch_tokens",
        )
        refuse(
            mine & (np.abs(rates - schedule.peak) > CLOSE * schedule.peak),
            f"{name!r} goes up to {schedule.peak:g} and learning_rate says otherwise; correct "
            "one of them (learning_rate is the peak)",
        )
    if problems:
        raise InputError(problems)


def _by_name(
    table: pd.DataFrame, schedules: Mapping[str, Schedule]
) -> Iterator[tuple[Index, History]]:
    """Rows that name a schedule, and their histories."""
    names, steps = _names(table), steps_of(table)
    for name in names.dropna().unique():
        index = np.flatnonzero(names == name)
        yield index, _history(schedules[name].curve(), steps[index], np.ones(len(index)))


def _by_columns(table: pd.DataFrame, decay: float | None) -> Iterator[tuple[Index, History]]:
    """Rows that name no schedule and whose own columns say it, and their histories.

    Runs of one shape differ by their peak alone, so each shape is gone through once.
    """
    tokens, batch, branch = (
        _numbers(table, name) for name in ("n_tokens", "batch_tokens", "branch_n_tokens")
    )
    batch = np.where(batch > 0, batch, np.nan)
    annealed = np.zeros(len(table), dtype=bool)
    if "phase" in table.columns:
        annealed = (table["phase"] == "annealed").to_numpy(dtype=bool) & (tokens > 0)
    if decay is not None:
        branch = np.where(np.isnan(branch), np.rint(tokens / (1.0 + decay)), branch)
    shapes = np.column_stack(
        [
            _numbers(table, "warmup_tokens") / batch,
            np.where(annealed, branch / batch, np.inf),
            np.where(annealed, tokens / batch, np.inf),
        ]
    )
    steps, rates = steps_of(table), _numbers(table, "learning_rate")
    unknown = np.isnan(np.column_stack([shapes, steps, rates])).any(axis=1) | _apart(table)
    # A curve of so many steps is gone through by nobody: a batch in sequences, or a target.
    rows = np.flatnonzero(~unknown & (steps <= MOST_STEPS))
    _refuse_branches(tokens[rows], branch[rows], annealed[rows])
    distinct, which = np.unique(shapes[rows], axis=0, return_inverse=True)
    for i, (warmup, start, end) in enumerate(distinct.tolist()):
        index = rows[which.ravel() == i]
        curve = _own_curve(warmup, start, end, int(steps[index].max()))
        yield index, _history(curve, steps[index], rates[index])


def _by_shape(table: pd.DataFrame, shape: Schedule) -> Iterator[tuple[Index, History]]:
    """Rows at the end of a schedule that is stretched to their steps, and their histories."""
    steps, rates = steps_of(table), _numbers(table, "learning_rate")
    known = ~np.isnan(steps) & ~np.isnan(rates) & (steps <= MOST_STEPS)
    for n_steps in np.unique(steps[known & (steps >= len(shape.root))]).astype(int).tolist():
        index = np.flatnonzero(known & (steps == n_steps))
        yield index, _history(shape.stretched(n_steps).curve(), steps[index], rates[index])


def _apart(table: pd.DataFrame) -> Any:
    """Rows that name a schedule, or are out of every fit, shape (M,)."""
    named = table["schedule"].notna() if "schedule" in table.columns else False
    return named | (table["excluded"].notna() if "excluded" in table.columns else False)


def _refuse_branches(tokens: Array, branch: Array, annealed: Any) -> None:
    """Raise what a table's door lets pass, or a question brings."""
    wrong = np.flatnonzero(annealed & (branch >= tokens))
    if len(wrong):
        raise InputError(
            f"branch_n_tokens {branch[wrong[0]]:.0f} is not below n_tokens {tokens[wrong[0]]:.0f}, "
            "which counts the decay's tokens too; correct one of them"
        )


def _own_curve(warmup: float, branch: float, end: float, n_steps: int) -> Curve:
    """What ``dcpt.runs.course.learning_rate_at`` says, in units of the peak.

    Args:
        warmup: Steps of the warmup, perhaps not whole.
        branch: Steps before the decay to zero; infinite on a trunk.
        end: Steps at its end.
        n_steps: Steps wanted.
    """
    step = np.arange(1, n_steps + 1)
    rates = np.where(step < warmup, step / max(warmup, 1.0), 1.0)
    if np.isfinite(branch):
        falling = (step > branch) & (step >= warmup)
        # The last of n steps trains at 1/(n + 1) of the way's end.
        rates[falling] = 1.0 - (step[falling] - branch) / (end - branch + 1.0)
    ends = {np.ceil(warmup), np.floor(branch)}
    return Curve(rates, tuple(sorted(int(end) for end in ends if 0 < end < n_steps)))


def _history(curve: Curve, steps: Array, unit: Array) -> History:
    """The history behind each row, computed once per distinct step."""
    distinct, which = np.unique(steps.astype(np.intp), return_inverse=True)
    return history_at(curve, distinct).take(which, unit)
