"""The points of a run: losses by step, steps as tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import find_nearest
from dcpt.trainer_logs.mapping import Mapping, Names, Tokens, find_each
from dcpt.trainer_logs.problems import Problems
from dcpt.trainer_logs.records import RunLog, Series

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]

SHOWN_METRICS = 12
"""Names of metrics that a message lists."""


def count_steps(log: RunLog, mapping: Mapping, place: str, problems: Problems) -> RunLog:
    """The log with steps as the metric ``step`` of the mapping counts them."""
    counter = None if mapping.step is None else log.metrics.get(mapping.step)
    if mapping.step is None or not log.has_steps:
        return log
    if counter is None:
        problems.add(
            "step",
            log.run,
            lambda runs: (
                f"{place}, step: the log of {runs} has no metric {mapping.step}; "
                f"{_list_metrics(log, mapping.step or '')}"
            ),
        )
        return log
    metrics = {}
    for name, series in log.metrics.items():
        found = counter.at(series.steps)
        known = np.isfinite(found)
        steps, values = found[known].astype(np.int64), series.values[known]
        last = np.append(np.diff(steps) > 0, True)[: len(steps)]  # the last value of a step
        metrics[name] = Series(steps[last], values[last])
    return replace(log, metrics=metrics)


def find_losses(
    log: RunLog, losses: dict[str, Names], place: str, problems: Problems
) -> dict[str, Series]:
    """The loss of each channel, joined where its metric was renamed.

    Args:
        log: The run's log.
        losses: By channel, the names of its metric.
        place: The file of the mapping, for messages.
        problems: Problems are added to it.
    """
    mapped = {name for names in losses.values() for name in names}

    def find(channel: str, names: Names) -> Series | None:
        series = _join(log, names)
        if series is None:
            problems.add(
                f"loss {channel}",
                log.run,
                lambda runs: (
                    f"{place}, losses, {channel}: the log of {runs} ({log.trainer}, {log.source}) "
                    f"has no metric {' or '.join(names)}; {_list_metrics(log, names[0])}"
                ),
            )
        else:
            _find_renamed(log, channel, names, series, mapped, place, problems)
        return series

    return find_each(losses, find)


def _join(log: RunLog, names: Names) -> Series | None:
    """The values of a metric under all its names, each until the next begins; None without any."""
    parts = [log.metrics[name] for name in names if name in log.metrics]
    parts = sorted((part for part in parts if len(part.steps)), key=lambda part: int(part.steps[0]))
    if not parts:
        return None
    series = parts[0]
    for part in parts[1:]:
        series = series.before(int(part.steps[0])).followed_by(part)
    return series


def _find_renamed(
    log: RunLog,
    channel: str,
    names: Names,
    series: Series,
    mapped: set[str],
    place: str,
    problems: Problems,
) -> None:
    """Another metric that begins where this one ends, as after a renaming."""
    last, gap = int(series.steps[-1]), _gap(series.steps)
    if not log.has_steps or log.last_step < last + 2 * gap:
        return
    later = {
        name: int(other.steps[0])
        for name, other in log.metrics.items()
        if name not in mapped and len(other.steps) and last < other.steps[0] <= last + 2 * gap
    }
    other = find_nearest(names[-1], later, cutoff=0.3)
    if other is None:
        return
    problems.add(
        f"renamed {channel}",
        log.run,
        lambda runs: (
            f"{place}, losses, {channel}: in the log of {runs}, {names[-1]} ends at step {last} "
            f"and {other} begins at step {later[other]}; if the metric was renamed, write "
            f"{channel}: [{', '.join(names)}, {other}]; if not, remove what is after step {last} "
            "from the log"
        ),
    )


def _gap(steps: Steps) -> int:
    """Steps between two measurements, as a median."""
    return int(np.median(np.diff(steps))) if len(steps) > 1 else int(max(steps[-1], 1))


def _list_metrics(log: RunLog, near: str) -> str:
    """The metrics of a log for a message, those like a name first."""
    names = sorted(log.metrics, key=lambda name: ("loss" not in name.lower(), name))
    nearest = find_nearest(near, names, cutoff=0.5)
    hint = f"did you mean {nearest!r}? " if nearest else ""
    more = ", ..." if len(names) > SHOWN_METRICS else ""
    return f"{hint}its metrics are: {', '.join(names[:SHOWN_METRICS])}{more}"


def count_tokens(
    log: RunLog, steps: Steps, tokens: Tokens, place: str, problems: Problems
) -> Floats:
    """Tokens seen at steps of a log, shape (M,); NaN where a problem was added.

    Where the log has no count at a step, the tokens of a step follow from the others if they are
    the same at all steps.
    """
    if tokens.per_step is not None:
        return np.asarray(steps * float(tokens.per_step), dtype=np.float64)
    assert tokens.metric is not None
    series = log.metrics.get(tokens.metric)
    if series is None or not len(series.steps):
        problems.add(
            "tokens",
            log.run,
            lambda runs: (
                f"{place}, tokens: the log of {runs} has no metric {tokens.metric}; give per_step, "
                "the tokens of one step over all devices"
            ),
        )
        return np.full(len(steps), np.nan)
    counts = np.where(steps == 0, 0.0, series.at(steps)) * tokens.times
    unknown = np.isnan(counts)
    if unknown.any():
        rates = (series.values / np.maximum(series.steps, 1))[series.steps > 0]
        if len(rates) and np.ptp(rates) <= 1e-6 * rates.max():
            counts[unknown] = steps[unknown] * rates[0] * tokens.times
        else:
            _add_unknown(log, steps[unknown], tokens, place, problems)
    return counts


def _add_unknown(log: RunLog, steps: Steps, tokens: Tokens, place: str, problems: Problems) -> None:
    problems.add(
        "tokens at",
        log.run,
        lambda runs: (
            f"{place}, tokens: {runs} measured losses at {len(steps)} steps, such as {steps[0]}, "
            f"at which {tokens.metric} was not logged, and tokens per step differ between steps; "
            "log it at these steps, or give per_step"
        ),
    )
