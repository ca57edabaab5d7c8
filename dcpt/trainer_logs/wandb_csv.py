"""CSV exports of W&B: of a panel (wide), of the history of runs (long), of the table of runs.

A panel's export has its x axis in the first column and three columns for each run, ``<run> -
<metric>`` and the same with ``__MIN`` and ``__MAX``, which are those of the points that W&B merges
for the plot and are not read. A long export, as ``run.history()`` gives it, has a row per step with
``_step``, and a column such as ``run`` or ``name`` where it holds several runs. The export of the
table of runs has one row per run with the last value of every metric and no steps.

Source: https://docs.wandb.ai/guides/track/public-api-guide and
https://docs.wandb.ai/guides/app/features/panels/line-plot
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.table.csv_files import read_csv
from dcpt.trainer_logs.records import Format, LogBuilder

RUN_COLUMNS = ("run", "Name", "name", "run_name", "run_id", "Run", "ID")
STEP_COLUMNS = ("_step", "Step", "step", "global_step", "train/global_step", "trainer/global_step")
TIME_COLUMNS = ("Relative Time (Process)", "Relative Time (Wall)", "Wall Time", "_timestamp")
_EXTREMES = ("__MIN", "__MAX")


def _read(path: Path) -> Iterator[tuple[str | None, LogBuilder]]:
    frame = read_csv(path)
    names = [str(name) for name in frame.columns]
    yield from _read_wide(frame, path) if _is_wide(names) else _read_long(frame, path)


def _is_wide(names: list[str]) -> bool:
    return any(" - " in name for name in names[1:]) and not set(names) & set(RUN_COLUMNS)


def _numbers(cells: pd.Series[Any]) -> NDArray[np.float64] | None:
    """A column as numbers, NaN where empty; None if it holds other text."""
    try:
        return np.asarray(cells.replace("", np.nan), dtype=np.float64)
    except ValueError:
        return None


def _whole(cells: pd.Series[Any], path: Path) -> list[int | None]:
    """A column of steps; None where it is empty."""
    numbers = _numbers(cells)
    if numbers is None or (numbers[~np.isnan(numbers)] % 1 != 0).any():
        raise InputError(
            f"{path.name}, column {cells.name}: steps are whole numbers; export the panel with "
            "steps on the x axis"
        )
    return [None if np.isnan(number) else int(number) for number in numbers]


def _read_wide(frame: pd.DataFrame, path: Path) -> Iterator[tuple[str | None, LogBuilder]]:
    axis = str(frame.columns[0])
    if axis in TIME_COLUMNS:
        raise InputError(
            f"{path.name}: the x axis of the panel is {axis}; export the panel with steps on it"
        )
    steps = _whole(frame.iloc[:, 0], path)
    columns: dict[str, dict[str, NDArray[np.float64]]] = {}
    for at, name in enumerate(map(str, frame.columns)):
        run, dash, metric = name.rpartition(" - ")
        if not dash or metric.endswith(_EXTREMES) or metric == "_step":
            continue
        numbers = _numbers(frame.iloc[:, at])
        if numbers is None:
            raise InputError(f"{path.name}, column {name}: holds text; export numbers alone")
        columns.setdefault(run, {})[metric] = numbers
    for run, metrics in columns.items():
        log = LogBuilder()
        for row, step in enumerate(steps):
            if step is not None:
                values = ((name, float(numbers[row])) for name, numbers in metrics.items())
                log.add(step, [(name, value) for name, value in values if value == value])
        yield run, log


def _read_long(frame: pd.DataFrame, path: Path) -> Iterator[tuple[str | None, LogBuilder]]:
    names = [str(name) for name in frame.columns]
    run_column = next((name for name in RUN_COLUMNS if name in names), None)
    step_column = next((name for name in STEP_COLUMNS if name in names), None)
    if run_column is None and step_column is None:
        raise InputError(
            f"{path.name}: there is neither a column with steps ({', '.join(STEP_COLUMNS)}) nor "
            f"one with runs ({', '.join(RUN_COLUMNS)}); rename the columns"
        )
    columns = {name: _numbers(frame[name]) for name in names if name != run_column}
    numbers = {name: values for name, values in columns.items() if values is not None}
    groups: list[tuple[str | None, pd.DataFrame]] = [(None, frame)]
    if run_column is not None:
        groups = [(str(run), rows) for run, rows in frame.groupby(run_column, sort=False)]
    steps = _whole(frame[step_column], path) if step_column else [0] * len(frame)
    row_of = {label: row for row, label in enumerate(frame.index)}
    for run, rows in groups:
        log = LogBuilder(has_steps=step_column is not None)
        at = [row_of[label] for label in rows.index]
        if step_column is None and len(at) > 1:
            raise InputError(
                f"{path.name}: the run {run} has {len(at)} rows and there is no column with steps "
                f"({', '.join(STEP_COLUMNS)}); rename or add it"
            )
        log.config = _constants(rows, numbers, at)
        for row in at:
            step = steps[row]
            if step is not None:
                values = ((name, float(column[row])) for name, column in numbers.items())
                log.add(step, [(name, value) for name, value in values if value == value])
        yield run, log


def _constants(
    rows: pd.DataFrame, numbers: dict[str, NDArray[np.float64]], at: list[int]
) -> dict[str, Any]:
    """Columns with one value in all rows of a run: its settings."""
    found: dict[str, Any] = {}
    for name in map(str, rows.columns):
        if name in numbers:
            known = numbers[name][at]
            known = known[~np.isnan(known)]
            if len(known) and (known == known[0]).all():
                found[name] = float(known[0])
        else:
            texts = {text for text in rows[name] if text != ""}
            if len(texts) == 1:
                found[name] = texts.pop()
    return found


def _matches(path: Path, head: str) -> bool:
    if path.suffix.lower() != ".csv" or not head:
        return False
    names = next(csv.reader([head.lstrip("\ufeff").split("\n", 1)[0].rstrip("\r")]), [])
    if {"run", "n_tokens"} <= set(names):
        raise InputError(f"{path} is a runs table already; check it with: dcpt runs {path}")
    long = set(names) & set(STEP_COLUMNS) or {"State", "Runtime"} <= set(names)
    return _is_wide(names) or bool(long)


FORMAT = Format("W&B export", ("*.csv",), _matches, _read)
