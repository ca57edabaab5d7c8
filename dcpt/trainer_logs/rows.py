"""The runs table of logs: one row for each step at which a loss was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dcpt.errors import InputError
from dcpt.quantities import parse_count
from dcpt.table import check_runs, known_column
from dcpt.trainer_logs.mapping import Mapping, list_names, mapped_metrics
from dcpt.trainer_logs.points import (
    Floats,
    count_steps,
    count_tokens,
    find_losses,
)
from dcpt.trainer_logs.problems import Problems
from dcpt.trainer_logs.records import RunLog, merge_logs
from dcpt.trainer_logs.settings import Settings, find_settings


def import_runs(
    logs: Sequence[RunLog], mapping: Mapping, place: str
) -> tuple[pd.DataFrame, list[str]]:
    """Make a runs table of logs.

    Args:
        logs: The logs of the runs.
        mapping: What the logs do not say.
        place: The file of the mapping, for messages.

    Returns:
        The table, checked as ``dcpt.load_runs`` checks it, and notes for people.

    Raises:
        InputError: With all problems together: of the mapping, or of cells of the table.
    """
    unknown = [run for run in mapping.runs if run not in {log.run for log in logs}]
    if unknown:
        raise InputError(
            f"{place}, runs: there is no log of {list_names(unknown)}; the logs are of "
            f"{list_names([log.run for log in logs])}; correct the name, or give the log"
        )
    problems, notes = Problems(), _say_steps_back(logs, mapping)
    groups = _by_run(logs, mapping, place, problems)
    rows: list[dict[str, Any]] = []
    for log, settings in groups:
        points = list(_rows(log, settings, mapping, place, problems))
        if settings.columns.get("phase") == "annealed" and len(points) > 1:
            notes.append(
                f"{log.run}: the last of {len(points)} points is taken; the others lie within the "
                "decay, which has no phase of the table."
            )
            points = points[-1:]
        rows += points
    problems.raise_if_any()
    labels = [f"{row['run']} at {row['n_tokens']} tokens" for row in rows]
    frame = pd.DataFrame(rows, index=pd.Index(labels, dtype=object))
    return check_runs(_in_order(frame), place), notes


def _by_run(
    logs: Sequence[RunLog], mapping: Mapping, place: str, problems: Problems
) -> list[tuple[RunLog, Settings]]:
    """The logs with their settings; logs of one run and phase are merged in their order."""
    groups: dict[tuple[Any, ...], tuple[RunLog, Settings]] = {}
    for log in logs:
        settings = find_settings(log, mapping, place, problems)
        columns = settings.columns
        key = (settings.run, columns.get("phase"), columns.get("branch_n_tokens"))
        if key in groups:
            groups[key] = (merge_logs(groups[key][0], log), settings)
        else:
            groups[key] = (log, settings)
    return list(groups.values())


def _rows(
    log: RunLog, settings: Settings, mapping: Mapping, place: str, problems: Problems
) -> Iterator[dict[str, Any]]:
    log = count_steps(log, mapping, place, problems)
    losses = find_losses(log, mapping.losses, place, problems)
    if not losses:
        return
    series = {f"loss_{channel}": found for channel, found in losses.items()}
    for channel, names in mapping.train_losses.items():
        found = [log.metrics[name] for name in names if name in log.metrics]
        series |= {f"train_loss_{channel}": part for part in found[-1:]}
    steps = np.unique(np.concatenate([found.steps for found in losses.values()]))
    tokens = _find_tokens(log, steps, settings, mapping, place, problems)
    values = {name: _in_nats(found.at(steps), name, mapping) for name, found in series.items()}
    measured = {name: np.isin(steps, found.steps) for name, found in series.items()}
    for at in range(len(steps)):
        if np.isfinite(tokens[at]):
            cells = {
                name: float(column[at]) for name, column in values.items() if measured[name][at]
            }
            yield _row(settings, mapping, round(float(tokens[at])), cells)


def _row(
    settings: Settings, mapping: Mapping, n_tokens: int, cells: dict[str, float]
) -> dict[str, Any]:
    row: dict[str, Any] = {"run": settings.run, "n_tokens": n_tokens, **settings.columns}
    row["n_tokens"] = n_tokens
    if n_tokens == 0 and "phase" in row:
        row["phase"] = "base"
        row.pop("branch_n_tokens", None)
    if mapping.tokens is not None and mapping.tokens.per_step is not None:
        row.setdefault("batch_tokens", mapping.tokens.per_step)
    row |= {name: value for name, value in cells.items() if np.isfinite(value)}
    infinite = [name for name, value in cells.items() if not np.isfinite(value)]
    if infinite:
        row.setdefault("excluded", f"{', '.join(infinite)} in the log is not finite")
    return row


def _find_tokens(
    log: RunLog,
    steps: Any,
    settings: Settings,
    mapping: Mapping,
    place: str,
    problems: Problems,
) -> Floats:
    """Tokens at steps, with those before the log; NaN where a problem was added."""
    given = settings.columns.get("n_tokens") if not log.has_steps else settings.tokens_before
    try:
        count = None if given is None else parse_count(given)
    except ValueError as error:
        raise InputError(f"{place}, runs, {log.run}: {error}") from None
    if not log.has_steps and count is not None:
        return np.full(len(steps), float(count))
    if not log.has_steps:
        problems.add(
            "n_tokens",
            log.run,
            lambda runs: (
                f"{place}: the log of {runs} has no steps; write the tokens that they saw as "
                "n_tokens into the section all_runs or runs"
            ),
        )
        return np.full(len(steps), np.nan)
    if mapping.tokens is None:
        raise InputError(
            f"{place}: there is no section tokens; write tokens: {{per_step: ...}}, the tokens of "
            "one step over all devices"
        )
    return count_tokens(log, steps, mapping.tokens, place, problems) + float(count or 0)


def _in_nats(values: Floats, column: str, mapping: Mapping) -> Floats:
    """Losses in nats per token."""
    if mapping.loss_unit == "nats":
        return values
    with np.errstate(invalid="ignore", divide="ignore"):
        if mapping.loss_unit == "perplexity":
            return np.asarray(np.log(values), dtype=np.float64)
    nats = values * np.log(2.0)
    if mapping.loss_unit == "bits_per_byte":
        channel = column.removeprefix("train_").removeprefix("loss_")
        nats = nats * mapping.bytes_per_token[channel]
    return np.asarray(nats, dtype=np.float64)


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Settings first, losses last, as people read the table."""
    losses = [name for name in frame if "loss_" in str(name) and known_column(str(name))]
    others = [name for name in frame if name not in losses and name != "excluded"]
    last = ["excluded"] if "excluded" in frame else []
    return frame[[*others, *losses, *last]]


def _say_steps_back(logs: Sequence[RunLog], mapping: Mapping) -> list[str]:
    """Notes on steps that go back, and on values that were logged again at one step."""
    back = [log for log in logs if log.steps_back]
    notes = []
    if back:
        first = back[0].steps_back[0]
        n_values = sum(found.n_values for log in back for found in log.steps_back)
        notes.append(
            f"The steps go back in the logs of {len(back)} runs "
            f"({list_names([log.run for log in back])}), in the first from {first.last} to "
            f"{first.to}, as after a resume. The values logged last count; {n_values} earlier ones "
            "are left out."
        )
    metrics = set(mapped_metrics(mapping.losses))
    again = {log.run: sum(log.repeats.get(name, 0) for name in metrics) for log in logs}
    runs = [run for run, n in again.items() if n]
    if runs:
        notes.append(
            f"{sum(again.values())} losses of {len(runs)} runs ({list_names(runs)}) were logged "
            "again at the same step with another value. The value logged last counts."
        )
    return notes
