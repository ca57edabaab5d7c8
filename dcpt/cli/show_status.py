"""The output of ``dcpt status``: the runs, a trunk in a row with its decays, and the total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.table import Table

from dcpt.cli.console import make_table
from dcpt.grid.slots import Slot
from dcpt.grid.status import RunStatus, is_silent, seconds_left
from dcpt.quantities import count_things, format_count, format_seconds

_FIRST_STATES = ("failed", "damaged", "running", "interrupted", "cancelled")
"""States that a row shows if any of its runs is in them, in order of priority."""


@dataclass(frozen=True)
class StatusRow:
    """A row of the status: a run, or a trunk with the decays that start from it.

    Args:
        runs: The runs, the trunk first.
    """

    runs: tuple[RunStatus, ...]

    @property
    def state(self) -> str:
        """The state of all runs; if they differ, the most urgent, or how many are done."""
        states = [run.state for run in self.runs]
        if len(set(states)) == 1:
            return states[0]
        urgent = next((state for state in _FIRST_STATES if state in states), None)
        return urgent or f"{states.count('done')} of {len(states)} done"

    @property
    def losses(self) -> dict[str, float]:
        """Losses of the last run that has any: those after the decay once it is done."""
        return next((run.losses for run in reversed(self.runs) if run.losses), {})

    @property
    def tokens_per_s(self) -> float | None:
        """Speed of the first run that has one."""
        return next((run.tokens_per_s for run in self.runs if run.tokens_per_s), None)

    @property
    def planned_tokens(self) -> int:
        """Tokens to train in all."""
        return sum(run.planned.trained_tokens for run in self.runs)

    @property
    def left_tokens(self) -> int:
        """Tokens still to train."""
        return sum(run.left_tokens for run in self.runs)


def group_runs(statuses: Sequence[RunStatus]) -> list[StatusRow]:
    """Group every decay with the trunk that it starts from."""
    rows: dict[str, list[RunStatus]] = {}
    for status in statuses:
        if status.planned.config.identity.kind != "branch":
            rows[status.planned.identity_hash] = [status]
    for status in statuses:
        planned = status.planned
        if planned.config.identity.kind == "branch":
            start = next((name for name in planned.needs if name in rows), planned.identity_hash)
            rows.setdefault(start, []).append(status)
    return [StatusRow(tuple(runs)) for runs in rows.values()]


def status_table(rows: Sequence[StatusRow]) -> Table:
    """State, tokens, speed and losses of each row, with a column for each channel."""
    channels = list(dict.fromkeys(name for row in rows for name in row.losses))
    cells = [
        (
            _name(row),
            row.state,
            f"{format_count(row.planned_tokens - row.left_tokens)} / "
            f"{format_count(row.planned_tokens)}",
            f"{row.tokens_per_s:,.0f}" if row.tokens_per_s else "",
            *(f"{row.losses[name]:.3f}" if name in row.losses else "" for name in channels),
        )
        for row in rows
    ]
    return make_table("", ("run", "state", "tokens", "tokens/s", *channels), cells)


def _name(row: StatusRow) -> str:
    n_decays = len(row.runs) - 1
    if not n_decays:
        return row.runs[0].name
    return f"{row.runs[0].name} + {n_decays} decay{'s' if n_decays > 1 else ''}"


def error_lines(statuses: Sequence[RunStatus]) -> list[str]:
    """Why runs failed, a line each."""
    return [f"{run.name}: {run.error.sentence}" for run in statuses if run.error]


def total_lines(rows: Sequence[StatusRow]) -> list[str]:
    """The total of all rows: numbers in each state, tokens, the time left, and who trains now."""
    bases = [row for row in rows if row.runs[0].planned.config.identity.kind == "pretrain"]
    runs = [row for row in rows if row not in bases]
    groups = [(runs, "run"), (bases, "base")]
    counts = " and ".join(_count(group, noun) for group, noun in groups if group)
    planned = sum(row.planned_tokens for row in rows)
    left = sum(row.left_tokens for row in rows)
    tokens = f"{format_count(planned - left)} of {format_count(planned)} tokens"
    lines = [f"total: {counts}; {tokens}; {_time_left(rows)}"]
    running = [run for row in rows for run in row.runs if run.state == "running"]
    return [*lines, _training_line(running)] if running else lines


def _count(rows: Sequence[StatusRow], noun: str) -> str:
    """The number of rows, and of those in each state."""
    states = Counter(row.state if " of " not in row.state else "partly done" for row in rows)
    shown = ", ".join(f"{n} {state}" for state, n in states.items())
    return f"{count_things(len(rows), noun)} ({shown})"


def _training_line(running: Sequence[RunStatus]) -> str:
    """How many runs are in training, how fast, and on which machines."""
    speed = sum(run.tokens_per_s or 0.0 for run in running)
    hosts = Counter(run.host for run in running if run.host is not None)
    beats = {run.host: run.beat for run in sorted(running, key=lambda run: run.beat or 0.0)}
    where = ", ".join(f"{n} on {host}{_silence(beats[host])}" for host, n in hosts.most_common())
    at = f" at {speed:,.0f} tokens/s" if speed else ""
    runs = count_things(len(running), "run")
    return f"in training: {runs}{at}" + (f" ({where})" if where else "")


def _silence(beat: float | None) -> str:
    """Since when a machine has been silent, if that is long; a lost node looks like this."""
    if beat is None or not is_silent(beat):
        return ""
    since = datetime.fromtimestamp(beat).isoformat(sep=" ", timespec="minutes")
    return f", silent since {since}"


def _time_left(rows: Sequence[StatusRow]) -> str:
    """The time left with as many parallel runs as now, or one at a time if none is running."""
    statuses = [run for row in rows for run in row.runs]
    states = {status.state for status in statuses}
    if states <= {"done", "cancelled"}:
        what = "nothing left to train"
        return what if "cancelled" not in states else f"{what} but what was cancelled"
    n_running = sum(status.state == "running" for status in statuses)
    seconds = seconds_left(statuses, [Slot()] * max(1, n_running))
    if seconds is None:
        return "time left unknown before the first run has started"
    at_once = f"{n_running} at a time as now" if n_running > 1 else "one run at a time"
    return f"about {format_seconds(seconds)} left ({at_once})"


def status_record(status: RunStatus) -> dict[str, Any]:
    """The status of a run, for programs."""
    return {
        "run": status.name,
        "state": status.state,
        "n_tokens": status.n_tokens,
        "expected_n_tokens": status.planned.config.recorded.n_tokens,
        "tokens_per_s": status.tokens_per_s,
        "host": status.host,
        "heartbeat": status.beat,
        "losses": status.losses,
        "error": None if status.error is None else status.error.as_dict(),
    }
