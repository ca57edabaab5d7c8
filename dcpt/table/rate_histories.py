"""The learning-rate history of a table's rows: from their own columns, or from named schedules.

A row's own columns describe the schedule of dcpt's runs: a linear warmup over ``warmup_tokens`` to
``learning_rate``, then constant, and for an annealed row a linear decay to zero from
``branch_n_tokens`` to ``n_tokens``. Other schedules are defined in a file of schedules
(``dcpt.table.schedules``), and rows name them in the column ``schedule``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError, did_you_mean
from dcpt.table.cells import column_numbers
from dcpt.table.rate_curves import Curve, History, history_at
from dcpt.table.schedules import MOST_STEPS, Schedule

Array = NDArray[np.float64]
Index = NDArray[np.intp]

CLOSE = 0.02
"""Relative tolerance of learning rates and areas against those of a schedule."""

AREAS = ("lr_area", "anneal_area")
DROPS = ("drop_sizes", "drop_rates", "drop_areas")


def read_history(
    table: pd.DataFrame,
    schedules: Mapping[str, Schedule] | None = None,
    decay: float | None = None,
) -> dict[str, Array]:
    """Compute the learning-rate history of each row: fields of the laws' points.

    A known ``lr_area`` or ``anneal_area`` of the table is kept. If that ``lr_area`` differs from
    the schedule's, the run had another schedule, and the rest of its history is unknown. A row's
    step is ``n_tokens / batch_tokens``, rounded.

    Args:
        table: M rows of a runs table with a plain index, or of a question.
        schedules: Schedules by the names in the column ``schedule``; None leaves its rows unknown.
        decay: Tokens of the final decay as a share of those before it, for annealed rows without
            ``branch_n_tokens``; None leaves them unknown.

    Returns:
        ``lr_area``, ``anneal_area`` (M,), ``drop_sizes``, ``drop_rates``, ``drop_areas`` (M, J),
        NaN if unknown (also beyond ten million steps), and ``learning_rate`` (M,) if a schedule
        gives it; fields without any known value are absent.

    Raises:
        InputError: If a row names an unknown schedule, lies beyond its end, lacks
            ``batch_tokens`` or contradicts its peak.
    """
    parts = list(_by_columns(table, decay))
    rates = column_numbers(table, "learning_rate")
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
        columns[name][other] = np.nan
    for name in AREAS:
        given = column_numbers(table, name)
        columns[name] = np.where(np.isnan(given), columns[name], given)
    if schedules is not None:
        columns["learning_rate"] = rates
    return {name: values for name, values in columns.items() if not np.isnan(values).all()}


def _names(table: pd.DataFrame) -> pd.Series[Any]:
    """The schedule that each row names; missing if it names none, or is excluded."""
    if "schedule" not in table.columns:
        return pd.Series(None, index=table.index, dtype=object)
    if "excluded" not in table.columns:
        return table["schedule"]
    return table["schedule"].mask(table["excluded"].notna())


def _steps(table: pd.DataFrame) -> Array:
    """Steps of each row so far, shape (M,), rounded; NaN if unknown."""
    batch = column_numbers(table, "batch_tokens")
    return np.rint(column_numbers(table, "n_tokens") / np.where(batch > 0, batch, np.nan))


def _peaks(table: pd.DataFrame, schedules: Mapping[str, Schedule]) -> Array:
    """The peak of the schedule that each row names, shape (M,); NaN where it names none."""
    peaks = {name: schedule.peak for name, schedule in schedules.items()}
    return np.asarray(_names(table).map(peaks), dtype=np.float64)


def _refuse_rows(table: pd.DataFrame, schedules: Mapping[str, Schedule], rates: Array) -> None:
    """Raise all problems of the rows that name a schedule, a sentence per schedule and problem."""
    if "schedule" not in table.columns:
        raise InputError(
            "schedules are given, but the table has no column schedule; add it, with values from "
            + ", ".join(schedules)
        )
    names, steps, problems = _names(table), _steps(table), []

    def refuse(wrong: Any, words: str) -> None:
        rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
        if len(rows):
            more = f" ({len(rows) - 1:,} more like it)" if len(rows) > 1 else ""
            problems.append(f"row {rows[0] + 2}{more}, column schedule: {words}")

    for name in names.dropna().unique():
        mine, schedule = (names == name).to_numpy(dtype=bool), schedules.get(name)
        if schedule is None:
            known = ", ".join(schedules)
            hint = did_you_mean(name, schedules)
            refuse(mine, f"{name!r} is not among the schedules given ({known}){hint}")
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
    """Yield the rows of each named schedule, and their histories."""
    names, steps = _names(table), _steps(table)
    for name in names.dropna().unique():
        index = np.flatnonzero(names == name)
        yield index, _history(schedules[name].curve(), steps[index], np.ones(len(index)))


def _by_columns(table: pd.DataFrame, decay: float | None) -> Iterator[tuple[Index, History]]:
    """Yield rows whose schedule follows from their own columns, and their histories.

    Runs of the same shape differ only in their peak, so each shape is computed once.
    """
    tokens, batch, branch = (
        column_numbers(table, name) for name in ("n_tokens", "batch_tokens", "branch_n_tokens")
    )
    batch = np.where(batch > 0, batch, np.nan)
    annealed = np.zeros(len(table), dtype=bool)
    if "phase" in table.columns:
        annealed = (table["phase"] == "annealed").to_numpy(dtype=bool) & (tokens > 0)
    if decay is not None:
        branch = np.where(np.isnan(branch), np.rint(tokens / (1.0 + decay)), branch)
    shapes = np.column_stack(
        [
            column_numbers(table, "warmup_tokens") / batch,
            np.where(annealed, branch / batch, np.inf),
            np.where(annealed, tokens / batch, np.inf),
        ]
    )
    steps, rates = _steps(table), column_numbers(table, "learning_rate")
    unknown = np.isnan(np.column_stack([shapes, steps, rates])).any(axis=1) | _apart(table)
    # More steps than this come from a batch counted in sequences, or from a large target.
    rows = np.flatnonzero(~unknown & (steps <= MOST_STEPS))
    _refuse_branches(tokens[rows], branch[rows], annealed[rows])
    distinct, which = np.unique(shapes[rows], axis=0, return_inverse=True)
    for i, (warmup, start, end) in enumerate(distinct.tolist()):
        index = rows[which.ravel() == i]
        curve = _own_curve(warmup, start, end, int(steps[index].max()))
        yield index, _history(curve, steps[index], rates[index])


def _apart(table: pd.DataFrame) -> Any:
    """Rows that name a schedule, or are excluded, shape (M,)."""
    named = table["schedule"].notna() if "schedule" in table.columns else False
    return named | (table["excluded"].notna() if "excluded" in table.columns else False)


def _refuse_branches(tokens: Array, branch: Array, annealed: Any) -> None:
    """Refuse branches that do not leave the trunk before the row; a question may hold them."""
    wrong = np.flatnonzero(annealed & (branch >= tokens))
    if len(wrong):
        raise InputError(
            f"branch_n_tokens {branch[wrong[0]]:.0f} is not below n_tokens {tokens[wrong[0]]:.0f}, "
            "which counts the decay's tokens too; correct one of them"
        )


def _own_curve(warmup: float, branch: float, end: float, n_steps: int) -> Curve:
    """The curve of ``dcpt.runs.course.learning_rate_at``, in units of the peak.

    Args:
        warmup: Steps of the warmup; need not be a whole number.
        branch: Steps before the decay to zero; infinite on a trunk.
        end: Steps at the end of the decay.
        n_steps: Length of the curve.
    """
    step = np.arange(1, n_steps + 1)
    rates = np.where(step < warmup, step / max(warmup, 1.0), 1.0)
    if np.isfinite(branch):
        falling = (step > branch) & (step >= warmup)
        # The last of n steps trains at 1/(n + 1) of the peak, so that no step has rate 0.
        rates[falling] = 1.0 - (step[falling] - branch) / (end - branch + 1.0)
    ends = {np.ceil(warmup), np.floor(branch)}
    return Curve(rates, tuple(sorted(int(end) for end in ends if 0 < end < n_steps)))


def _history(curve: Curve, steps: Array, unit: Array) -> History:
    """The history before each row, computed once per distinct step."""
    distinct, which = np.unique(steps.astype(np.intp), return_inverse=True)
    return history_at(curve, distinct).take(which, unit)
