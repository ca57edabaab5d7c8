"""The two files of olmix: ``ratios.csv`` and ``metrics.csv``, with a row per run in each.

Both have the column ``run_id`` and perhaps ``name``. The other columns of ``ratios.csv`` are shares
of the sources, which sum to 1; those of ``metrics.csv`` are metrics at the end of the run, most of
them bits per byte. There are no steps: the mapping gives ``n_tokens``.

Source: ``olmix/fit/loaders.py`` of https://github.com/allenai/olmix
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from dcpt.errors import InputError
from dcpt.table.csv_files import read_csv
from dcpt.trainer_logs.records import Format, LogBuilder

_FILES = ("ratios.csv", "metrics.csv")
_LABELS = ("run_id", "name", "run", "index")


def _read(folder: Path) -> Iterator[tuple[str | None, LogBuilder]]:
    for name in _FILES:
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} does not exist; olmix needs {' and '.join(_FILES)}")
    ratios, metrics = (_by_run(folder / name) for name in _FILES)
    alone = [str(run) for run in ratios.index.symmetric_difference(metrics.index)]
    if alone:
        raise InputError(
            f"{folder}: {len(alone)} runs are in only one of {' and '.join(_FILES)}, such as "
            f"{alone[0]}; add or remove their rows"
        )
    for run in metrics.index:
        log = LogBuilder(has_steps=False)
        log.config = _row(ratios, run, folder / _FILES[0])
        log.add(0, _row(metrics, run, folder / _FILES[1]).items())
        yield str(run), log


def _by_run(path: Path) -> pd.DataFrame:
    frame = read_csv(path)
    if "run_id" not in frame:
        raise InputError(f"{path}: there is no column run_id, which olmix writes; add it")
    twice = frame["run_id"][frame["run_id"].duplicated()]
    if len(twice):
        raise InputError(f"{path}: the run {twice.iloc[0]} has several rows; keep one row per run")
    return frame.set_index("run_id")


def _row(frame: pd.DataFrame, run: Any, path: Path) -> dict[str, float]:
    """The numbers of a run; empty cells are left out."""
    found = {}
    for name, cell in frame.loc[run].items():
        if name in _LABELS or cell == "":
            continue
        try:
            found[str(name)] = float(cell)
        except ValueError:
            raise InputError(
                f"{path}, run {run}, column {name}: {cell!r} is not a number; write the number, or "
                "leave the cell empty"
            ) from None
    return found


FORMAT = Format(
    "olmix",
    ("ratios.csv",),
    lambda path, head: (
        path.name in _FILES and head.startswith("run_id,") and path.with_name(_FILES[0]).is_file()
    ),
    _read,
    of_folder=True,
)
