"""CSV files as people have them: commas, semicolons or tabs; decimal points or decimal commas."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd

from dcpt.errors import InputError

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_DECIMAL = re.compile(r"[+-]?(\d*,\d{1,2}|\d*,\d{4,}|0,\d+|\d*,\d+[eE][+-]?\d+)")
_GROUPS = re.compile(r"[+-]?\d{1,3}(,\d{3}){2,}(\.\d*)?|[+-]?\d{1,3}(,\d{3})+\.\d*")
_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


def read_csv(path: Path) -> pd.DataFrame:
    """Read all cells as text; the index counts rows as the file does (the header is row 1).

    The separator is the one that parts the header. Commas inside numbers are read as decimal
    commas or as marks of thousands, whichever the other numbers of the file show.

    Raises:
        InputError: If it is not a CSV in UTF-8, rows differ in length, or a comma inside a number
            may mean two things.
    """
    numbers, rows = _read_rows(path)
    if not rows:
        raise InputError(f"{path.name} is empty; its first row names the columns")
    header = pd.Index([name.strip() for name in rows[0]], dtype=object)
    ragged = [
        (number, len(row))
        for number, row in zip(numbers, rows, strict=True)
        if len(row) != len(header)
    ]
    if ragged:
        number, length = ragged[0]
        more = f", and {len(ragged) - 1:,} more rows like it" if len(ragged) > 1 else ""
        raise InputError(
            f"{path.name}, row {number}: {length} cells where the header has {len(header)}{more}; "
            "is the row cut off, or does a cell hold a comma without quotes?"
        )
    cells = np.array(rows[1:], dtype=object).reshape(len(rows) - 1, len(header))
    frame = pd.DataFrame(cells, columns=header, index=numbers[1:], dtype=object)
    return _without_commas(frame, path.name)


def _read_rows(path: Path) -> tuple[list[int], list[list[str]]]:
    numbers: list[int] = []
    rows: list[list[str]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = _find_separator(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, strict=True)
            for number, row in enumerate(reader, start=1):
                if row:  # a blank line
                    numbers.append(number)
                    rows.append(row)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path.name} is not UTF-8 text (byte 0x{error.object[error.start]:02x} after row "
            f"{numbers[-1] if numbers else 0}); save it as CSV in UTF-8"
        ) from error
    except csv.Error as error:
        raise InputError(
            f"{path.name} is not a CSV after row {numbers[-1] if numbers else 0} ({error}); "
            "save it as CSV, with commas and closed quotes"
        ) from error
    return numbers, rows


def _find_separator(header: str) -> str:
    """The character that parts the header into the most cells; a comma if none does."""
    return max(_SEPARATORS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))


def _without_commas(frame: pd.DataFrame, place: str) -> pd.DataFrame:
    """Rewrite numbers with commas; other cells stay as they are."""
    found: list[tuple[int, int, str]] = []
    decimal = groups = either = None
    has_points = False
    for at in range(frame.shape[1]):
        texts = [cell.strip() for cell in frame.iloc[:, at].to_numpy(object)]
        for row, text in enumerate(texts) if _holds_numbers(texts) else ():
            if "," not in text:
                has_points |= _POINT.fullmatch(text) is not None
                continue
            if _DECIMAL.fullmatch(text):
                decimal = decimal or (row, at, text)
            elif _GROUPS.fullmatch(text):
                groups = groups or (row, at, text)
            elif _EITHER.fullmatch(text):
                either = either or (row, at, text)
            else:
                continue
            found.append((row, at, text))
    if not found or (decimal and has_points):
        return frame  # with decimal points elsewhere a comma is an error, which its cell reports
    if decimal and groups:
        raise InputError(
            f"{_name(frame, place, decimal)} has a decimal comma and {_name(frame, '', groups)} "
            "has commas between thousands; write numbers without commas"
        )
    if not decimal and not groups:
        assert either is not None
        text = either[2]
        raise InputError(
            f"{_name(frame, place, either)} may mean {text.replace(',', '')} or "
            f"{text.replace(',', '.')}; write numbers without commas"
        )
    cells = frame.to_numpy(object, copy=True)
    for row, at, text in found:
        cells[row, at] = text.replace(",", "." if decimal else "")
    return pd.DataFrame(cells, columns=frame.columns, index=frame.index, dtype=object)


def _holds_numbers(texts: list[str]) -> bool:
    """Whether half of the filled cells or more start with a digit: labels may hold commas."""
    filled = [text for text in texts if text]
    return 2 * sum(text.lstrip("+-.,")[:1].isdigit() for text in filled) >= len(filled) > 0


def _name(frame: pd.DataFrame, place: str, cell: tuple[int, int, str]) -> str:
    row, at, text = cell
    where = f"row {frame.index[row]}, column {frame.columns[at]}: {text!r}"
    return f"{place}, {where}" if place else where
