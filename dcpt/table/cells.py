"""Cells of one column: read exactly, shown briefly."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.quantities import parse_count
from dcpt.table.columns import Column, Values

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Cells:
    """One column, read: its values, and which cells are empty or of the wrong kind."""

    values: Values
    empty: Mask
    unreadable: Mask


def read_cells(cells: pd.Series[Any], column: Column) -> Cells:
    """Read the cells of a known column as text or as numbers."""
    if column.kind == "text":
        return _read_texts(cells)
    return _read_numbers(cells, _count if column.kind == "count" else _number)


def _read_texts(cells: pd.Series[Any]) -> Cells:
    empty = cells.isna().to_numpy(bool, copy=True)
    values = np.full(len(cells), None, dtype=object)
    unreadable = np.zeros(len(cells), dtype=bool)
    for row, cell in enumerate(cells.to_numpy(object)):
        if empty[row]:
            continue
        if isinstance(cell, float | np.floating) and float(cell).is_integer():
            cell = int(cell)  # labels 1, 2, 3 turn into 1.0, 2.0 in pandas when one is missing
        if isinstance(cell, str | int | float | np.number | np.bool_):
            values[row] = str(cell).strip() or None
            empty[row] = values[row] is None
        else:
            unreadable[row] = True
    return Cells(values, empty, unreadable)


def _read_numbers(cells: pd.Series[Any], read: Callable[[object], float]) -> Cells:
    """Read numbers as Python's ``float`` does: exactly, and the text ``nan`` is no number."""
    kind = cells.dtype
    if pd.api.types.is_numeric_dtype(kind) and not (
        pd.api.types.is_bool_dtype(kind) or pd.api.types.is_complex_dtype(kind)
    ):
        values = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        return Cells(values, np.isnan(values), np.zeros(len(values), dtype=bool))
    empty = cells.isna().to_numpy(bool, copy=True)
    objects = cells.to_numpy(object)
    if pd.api.types.infer_dtype(objects, skipna=True) == "string":  # as from a CSV: all at once
        blank = empty | (objects == "")
        with contextlib.suppress(ValueError):
            values = np.where(blank, "nan", objects).astype(np.float64)
            return Cells(values, blank, np.isnan(values) & ~blank)
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(objects):
        if empty[row]:
            continue
        if isinstance(cell, str) and not cell.strip():
            empty[row] = True
        else:
            values[row] = read(cell)
    return Cells(values, empty, np.isnan(values) & ~empty)


def _number(cell: object) -> float:
    if isinstance(cell, bool | np.bool_ | bytes | bytearray):  # float() would take them
        return math.nan
    try:
        return float(cell)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        return math.nan


def _count(cell: object) -> float:
    """A count, which may be written with a suffix, such as 2M."""
    value = _number(cell)
    if math.isnan(value) and isinstance(cell, str):
        with contextlib.suppress(ValueError):
            return float(parse_count(cell))
    return value


def typed(cells: Cells, column: Column) -> Values:
    """The values for the checked table: counts as int64 where none is unknown."""
    whole = column.kind == "count" and bool(np.isfinite(cells.values).all())
    if whole and bool((np.abs(cells.values) < 2**63).all()):
        return cells.values.astype(np.int64)
    return cells.values


def says_unreadable(cell: object, column: Column) -> str:
    """Why a cell is of the wrong kind, and the remedy; follows its value in a sentence."""
    if column.kind == "text":
        return "is not text; write a name"
    text = str(cell).strip()
    if text.lower().lstrip("+-") == "nan":
        return (
            "is not a number; leave the cell empty where nothing was measured, and give a reason "
            "in the column excluded where the run diverged"
        )
    remedy = f"write {column.unit or 'the number'} in digits"
    optional = "" if column.filled else ", or leave the cell empty where it is unknown"
    return f"is not a number; {remedy}{optional}"


def show(cell: object) -> str:
    """A cell as a message shows it: numbers bare, texts in quotes, nothing longer than a line."""
    if (
        isinstance(cell, float | np.floating)
        and float(cell).is_integer()
        and abs(float(cell)) < 1e15
    ):
        text = str(int(cell))
    else:
        text = str(cell)
    if len(text) > 60:
        text = f"{text[:57]}..."
    return repr(text) if math.isnan(_number(text)) else text.strip()


def forget_unreadable(cells: Cells, rows: Mask) -> Cells:
    """The cells, unknown where they cannot be read or are not finite in some rows.

    Trainers write inf, None or a dash for the loss of a run that diverged; a row with a reason in
    ``excluded`` may hold them.

    Args:
        cells: A column.
        rows: The rows that may hold anything, shape (rows,).
    """
    numbers = cells.values.dtype == np.float64
    lost = rows & (cells.unreadable | (np.isinf(cells.values) if numbers else False))
    if not lost.any():
        return cells
    values = cells.values.copy()
    values[lost] = np.nan if numbers else None
    return Cells(values, cells.empty | lost, cells.unreadable & ~lost)


def own_values(cells: pd.Series[Any]) -> Values:
    """A column that dcpt does not know: as it is, or as numbers if all its texts are numbers."""
    texts = cells[cells.notna()].to_list()
    if not texts or not all(isinstance(cell, str) for cell in texts):
        return cells.to_numpy()
    read = _read_numbers(cells, _number)
    return cells.to_numpy() if read.unreadable.any() or read.empty.all() else read.values
