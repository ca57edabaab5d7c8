"""The runs table as a file: CSV or parquet, in and out."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from dcpt.atomic_files import replace_file
from dcpt.errors import InputError
from dcpt.names import CHANNEL_NAME, CHANNEL_RULE, shorten
from dcpt.table.checks import check_runs
from dcpt.table.columns import channel_of, hint_at_column, in_normal_form, known_column

_CSV = (".csv",)
_PARQUET = (".parquet", ".pq")


def load_runs(
    source: str | os.PathLike[str] | pd.DataFrame, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a runs table and check every row.

    Messages number the rows of a CSV as in the file, where the header is row 1, and the rows of a
    parquet file or a frame by their index, from 0. An empty cell is unknown; the text ``NA`` in a
    column of numbers is an error.

    Args:
        source: A ``.csv`` (UTF-8, commas) or ``.parquet`` file, or a frame with the same columns.
        columns: Names of columns in this table that differ from dcpt's: ``{"n_params": "N"}``
            reads the column ``N`` as ``n_params``.

    Returns:
        The checked table, as ``dcpt.table.check_runs`` returns it.

    Raises:
        InputError: If the file cannot be read, or with all problems of its cells together.

    Examples:
        >>> import pandas as pd
        >>> rows = {"run": ["a", "a"], "N": [1.8e6, 1.8e6], "n_tokens": [0, 1e6]}
        >>> frame = pd.DataFrame({**rows, "ratio": [0.5, 0.5], "loss_domain": [4.0, 3.5]})
        >>> dcpt.load_runs(frame, {"n_params": "N"})["n_params"].tolist()
        [1800000, 1800000]
        >>> dcpt.load_runs(frame.assign(ratio=[0.5, 50]), {"n_params": "N"})
        Traceback (most recent call last):
        dcpt.errors.InputError: the frame, row 1, column ratio: 50 lies outside 0..1...
    """
    if isinstance(source, pd.DataFrame):
        frame, place = source, "the frame"
    else:
        path = Path(source)
        frame, place = _read_file(path), path.name
    return check_runs(_renamed(frame, columns or {}, place), place)


def write_runs(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a runs table so that ``load_runs`` reads the same numbers back.

    The file appears whole or not at all, and replaces an older one.

    Args:
        frame: A runs table.
        path: A ``.csv`` or ``.parquet`` file; its folder is created if it does not exist.

    Raises:
        InputError: If the suffix is another or the file cannot be written.
    """
    path = Path(path)
    suffix = _known_suffix(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as part:
            if suffix in _CSV:
                frame.to_csv(part, index=False, lineterminator="\n")
            else:
                frame.to_parquet(part, index=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"{path} cannot be written ({reason}); free some space or choose another place"
        ) from error


def check_replaceable(path: Path, source: Path) -> None:
    """Refuse to write a runs table over its own source, or over a file that is not a runs table.

    Raises:
        InputError: If the file exists and is one of the two.
    """
    if not path.exists():
        return
    remedy = "choose another name with --out"
    if path.samefile(source):
        raise InputError(f"{path}: the table is read from this file; {remedy}")
    try:
        load_runs(path)
    except InputError as error:
        raise InputError(
            f"{path}: the file exists and is not a runs table of dcpt; {remedy}"
        ) from error


def _known_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _CSV + _PARQUET:
        raise InputError(
            f"{path} is not named like a runs table; its name must end in .csv or .parquet"
        )
    return suffix


def _read_file(path: Path) -> pd.DataFrame:
    suffix = _known_suffix(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; give the path of a runs table (.csv, .parquet)")
    try:
        return _read_csv(path) if suffix in _CSV else _read_parquet(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path} cannot be read ({reason}); give a file that can") from error


def _read_csv(path: Path) -> pd.DataFrame:
    """Read all cells as text, so that no type is guessed; the index numbers the file's rows."""
    numbers, rows = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file, strict=True), start=1):
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
    if not rows:
        raise InputError(f"{path.name} is empty; its first row names the columns")
    header = pd.Index([name.strip() for name in rows[0]], dtype=object)
    ragged = [
        (n, len(row)) for n, row in zip(numbers, rows, strict=True) if len(row) != len(header)
    ]
    if ragged:
        words = [
            f"{path.name}, row {number}: {length} cells where the header has {len(header)}; is the "
            "row cut off, or does a cell hold a comma without quotes?"
            for number, length in ragged[:20]
        ]
        if len(ragged) > 20:
            words.append(f"{path.name}: {len(ragged) - 20:,} more rows like these")
        raise InputError(words)
    cells = np.array(rows[1:], dtype=object).reshape(len(rows) - 1, len(header))
    return pd.DataFrame(cells, columns=header, index=numbers[1:], dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pd.read_parquet(path)
    except OSError:
        raise
    except Exception as error:  # damaged metadata: pyarrow and pandas raise a dozen kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{path.name} is not a parquet file ({reason}); write it again, or give a CSV"
        ) from error
    return frame.reset_index(drop=True)


def _renamed(frame: pd.DataFrame, columns: Mapping[str, str], place: str) -> pd.DataFrame:
    found = [str(name) for name in frame.columns]
    spelt = {unicodedata.normalize("NFC", name): name for name in found}
    problems = []
    columns = {
        in_normal_form(name): spelt.get(unicodedata.normalize("NFC", source), source)
        for name, source in columns.items()
    }
    for name, source in columns.items():
        channel = channel_of(name)
        if channel is not None and CHANNEL_NAME.fullmatch(channel) is None:
            problems.append(f"--column {name}={source}: {shorten(channel)} {CHANNEL_RULE}")
        if known_column(name) is None:
            hint = hint_at_column(name) or "; the documentation of the runs table lists its columns"
            problems.append(f"--column {name}={source}: dcpt reads no column {name}{hint}")
        if source not in found:
            problems.append(
                f"--column {name}={source}: {place} has no column {source}; it has "
                f"{', '.join(found)}"
            )
        elif name in found and name != source and name not in columns.values():
            problems.append(
                f"--column {name}={source}: {place} already has a column {name}; rename or "
                "remove one of the two"
            )
    if problems:
        raise InputError(problems)
    names_of: dict[str, list[str]] = {}
    for name, source in columns.items():
        names_of.setdefault(source, []).append(name)
    picked = [(at, name) for at, old in enumerate(found) for name in names_of.get(old, [old])]
    renamed = frame.iloc[:, [at for at, _ in picked]]
    return renamed.set_axis([name for _, name in picked], axis="columns")
