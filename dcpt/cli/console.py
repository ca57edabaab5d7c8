"""Output to the terminal: notes, plain tables, and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dcpt.names import escape_controls
from dcpt.quantities import count_things

_FILE_WIDTH = 120
"""Width in characters if the output goes to a file or another program."""


def open_console(json: bool = False) -> Console:
    """Open the console for people: standard error if standard output holds JSON."""
    console = Console(stderr=json)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console


def note_left_out(names: Sequence[str]) -> None:
    """Print on standard error which runs of the folder are not in the study."""
    if names:
        shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        print_line(
            Console(stderr=True),
            f"note: left out: {count_things(len(names), 'run')} in the folder but not in the study "
            f"(another text, batch or evaluation, or removed from its grid): {shown}",
        )


def note_chosen(names: Sequence[str]) -> None:
    """Print on standard error which runs beyond the study's grid are fitted with it."""
    if names:
        runs = count_things(len(names), "run")
        note_all([f"the fit includes {runs} that `dcpt refine` chose: {', '.join(names)}"])


def note_all(sentences: Sequence[str]) -> None:
    """Print notes on standard error."""
    console = Console(stderr=True, highlight=False)
    for sentence in sentences:
        print_line(console, f"note: {sentence}")


def print_line(console: Console, line: str, style: str | None = None) -> None:
    """Print a line literally: names are not markup, and control characters are escaped."""
    console.print(_plain(line), highlight=False, soft_wrap=True, style=style)


def note_damaged(sentences: Sequence[str]) -> None:
    """Print on standard error which runs are left out because a file is damaged."""
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


def show_value(value: Any) -> str:
    """Format a value of a description for people."""
    if value is None:
        return "not in the table"
    if isinstance(value, dict):
        pairs = (f"{escape_controls(str(name))} ({show_value(it)})" for name, it in value.items())
        return "; ".join(pairs) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(show_value(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else escape_controls(str(value))


def as_json(value: Any) -> str:
    """The ``--json`` form of a result."""
    return json.dumps(value, indent=1, allow_nan=False, default=str)
