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
    problems = Problems()
    groups = _by_run(logs, mapping, place, problems)
    notes = _say_steps_back([log for log, _ in groups], mapping)
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
    """The logs with their settings.

    Logs of one run and phase whose steps count from one start are merged in their order.
    """
    groups: dict[tuple[Any, ...], tuple[RunLog, Settings]] = {}
    for log in logs:
        settings = find_settings(log, mapping, place, problems)
        columns = settings.columns
        phase = (columns.get("phase"), columns.get("branch_n_tokens"))
        key = (settings.run, *phase, settings.tokens_before)
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
    if log.has_steps:
        tokens, batch = _tokens_at(log, steps, settings, mapping, place, problems)
    else:
        tokens, batch = _tokens_given(log, settings, place, problems), None
    columns = {"batch_tokens": batch} if batch else {}
    columns |= settings.columns
    values = {name: _in_nats(found.at(steps), name, mapping) for name, found in series.items()}
    measured = {name: np.isin(steps, found.steps) for name, found in series.items()}
    for at in np.flatnonzero(np.isfinite(tokens)):
        cells = {name: float(values[name][at]) for name in values if measured[name][at]}
        yield _row(settings.run, columns, round(float(tokens[at])), cells)


def _row(
    run: str, columns: dict[str, Any], n_tokens: int, cells: dict[str, float]
) -> dict[str, Any]:
    row: dict[str, Any] = {**columns, "run": run, "n_tokens": n_tokens}
    if n_tokens == 0 and "phase" in row:
        row["phase"] = "base"
        row.pop("branch_n_tokens", None)
    row |= {name: value for name, value in cells.items() if np.isfinite(value)}
    infinite = [name for name, value in cells.items() if not np.isfinite(value)]
    if infinite:
        row.setdefault("excluded", f"{', '.join(infinite)} in the log is not finite")
    return row


def _tokens_given(log: RunLog, settings: Settings, place: str, problems: Problems) -> Floats:
    """Tokens of the one point of a log without steps, shape (1,); NaN with a problem added."""
    given = settings.columns.get("n_tokens")
    if given is not None:
        return np.array([float(_read_count(given, log.run, place))])
    problems.add(
        "n_tokens",
        log.run,
        lambda runs: (
            f"{place}: the log of {runs} has no steps; write the tokens seen at its end as "
            "n_tokens into the section all_runs or runs"
        ),
    )
    return np.array([np.nan])


def _tokens_at(
    log: RunLog, steps: Any, settings: Settings, mapping: Mapping, place: str, problems: Problems
) -> tuple[Floats, int | None]:
    """Tokens at steps, NaN with a problem added, and those of one step if it is always the same."""
    if mapping.tokens is None:
        raise InputError(
            f"{place}: there is no section tokens; write tokens: {{per_step: ...}}, the tokens of "
            "one step over all devices"
        )
    counts = count_tokens(log, steps, mapping.tokens, place, problems)
    sizes = counts[steps > 0] / steps[steps > 0]
    same = len(sizes) > 0 and bool(np.ptp(sizes) <= 1e-6 * sizes.max())
    before = _read_count(settings.tokens_before, log.run, place)
    return counts + before, round(float(sizes[0])) if same else None


def _read_count(value: Any, run: str, place: str) -> int:
    try:
        return parse_count(value)
    except ValueError as error:
        raise InputError(f"{place}, runs, {run}: {error}") from None


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
    first = ["run", "n_tokens"]
    others = [name for name in frame if name not in (*first, *losses, "excluded")]
    last = ["excluded"] if "excluded" in frame else []
    return frame[[*first, *others, *losses, *last]]


def _say_steps_back(logs: Sequence[RunLog], mapping: Mapping) -> list[str]:
    """Notes on steps that go back, and on values that were logged again at one step."""
    back = [log for log in logs if log.steps_back]
    notes = []
    if back:
        first = back[0].steps_back[0]
        n_values = sum(found.n_values for log in back for found in log.steps_back)
        notes.append(
            f"The steps go back in {len(back)} of {len(logs)} logs "
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
