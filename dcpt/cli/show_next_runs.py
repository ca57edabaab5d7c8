"""The output of ``dcpt next-runs``: a table of runs with their price and the interval expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcpt.cli.console import make_table, print_line
from dcpt.quantities import (
    format_count,
    format_percent,
    format_rate,
    format_share,
    format_shares,
)

if TYPE_CHECKING:
    from rich.console import Console

    from dcpt.decide.next_runs import NextRun, NextRuns

COLUMNS = (
    *("run", "parameters", "share", "learning rate", "tokens", "decay"),
    *("cost of the target's", "GPU-hours", "interval after it"),
)


def show_next_runs(console: Console, chosen: NextRuns) -> None:
    """Print the chosen runs, and what they are expected to tell."""
    if chosen.runs:
        rows = [_row(number, run) for number, run in enumerate(chosen.runs, 1)]
        console.print(make_table("", COLUMNS, rows))
    for line in chosen.words:
        print_line(console, line)


def _row(number: int, run: NextRun) -> tuple[str, ...]:
    hours, after = run.price.gpu_hours, run.ratio_interval
    return (
        str(number) if run.base is None else f"{number} ({run.base})",
        format_count(run.n_params),
        format_share(run.ratio),
        "" if run.learning_rate is None else format_rate(run.learning_rate),
        format_count(run.n_tokens),
        format_count(run.decay_tokens),
        format_percent(run.price.share),
        "" if hours is None else f"{hours:.3g}",
        format_shares(after.low, after.high),
    )
