"""Which laws can be fitted to a table, with which parameters, and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.bounds import box
from dcpt.laws.law import Law
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.rate_rule import rule_of
from dcpt.laws.points.record import HISTORY, Points, distinct, has_mixtures, known
from dcpt.table.rate_histories import FILE_OF_SCHEDULES

Array = NDArray[np.float64]

COLUMNS = {
    "share": "ratio",
    "annealed": "phase",
    "base_loss": "a D = 0 row for every run (or base_loss_<channel>)",
    "unique_tokens": "unique_tokens_<channel>",
    "epochs": "unique_tokens_<channel>",
    "source_shares": "share_<channel> of every source",
    "base_loss_general": (
        "the general side's loss at D = 0 (a row for every run or base_loss_<general channel>; "
        "with several general channels also weight_<channel>)"
    ),
}
"""What a user adds to the table to provide a field of the points, if not a column of its name."""

NO_HISTORY = (
    "the history of the learning rate (learning_rate, batch_tokens, warmup_tokens and, on annealed "
    "rows, branch_n_tokens; or a schedule)",
)
"""What is missing where the columns are there and no row has values in all of them."""

WHILE_FALLING = "the learning rate falls here, which only laws of its whole history describe"

MOST_NAMED = 3
"""A message lists at most this many laws with missing columns; it summarises more than these."""

MOST_VALUES = 6
"""Values of an axis that a message lists."""

AXIS_WORDS = {
    "n_params": "sizes",
    "n_tokens": "token counts",
    "ratio": "ratios",
    "epochs": "numbers of epochs",
}
"""Plural names of the values of an axis."""


def columns_for(fields: Iterable[str]) -> list[str]:
    """What the runs table must have to provide fields of the points.

    Args:
        fields: Names of fields.

    Returns:
        Column names, or phrases where several columns are needed; without duplicates.
    """
    return list(dict.fromkeys(COLUMNS.get(name, name) for name in fields))


def values_along(axis: str) -> str:
    """The plural noun for the values of an axis, such as ``ratios`` or ``values of phase``."""
    return AXIS_WORDS.get(axis, f"values of {_axis_name(axis)}")


def _axis_name(axis: str) -> str:
    """The column of an axis; the axis itself where a phrase describes several columns."""
    column = COLUMNS.get(axis, axis)
    return axis if " " in column else column


def data_for(law: Law, data: ChannelData) -> ChannelData:
    """Select the points that a law is fitted to.

    These are the points in the law's phases, within its ranges, and with a known value of every
    field that it needs.

    Args:
        law: The law.
        data: The channel's points.

    Returns:
        The selected points. If a needed field is missing from all points, only the phases are
        selected.
    """
    annealed = data.points.get("annealed") > 0
    in_phases = (annealed & ("annealed" in law.phases)) | (~annealed & ("constant" in law.phases))
    kept = data.take(in_phases)
    if _missing_columns(law, kept):
        return kept
    if HISTORY.isdisjoint(law.needs):
        kept = kept.take(~np.isnan(kept.points.get("annealed")), WHILE_FALLING)
    kept = kept.take(known(kept.points, law.needs), f"{law.name} needs {', '.join(law.needs)}")
    for limits in law.holds_on:
        values = getattr(kept.points, limits.field)
        if values is not None:
            kept = kept.take(limits.holds(values), f"{law.name} is valid for {limits}")
    return kept


def refusal(
    law: Law,
    data: ChannelData,
    ignore: frozenset[str] = frozenset(),
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> str | None:
    """Why a law cannot be fitted to a channel.

    Args:
        law: The law.
        data: The channel's points, as ``data_for`` returns them.
        ignore: Axes that are not checked (a fold may lack a phase that the table has).
        fixed: Fixed values of parameters, natural units.
        bounds: Bounds (low, high) that replace the law's own, natural units.

    Returns:
        The reason as a clause; None if the law can be fitted.

    Raises:
        InputError: If a bound is invalid.
    """
    if law.side not in ("any", data.side):
        return f"it is for the {law.side} side"
    points = data.points
    missing = _missing_columns(law, data)
    if missing:
        words = f"it needs {', '.join(missing)}"
        if any(name.startswith(FILE_OF_SCHEDULES) for name in missing):
            return words
        return f"{words}, which is missing from the table"
    if len(points) == 0:
        return f"the channel has no points in its phases ({', '.join(law.phases)})"
    reason = _axis_refusal(law, points, ignore)
    if reason is not None:
        return reason
    lower, upper = box(law, points, fixed, bounds)
    fitted = int((upper > lower).sum())
    if len(points) <= fitted:
        return f"it has {fitted} parameters and the channel only {len(points)} points"
    return None


def _axis_refusal(law: Law, points: Points, ignore: frozenset[str]) -> str | None:
    """Why a law cannot be fitted to this design, given the distinct values along its axes."""
    for name in law.one_value:
        values = distinct(points, name)
        by_rule = name == "learning_rate" and rule_of(points) is not None
        if len(values) > 1 and not by_rule:
            return (
                f"it describes a single {_axis_name(name)} and the table has {len(values)} "
                f"({_list_values(name, values)})"
            )
    if "ratio" in law.one_value and has_mixtures(points):
        return "it describes a single mixture of sources and the runs differ in theirs"
    for axis, fewest in law.axes.items():
        if axis in ignore:
            continue
        values = distinct(points, axis)
        drops_out = len(values) == 1 and axis in law.axes_that_drop_out
        if len(values) < fewest and not drops_out:
            return (
                f"it needs at least {fewest} {values_along(axis)} (column {_axis_name(axis)}) and "
                f"the table has {len(values)} ({_list_values(axis, values)})"
            )
    return None


def _missing_columns(law: Law, data: ChannelData) -> list[str]:
    """What the table lacks for a law: columns, or the file of the schedules that it names."""
    missing = [name for name in law.needs if getattr(data.points, name) is None]
    if HISTORY.isdisjoint(missing):
        return columns_for(missing)
    others = columns_for(name for name in missing if name not in HISTORY)
    return list(dict.fromkeys([*others, *(data.lacking_history or NO_HISTORY)]))


def _list_values(name: str, values: Array) -> str:
    if name == "annealed":
        return ", ".join("annealed" if value else "constant" for value in values)
    shown = ", ".join(f"{value:.4g}" for value in values[:MOST_VALUES])
    return shown + (", ..." if len(values) > MOST_VALUES else "")


def say_refusals(
    reasons: Mapping[str, str], laws: Mapping[str, Law], data: ChannelData
) -> list[str]:
    """Summarise refusals: laws with the same reason are listed together.

    Args:
        reasons: Reason for each refused law, by name.
        laws: Law records by name; these laws must be among them.
        data: The channel.

    Returns:
        One clause per reason. If more than ``MOST_NAMED`` laws lack columns, one clause stands for
        all of them and lists the columns.
    """
    lacking = {name: _missing_columns(laws[name], data) for name in reasons}
    without = [name for name, columns in lacking.items() if columns]
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        if len(without) <= MOST_NAMED or name not in without:
            by_reason.setdefault(reason, []).append(name)
    clauses = [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    if len(without) > MOST_NAMED:
        missing = (column for name in without for column in lacking[name])
        columns = dict.fromkeys(column.split(" (")[0] for column in missing)
        others = f"{len(without)} {'other ' if clauses else ''}laws"
        clauses.append(f"{others} need what is missing: {', '.join(columns)}")
    return clauses


def carried_laws(
    data: ChannelData,
    laws: Mapping[str, Law],
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, str | None]:
    """Which laws can be fitted to a channel.

    Args:
        data: The channel's points.
        laws: Laws by name.
        fixed: Fixed values of parameters, natural units.
        bounds: Bounds (low, high) that replace the laws' own, natural units.

    Returns:
        By law name: None if the law can be fitted, else the reason as a clause.

    Raises:
        InputError: If a bound is invalid.
    """
    return {
        name: refusal(law, data_for(law, data), fixed=fixed, bounds=bounds)
        for name, law in laws.items()
    }
