"""What the command line shows; the views of a grid are in ``display_grid``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import mean
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from dcpt.names import escape_controls
from dcpt.quantities import format_count, format_rate

if TYPE_CHECKING:
    from dcpt.decide.records import Recommendation
    from dcpt.grid.estimate import Estimate
    from dcpt.laws import Fit
    from dcpt.text.corpora import Prepared

_SHOWN_WEIGHT = 0.005
_FILE_WIDTH = 120
"""Columns of a table where it goes to a file or another program, which have no width."""


def open_console(json: bool = False) -> Console:
    """Where people's output goes: with ``--json`` standard output belongs to the JSON."""
    console = Console(stderr=json)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console


def note_left_out(names: Sequence[str]) -> None:
    """Say on standard error which runs of the folder the study does not ask for."""
    if names:
        shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        print_line(
            Console(stderr=True),
            f"note: {len(names)} runs in the folder are not the study's (another text, batch or "
            f"evaluation, or no longer in its grid) and are left out: {shown}",
        )


def print_line(console: Console, line: str, style: str | None = None) -> None:
    """Print a line as it is: names in it are not markup, and control characters are shown."""
    console.print(_plain(line), highlight=False, soft_wrap=True, style=style)


def note_damaged(sentences: Sequence[str]) -> None:
    """Say on standard error which runs a damaged file leaves out."""
    console = Console(stderr=True, highlight=False)
    for sentence in sentences:
        print_line(console, f"warning: {sentence}", "yellow")


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table; columns after the first are right-aligned, and no cell is markup."""
    head = _plain(title, "table.title")
    table = Table(title=head, title_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        first = index == 0
        table.add_column(_plain(column), justify="left" if first else "right", no_wrap=first)
    for row in rows:
        table.add_row(*map(_plain, row))
    return table


def _plain(text: str, style: str = "") -> Text:
    return Text(escape_controls(text), style=style)


def format_seconds(seconds: float) -> str:
    """Time for people: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate_table(estimates: Sequence[Estimate]) -> Table:
    """What every run would cost."""
    rows = [
        (
            one.name,
            format_count(one.n_params),
            format_count(one.n_tokens),
            f"{one.flops:.2e}",
            f"{one.disk_bytes / 1e6:.1f} MB",
            "done" if one.done else format_seconds(one.seconds),
        )
        for one in estimates
    ]
    return make_table("", ("run", "parameters", "tokens", "FLOPs", "disk", "time"), rows)


@contextmanager
def watch_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far every channel is prepared: bars in a terminal, else a line for each."""
    if not console.is_terminal:
        with _log_progress(console) as note:
            yield note
        return
    with Progress(console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(channel: str, done: int, total: int) -> None:
            if channel not in tasks:
                tasks[channel] = bars.add_task(channel, total=total or None)
            bars.update(tasks[channel], completed=done)

        yield show


@contextmanager
def _log_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Print a line when a channel is finished: when the next one begins, or at the end."""
    current, n_bytes, started = "", 0, time.monotonic()

    def note(channel: str, done: int, total: int) -> None:
        nonlocal current, n_bytes, started
        if channel != current:
            say()
            current, started = channel, time.monotonic()
        n_bytes = done

    def say() -> None:
        if current:
            seconds = format_seconds(time.monotonic() - started)
            line = f"prepared {current}: read {n_bytes / 1e6:.1f} MB in {seconds}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    yield note
    say()


def prepared_table(prepared: Prepared) -> Table:
    """Documents, tokens and bytes of every channel."""
    rows = [
        (
            f"{name} {split}",
            f"{counts.documents:,}",
            f"{counts.tokens:,}",
            f"{counts.text_bytes / 1e6:.2f} MB",
            counts.sha256[:8],
        )
        for name, manifest in prepared.channels.items()
        for split, counts in (("train", manifest.train), ("valid", manifest.valid))
    ]
    return make_table("", ("channel", "documents", "tokens", "text", "sha256"), rows)


def prepared_record(prepared: Prepared) -> dict[str, Any]:
    """What was prepared, for programs."""
    return {**prepared.model_dump(mode="json"), "did_nothing": prepared.did_nothing}


