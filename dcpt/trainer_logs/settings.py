"""What each run was: columns of the runs table that are the same at all of its points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dcpt.trainer_logs.mapping import Mapping, Names, find_each, mapped_metrics
from dcpt.trainer_logs.problems import Problems
from dcpt.trainer_logs.records import RunLog, Series
from dcpt.trainer_logs.run_names import compile_pattern

CLOSE = 0.02
"""Learning rates within 2 % of the peak are the peak, as for schedules."""


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Args:
        run: The run that the log belongs to.
        tokens_before: Tokens before step 0 of the log.
        columns: Values by column of the runs table, as they are written.
    """

    run: str
    tokens_before: Any
    columns: dict[str, Any]


def find_settings(log: RunLog, mapping: Mapping, place: str, problems: Problems) -> Settings:
    """The settings of a run, from its entry, its name, its configuration and ``all_runs``.

    Args:
        log: The run's log.
        mapping: The mapping.
        place: The file of the mapping, for messages.
        problems: Problems are added to it.
    """
    entry = dict(mapping.runs.get(log.run, {}))
    run, before = entry.pop("run", log.run), entry.pop("n_tokens_before", 0)
    columns = {**mapping.all_runs, **_from_config(log, mapping, place, problems)}
    if mapping.run_names is not None:
        columns |= _from_name(log.run, mapping.run_names, place, entry, problems)
    rates = find_series(log, mapping.learning_rate)
    if rates is not None and len(rates.values):
        peak = float(f"{np.nanmax(rates.values):.6g}")  # TensorBoard keeps 7 digits
        if "learning_rate" not in entry:
            _check_peak(log.run, peak, columns.get("learning_rate", peak), place, problems)
        columns.setdefault("learning_rate", peak)
    columns |= entry
    known = {name: value for name, value in columns.items() if value is not None}
    _check_known(log, known, rates, mapping, place, problems)
    return Settings(str(run), before, known)


def find_series(log: RunLog, name: str | None) -> Series | None:
    """A metric of a log; None if it has none of this name."""
    return None if name is None else log.metrics.get(name)


def _check_peak(run: str, peak: float, given: Any, place: str, problems: Problems) -> None:
    """Refuse a learning rate that the log contradicts."""
    try:
        differs = abs(float(given) - peak) > CLOSE * peak
    except (TypeError, ValueError):
        differs = True
    if differs:
        problems.add(
            "peak",
            run,
            lambda runs: (
                f"{place}: the learning rate of {runs} is {given} by its name or settings, and the "
                f"highest in the log is {peak:g}; write the peak as learning_rate into the section "
                "runs"
            ),
        )


def _from_config(log: RunLog, mapping: Mapping, place: str, problems: Problems) -> dict[str, Any]:
    def find(column: str, names: Names) -> Any:
        values = [log.config.get(name) for name in names]
        if None not in values:
            return values[0] if len(values) == 1 else sum(map(float, map(str, values)))
        missing = ", ".join(n for n, value in zip(names, values, strict=True) if value is None)
        if column not in mapping.runs.get(log.run, {}):
            problems.add(
                f"config {column}",
                log.run,
                lambda runs: (
                    f"{place}, config, {column}: the log of {runs} has no setting {missing}; "
                    f"write {column} into the entries of these runs in the section runs"
                ),
            )
        return None

    return find_each(mapping.config, find)


def _from_name(
    run: str, pattern: str, place: str, entry: dict[str, Any], problems: Problems
) -> dict[str, str]:
    expression = compile_pattern(pattern, f"{place}, run_names")
    match = expression.fullmatch(run)
    if match is not None:
        return {name: text for name, text in match.groupdict().items() if text}
    if not set(expression.groupindex) <= set(entry):
        columns = ", ".join(expression.groupindex)
        problems.add(
            "run_names",
            run,
            lambda runs: (
                f"{place}: the name of {runs} does not fit run_names {pattern!r}; change the "
                f"pattern, or write {columns} into the entries of these runs in the section runs"
            ),
        )
    return {}


def _check_known(
    log: RunLog,
    columns: dict[str, Any],
    rates: Series | None,
    mapping: Mapping,
    place: str,
    problems: Problems,
) -> None:
    if log.has_steps and "n_tokens" in columns:
        problems.add(
            "n_tokens",
            log.run,
            lambda runs: (
                f"{place}: n_tokens of {runs} follows from the steps of the log; remove it, or "
                "write n_tokens_before, the tokens before step 0 of the log"
            ),
        )
    if "ratio" not in columns:
        problems.add(
            "ratio",
            log.run,
            lambda runs: (
                f"{place}: the ratio of {runs} is nowhere in the log; write the share of domain "
                f"tokens (0 to 1) into the section runs, for example {log.run}: {{ratio: 0.3}}"
            ),
        )
    if mapping.learning_rate is not None and "learning_rate" not in columns:
        problems.add(
            "learning_rate",
            log.run,
            lambda runs: (
                f"{place}: the log of {runs} has no metric {mapping.learning_rate}; write the peak "
                "as learning_rate into the section runs"
            ),
        )
    if rates is not None and not {"phase", "schedule"} & columns.keys():
        _check_constant(log, rates, mapping, place, problems)


def _check_constant(
    log: RunLog, rates: Series, mapping: Mapping, place: str, problems: Problems
) -> None:
    """Ask for the schedule of a run whose learning rate falls while losses are measured."""
    if decays(log, rates, mapped_metrics(mapping.losses)):
        problems.add(
            "decays",
            log.run,
            lambda runs: (
                f"{place}: the learning rate of {runs} falls while losses are measured; name its "
                "schedule as schedule in the section all_runs or runs, and explain it in a file "
                "for dcpt fit --schedules"
            ),
        )


def decays(log: RunLog, rates: Series, losses: Iterable[str]) -> bool:
    """Whether a loss is measured after the rate has fallen by more than 2 % of its peak.

    Args:
        log: The run's log.
        rates: The metric of its learning rate.
        losses: The metrics of validation losses.
    """
    if not len(rates.values):
        return False
    peak = int(np.nanargmax(rates.values))
    low = rates.values < (1 - CLOSE) * rates.values[peak]
    low[:peak] = False
    if not low.any():
        return False
    first = rates.steps[low][0]
    found = (log.metrics[name] for name in losses if name in log.metrics)
    return any(bool((series.steps >= first).any()) for series in found)
