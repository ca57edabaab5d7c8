"""Check every cell and every row of a runs table once, and raise all problems together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from dcpt.errors import InputError
from dcpt.names import read_channel_name, same_but_case, shorten
from dcpt.table.cells import (
    Cells,
    Mask,
    forget_unreadable,
    own_values,
    read_cells,
    says_unreadable,
    show,
    typed,
)
from dcpt.table.channels import add_general_totals, add_ratio
from dcpt.table.columns import KIND_RULES, Column, Rule, channels_of, in_normal_form, known_column
from dcpt.table.row_rules import Finding, row_findings

MOST_SHOWN = 20
"""Kinds of problems that an error lists; the others are counted."""

SHOWN_ROWS = 5
"""Rows with the same problem that are listed after the first; the others are counted."""


def check_runs(frame: pd.DataFrame, place: str) -> pd.DataFrame:
    """Check a runs table, row by row, and give its columns their types.

    Args:
        frame: One row per point. Cells may be text as a CSV holds it. The labels of its index
            name the rows in messages.
        place: Where the table is from: the file's name in messages.

    Returns:
        A new frame with a plain index (0, 1, ...): texts without surrounding blanks (missing where
            unknown), counts (int64 where none is unknown), other numbers in float64 (NaN where
        unknown), the person's own columns as they were, ``loss_general_total`` in nats per token
            where several general channels have weights, and ``ratio`` from ``share_domain`` where
            the table has the shares alone.

    Raises:
        InputError: All problems together, each naming file, row, column, value, rule and remedy.
    """
    names = [in_normal_form(str(name)) for name in frame.columns]
    frame = frame.set_axis(names, axis="columns")
    words = [*_missing_columns(names, place), *_channel_names(names, place)]
    if words:
        raise InputError(words)
    if frame.empty:
        raise InputError(f"{place}: the table holds no rows; give one row per evaluation of a run")
    columns = {name: known_column(name, channels_of(names)) for name in names}
    cells = {name: read_cells(frame[name], column) for name, column in columns.items() if column}
    points = cells["excluded"].empty if "excluded" in cells else np.ones(len(frame), dtype=bool)
    for name in cells.keys() - {"run", "n_tokens", "excluded"}:
        cells[name] = forget_unreadable(cells[name], ~points)
    table = pd.DataFrame(
        {
            name: typed(cells[name], column) if column else own_values(frame[name])
            for name, column in columns.items()
        }
    )
    findings = [
        finding
        for name, column in columns.items()
        if column
        for finding in _cell_findings(name, column, cells[name], frame[name], points)
    ]
    findings += [*_empty_cells(cells, columns, points), *_empty_points(cells, points)]
    sound = points.copy()
    for finding in findings:
        sound[finding.rows] = False
    findings += row_findings(table[sound], frame.index)
    _raise_if_any(findings, frame.index, place)
    return add_general_totals(add_ratio(table), place)


def _missing_columns(found: list[str], place: str) -> Iterator[str]:
    wide = [name for name in found if name.endswith(("__MIN", "__MAX")) or " - " in name]
    if wide and "run" not in found:
        yield (
            f"{place}: the table is wide, a column per run (such as {shorten(wide[0])}); if "
            "W&B exported it, make a runs table of it with: dcpt import FILE.csv; if not, make it "
            "long, a row per run and step with the columns run, n_tokens and loss_<channel>"
        )
        return
    for name in sorted({name for name in found if found.count(name) > 1}):
        yield f"{place}: the column {name} is there twice; rename or remove one of the two"
    shown = ", ".join(found[:40]) + (" ..." if len(found) > 40 else "")
    hint = ""
    if len(found) == 1 and any(mark in found[0] for mark in ";\t|"):
        hint = "; the cells of a CSV are separated by commas"
    for name in ("run", "n_tokens"):
        if name not in found:
            yield (
                f"{place}: there is no column {name}; the columns found are: {shown}{hint}; if it "
                f"has another name here, say so with --column {name}=NAME"
            )
    if not channels_of(found):
        yield (
            f"{place}: there is no column loss_<channel>, such as loss_general or loss_domain; the "
            f"columns found are: {shown}{hint}; if they have other names here, say so with "
            "--column loss_general=NAME"
        )


def _channel_names(found: list[str], place: str) -> Iterator[str]:
    """Channels are folders, options and headings elsewhere, so they have one alphabet."""
    remedy = "read it under another name with --column loss_NAME=..., or rename the column"
    for channel in dict.fromkeys(channels_of(found)):
        try:
            read_channel_name(channel)
        except ValueError as error:
            column = f"loss_{channel}"
            yield f"{place}, column {shorten(column)}: {error}; {remedy}"
    for channel, other in same_but_case(channels_of(found)):
        yield (
            f"{place}, column loss_{other}: the channel differs from {channel} in case alone; "
            f"{remedy}"
        )


def _cell_findings(
    name: str, column: Column, cells: Cells, raw: pd.Series[Any], points: Mask
) -> Iterator[Finding]:
    """At most one finding per cell: the wrong kind, or the first rule that it breaks."""
    if cells.unreadable.any():
        yield Finding(
            name,
            np.flatnonzero(cells.unreadable),
            lambda row: f"{show(raw.iloc[row])} {says_unreadable(raw.iloc[row], column)}",
        )
    left = np.flatnonzero(~cells.empty & ~cells.unreadable)
    for rule in (*KIND_RULES[column.kind], *column.rules):
        broken = rule.broken(cells.values[left])
        if rule.of_points:
            broken &= points[left]
        if broken.any():
            yield Finding(name, left[broken], _sentence(rule, cells, raw))
            left = left[~broken]


def _sentence(rule: Rule, cells: Cells, raw: pd.Series[Any]) -> Callable[[int], str]:
    def sentence(row: int) -> str:
        value = cells.values[row]
        known = float(value) if isinstance(value, np.floating) else value
        return f"{show(raw.iloc[row])} {rule.says(known)}"

    return sentence


def _empty_cells(
    cells: dict[str, Cells], columns: dict[str, Column | None], points: Mask
) -> Iterator[Finding]:
    """Cells that must not be empty: see ``Column.filled``."""
    exclude = "fill it in, or give a reason in the column excluded"
    needed = {
        "rows": (np.ones_like(points), "every row needs one; fill it in"),
        "points": (points, f"every point needs one; {exclude}"),
        "trained points": (
            points & (cells["n_tokens"].values != 0),
            f"where the table has it, every point with n_tokens > 0 needs one; {exclude}",
        ),
    }
    for name, read in cells.items():
        column = columns[name]
        if column is None or column.filled is None:
            continue
        where, says = needed[column.filled]
        empty = np.flatnonzero(read.empty & where)
        if len(empty):
            yield Finding(name, empty, _always(f"the cell is empty; {says}"))


def _empty_points(cells: dict[str, Cells], points: Mask) -> Iterator[Finding]:
    """Points without any loss: a channel may be measured at fewer points than another."""
    losses = [read for name, read in cells.items() if name.startswith("loss_")]
    rows = np.flatnonzero(np.all([read.empty for read in losses], axis=0) & points)
    if len(rows):
        says = (
            "the cell is empty, as are those of all other channels; every point needs a loss: fill "
            "one in, remove the row, or give a reason in the column excluded"
        )
        name = next(name for name in cells if name.startswith("loss_"))
        yield Finding(name, rows, _always(says))


def _always(sentence: str) -> Callable[[int], str]:
    return lambda row: sentence


def _raise_if_any(findings: list[Finding], labels: pd.Index[Any], place: str) -> None:
    """Raise all findings: a line for each broken rule of a column, with its first row."""
    found = sorted((finding for finding in findings if len(finding.rows)), key=_first_row)
    words = []
    for finding in found[:MOST_SHOWN]:
        first = _first_row(finding)
        others = [str(labels[row]) for row in finding.rows if row != first]
        shown = ", ".join(others[:SHOWN_ROWS]) + (", ..." if len(others) > SHOWN_ROWS else "")
        noun = "row" if len(others) == 1 else "rows"
        also = f" (and {len(others):,} more {noun}: {shown})" if others else ""
        where = f"{place}, row {labels[first]}, column {finding.column}"
        words.append(f"{where}: {finding.sentence(first)}{also}")
    if len(found) > MOST_SHOWN:
        more = len(found) - MOST_SHOWN
        words.append(f"{place}: {more:,} more kind{'s' if more > 1 else ''} of problems")
    if words:
        raise InputError(words)


def _first_row(finding: Finding) -> int:
    return int(finding.rows.min())