def estimate_words(estimates: Sequence[Estimate], workers: int) -> str:
    """The whole grid in one sentence."""
    left = [one for one in estimates if not one.done]
    seconds = sum(one.seconds for one in left) / workers
    return (
        f"{len(estimates)} runs, {len(estimates) - len(left)} done; left: "
        f"{format_count(sum(one.n_tokens for one in left))} tokens, "
        f"{sum(one.flops for one in left):.2e} FLOPs, "
        f"{sum(one.disk_bytes for one in left) / 1e6:.1f} MB of disk, about "
        f"{format_seconds(seconds)} with {workers} workers on this machine"
    )


def in_words(value: Any) -> str:
    """A value of a description, for people."""
    if isinstance(value, dict):
        pairs = (f"{escape_controls(str(name))} ({in_words(one)})" for name, one in value.items())
        return "; ".join(pairs) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(in_words(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else escape_controls(str(value))


def show_fit(console: Console, fitted: Fit) -> None:
    """The laws that carry weight, then the warnings about the fit."""
    console.print(law_table(fitted))
    show_warnings(console, fitted)


def show_warnings(console: Console, fitted: Fit) -> None:
    """The warnings about a fit: the weightiest in full, the others in one line."""
    from dcpt.decide.warnings import SHOWN_IN_FULL, fold_warnings, rank_flags, warning_line

    flags = rank_flags([], fitted.flags)
    lines = [flag.words for flag in flags[:SHOWN_IN_FULL]]
    if flags[SHOWN_IN_FULL:]:
        lines.append(fold_warnings(flags[SHOWN_IN_FULL:]))
    _print_warnings(console, [warning_line(line) for line in lines])


def _print_warnings(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        print_line(console, line, "yellow")


def fit_record(fitted: Fit) -> dict[str, Any]:
    """A fit for programs: its laws, and its flags with their words."""
    return {"fits": fitted.records(), "flags": flag_records(fitted.flags)}


def flag_records(flags: Sequence[str]) -> list[dict[str, str]]:
    """Flags with their words, for programs."""
    from dcpt.laws import explain_flag

    return [{"name": flag, "words": explain_flag(flag)} for flag in flags]


def law_table(fitted: Fit) -> Table:
    """The laws of every channel that carry weight: held-out errors in nats, flags by name."""
    rows = [
        (
            one["channel"],
            one["law"],
            one["held_out_phase"],
            f"{one['weight'][one['held_out_phase']]:.2f}",
            f"{mean(one['held_out'].values()):.3f}" if one["held_out"] else "unknown",
            " ".join(one["flags"]),
        )
        for one in fitted.records()
        if one["weight"][one["held_out_phase"]] >= _SHOWN_WEIGHT
    ]
    table = make_table(
        "laws by weight; error in nats on runs held out",
        ("channel", "law", "phase", "weight", "error", "flags"),
        rows,
    )
    table.columns[1].no_wrap = True
    return table


def show_answer(console: Console, answer: Recommendation) -> None:
    """The recommendation in sentences, then what other shares cost, then the warnings."""
    from dcpt.decide import summarise

    sentences = summarise(answer)
    warnings = [line for line in sentences if line.startswith("Warning: ")]
    for i, line in enumerate(line for line in sentences if line not in warnings):
        print_line(console, line, "bold" if i == 0 else None)
    console.print(cost_table(answer))
    for note in cost_notes(answer):
        print_line(console, note)
    _print_warnings(console, warnings)


def cost_table(answer: Recommendation) -> Table:
    """What the recommended share, the safe pair and common shares would cost."""
    from dcpt.report.tables import choices_table

    rate = answer.habits[0].learning_rate
    at = "" if rate is None else f" at a learning rate of {format_rate(rate)}"
    table = choices_table(answer)
    rows = [[cell.replace("−", "-") for cell in row[:-1]] for row in table.rows]
    title = f"what other shares cost{at}, in nats per token"
    return make_table(title, table.head[:-1], rows)


def cost_notes(answer: Recommendation) -> list[str]:
    """What the marks in the table of costs mean."""
    from dcpt.report.tables import choice_notes, compared_choices

    return choice_notes([choice for _, choice in compared_choices(answer)])


def as_json(value: Any) -> str:
    """The ``--json`` form of a result."""
    return json.dumps(value, indent=1, allow_nan=False, default=str)
