"""The runs table as a file: CSV or parquet, in and out."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dcpt.atomic_files import replace_file
from dcpt.errors import InputError
from dcpt.names import CHANNEL_NAME, CHANNEL_RULE, shorten
from dcpt.table.checks import check_runs
from dcpt.table.columns import (
    SIZE_COLUMNS,
    channel_of,
    in_normal_form,
    known_column,
    nearest_column,
)
from dcpt.table.csv_files import read_csv

_CSV = (".csv", ".tsv")
_PARQUET = (".parquet", ".pq")


def load_runs(
    source: str | os.PathLike[str] | pd.DataFrame, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a runs table and check every row.

    Rows of a CSV are named as they are counted in the file, where the header is row 1; rows of a
    parquet file or a frame by their index, from 0. An empty cell is unknown; the text ``NA`` in a
    column of numbers is an error.

    Args:
        source: A ``.csv`` file (UTF-8; commas, semicolons or tabs), a ``.tsv`` or ``.parquet``
            file, or a frame with the same columns.
        columns: Names of this table's columns where they differ: ``{"n_params": "N"}`` reads the
            column ``N`` as ``n_params``.

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


def load_log(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, int]:
    """Read a runs table to which a run in training adds its rows, and check every row.

    If the tokens of a run go back, it was resumed from a checkpoint: its rows from there on are
    replaced by those that follow. Ends of decays, which are rows of another phase, replace none.

    Args:
        path: A file, as :func:`load_runs` takes it.

    Returns:
        The checked table without the replaced rows, and how many these are.

    Raises:
        InputError: As :func:`load_runs`.
    """
    path = Path(path)
    frame = _read_file(path)
    replaced = _replaced_rows(frame)
    return check_runs(_renamed(frame[~replaced], {}, path.name), path.name), int(replaced.sum())


def _replaced_rows(frame: pd.DataFrame) -> pd.Series[bool]:
    """Rows that a later one of the same run and phase replaces, at as many tokens or fewer."""
    if not {"run", "n_tokens"} <= set(frame.columns):
        return pd.Series(False, frame.index)
    phases = [name for name in ("phase", "branch_n_tokens") if name in frame]
    tokens = pd.to_numeric(frame["n_tokens"], errors="coerce")
    keys = [frame[name] for name in ("run", *phases)]
    later = tokens[::-1].groupby(keys, dropna=False).transform(lambda t: t.shift().cummin())
    return tokens >= later[frame.index]


def write_runs(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a runs table so that ``load_runs`` reads the same numbers back.

    The file appears whole or not at all, and replaces an older one.

    Args:
        frame: A runs table.
        path: A ``.csv``, ``.tsv`` or ``.parquet`` file; its folder is made if it does not exist.

    Raises:
        InputError: If the suffix is another one or the file cannot be written.
    """
    path = Path(path)
    suffix = _known_suffix(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as part:
            if suffix in _CSV:
                separator = "\t" if suffix == ".tsv" else ","
                frame.to_csv(part, index=False, lineterminator="\n", sep=separator)
            else:
                frame.to_parquet(part, index=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"{path} cannot be written ({reason}); free some space or choose another place"
        ) from error


def check_replaceable(path: Path, source: Path, *, replace: bool) -> None:
    """Refuse to write a runs table over the file it comes from, or unasked over another file.

    Args:
        path: The file to write.
        source: The table or study that the rows come from.
        replace: Whether an existing runs table may be replaced.

    Raises:
        InputError: If the file exists and may not be replaced.
    """
    if not os.path.lexists(path):
        return
    if path.exists() and path.samefile(source):
        raise InputError(
            f"{path}: the table is read from this file; choose another name with --out"
        )
    if not replace:
        raise InputError(f"{path}: exists; choose another name with --out, or add --replace")
    try:
        load_runs(path)
    except InputError as error:
        raise InputError(
            f"{path}: exists and is not a runs table; choose another name with --out"
        ) from error


def _known_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in (".json", ".jsonl"):
        raise InputError(
            f"{path} is JSON; if it is the log of a trainer, make a table of it with: dcpt import "
            f"{path}; if not, write a CSV with a row per evaluation (run, n_tokens, "
            "loss_<channel>, n_params, ratio, learning_rate)"
        )
    if suffix not in _CSV + _PARQUET:
        remedy = "name the file in it" if path.is_dir() else "rename it"
        raise InputError(f"{path}: a runs table is a .csv, .tsv or .parquet file; {remedy}")
    return suffix


def _read_file(path: Path) -> pd.DataFrame:
    suffix = _known_suffix(path)
    if not path.exists():
        raise InputError(
            f"{path} does not exist; give the path of a runs table (.csv, .tsv, .parquet)"
        )
    try:
        return read_csv(path) if suffix in _CSV else _read_parquet(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path} cannot be read ({reason}); give a file that can") from error


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pd.read_parquet(path)
    except OSError:
        raise
    except Exception as error:  # damaged metadata make pyarrow and pandas raise a dozen kinds
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
            near = nearest_column(name)
            hint = f"did you mean {near}?" if near else "see the documentation of the runs table"
            problems.append(f"--column {name}={source}: dcpt reads no column {name}; {hint}")
        if source not in found:
            problems.append(
                f"--column {name}={source}: {place} has no column {source}; the columns found are: "
                f"{', '.join(found)}"
            )
        elif name in found and name != source and name not in columns.values():
            problems.append(
                f"--column {name}={source}: {place} has a column {name} too; rename or remove it, "
                "so that it is clear which one is meant"
                + (f", or fit with --size-column {source}" if source in SIZE_COLUMNS else "")
            )
    if problems:
        raise InputError(problems)
    names_of: dict[str, list[str]] = {}
    for name, source in columns.items():
        names_of.setdefault(source, []).append(name)
    picked = [(at, name) for at, old in enumerate(found) for name in names_of.get(old, [old])]
    renamed = frame.iloc[:, [at for at, _ in picked]]
    return renamed.set_axis([name for _, name in picked], axis="columns")
