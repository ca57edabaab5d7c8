"""Watch a large run: its log, the recommendation that it follows, and the fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dcpt.errors import InputError
from dcpt.pipeline.workspace import Place, fit_folder
from dcpt.quantities import count_things, format_rate, format_share

if TYPE_CHECKING:
    import pandas as pd

    from dcpt.decide.watched import Watched

TABLES = (".csv", ".tsv", ".parquet", ".pq")


def watch_log(
    place: Place,
    logs: Sequence[Path],
    *,
    mapping: Path | None = None,
    run: str | None = None,
    ratio: float | None = None,
    learning_rate: float | None = None,
    level: float = 0.9,
    laws: Sequence[str] = (),
) -> tuple[Watched, list[str]]:
    """Compare the log of a large run with the prediction of a study's, or a fit folder's, fit.

    The target is that of ``recommendation.json``.

    Args:
        place: The study, or the folder of a fit.
        logs: A runs table, or the logs of a trainer that ``dcpt import`` reads.
        mapping: The mapping file of these logs; None for a runs table.
        run: The run in the log; None if it holds one.
        ratio: The run's share of domain text; None takes it from the log, else the recommended one.
        learning_rate: Its peak rate; None takes it from the log, else the recommended one.
        level: Interval probability.
        laws: A person's own laws in the fit.

    Returns:
        Where the run stands, and sentences about what was assumed.

    Raises:
        InputError: If there is no recommendation, it is older than the fit, or the log cannot be
            read or judged.
    """
    from dcpt.decide import read_recommendation
    from dcpt.decide.large_run import watch_run
    from dcpt.laws import load_fit

    folder = fit_folder(place)
    answer, fit = read_recommendation(folder), load_fit(folder, laws)
    if answer.fit_sha256 != fit.sha256:
        raise InputError(
            f"{folder}: recommendation.json was made from another fit than fit.json; "
            f"run `dcpt recommend {place}` again"
        )
    runs, notes = _read_run(logs, mapping, run)
    best, found = answer.best or answer.central, {}
    for name, given in (("ratio", ratio), ("learning_rate", learning_rate)):
        value = given if given is not None else _of_run(runs, name)
        if value is None and best is not None:
            value = getattr(best, name)
            if value is not None:
                said = format_share(value) if name == "ratio" else format_rate(value)
                words = name.replace("_", " ")
                notes.append(f"the log names no {words}; the recommended one, {said}, is assumed")
        found[name] = value
    if found["ratio"] is None:
        raise InputError(
            f"the share of domain text of run {runs['run'].iloc[0]} is not known: give --ratio"
        )
    share, rate = found["ratio"], found["learning_rate"] if fit.seen_rates else None
    watched = watch_run(fit, answer.target, runs, ratio=share, learning_rate=rate, level=level)
    return watched, notes


def _read_run(
    logs: Sequence[Path], mapping: Path | None, run: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the run, without those that the log excludes."""
    from dcpt.table.files import load_log
    from dcpt.trainer_logs import import_runs, read_logs, read_mapping

    notes: list[str] = []
    if mapping is not None:
        found, notes = read_logs(logs)
        runs, more = import_runs(found, read_mapping(mapping), mapping.name)
        notes = [*notes, *more]
    elif len(logs) == 1 and logs[0].suffix in TABLES:
        runs, n_replaced = load_log(logs[0])
        if n_replaced:
            notes.append(
                f"the tokens of {logs[0].name} go back, as after a resume: the rows added last "
                f"count, and {count_things(n_replaced, 'earlier row')} are left out"
            )
    else:
        raise InputError(
            f"{', '.join(map(str, logs))}: this is no runs table; name the metrics of a trainer's "
            "log in a mapping file and give it with --mapping (`dcpt import` drafts it)"
        )
    if "excluded" in runs:
        runs = runs[runs["excluded"].isna()]
    if run is not None:
        names = list(dict.fromkeys(runs["run"]))
        runs = runs[runs["run"] == run]
        if runs.empty:
            raise InputError(
                f"--run {run}: the log has no such run; it has {', '.join(map(str, names[:5]))}"
            )
    if runs.empty:
        raise InputError(f"{', '.join(map(str, logs))}: the log has no loss yet; watch it later")
    return runs, notes


def _of_run(runs: pd.DataFrame, name: str) -> float | None:
    """A setting of the run in its log; None where the log does not have it."""
    known = [] if name not in runs else runs[name].dropna().tolist()
    return float(known[-1]) if known else None
