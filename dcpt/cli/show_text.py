"""The output about a study's text: progress, what was prepared, and what changed since."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from dcpt.cli.console import make_table, note_all, print_line
from dcpt.flags import Flag
from dcpt.pipeline.workspace import Place
from dcpt.quantities import format_seconds

if TYPE_CHECKING:
    from dcpt.text.manifest import Prepared, SplitCounts
    from dcpt.text.near_duplicates.records import CleanText

_LINE_EVERY_S = 60.0


def note_changed_text(place: Place) -> None:
    """Print on standard error which settings of a study's text were changed since ``prepare``."""
    from dcpt.pipeline.text_changes import flag_changed_text

    note_all([flag.sentence for flag in flag_changed_text(place)])


@contextmanager
def watch_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of each channel: bars in a terminal, else a line each."""
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
    """Print a line a minute, and one when a channel ends: when the next begins, or at the end."""
    current, n_bytes, started = "", 0, time.monotonic()
    said = started

    def note(channel: str, done: int, total: int) -> None:
        nonlocal current, n_bytes, started, said
        if channel != current:
            say_finished()
            current, started = channel, time.monotonic()
            said = started
        n_bytes = done
        if time.monotonic() - said >= _LINE_EVERY_S:
            said = time.monotonic()
            share = f"{done / total:.0%}" if total else f"{done / 1e6:.1f} MB"
            print_line(console, f"{channel}: {share} after {format_seconds(said - started)}")

    def say_finished() -> None:
        if current:
            seconds = format_seconds(time.monotonic() - started)
            print_line(console, f"prepared {current}: read {n_bytes / 1e6:.1f} MB in {seconds}")

    yield note
    say_finished()


def prepared_table(prepared: Prepared) -> Table:
    """Documents, tokens and bytes of every channel; without near-copies where there are any."""
    rows = []
    for name, manifest in prepared.channels.items():
        texts: dict[str, SplitCounts | CleanText] = {
            "train": manifest.train,
            "valid": manifest.valid,
        }
        if (clean := prepared.evaluated(name)) is not manifest.valid:
            texts["valid, clean"] = clean
        rows += [
            (
                f"{name} {split}",
                f"{counts.documents:,}",
                f"{counts.tokens:,}",
                f"{counts.text_bytes / 1e6:.2f} MB",
                counts.sha256[:8],
            )
            for split, counts in texts.items()
        ]
    return make_table("", ("channel", "documents", "tokens", "text", "sha256"), rows)


def prepared_record(prepared: Prepared, flags: Sequence[Flag] = ()) -> dict[str, Any]:
    """The prepared text, for programs.

    Args:
        prepared: The text.
        flags: Warnings about the study's runs.
    """
    return {
        **prepared.model_dump(mode="json"),
        "did_nothing": prepared.did_nothing,
        "flags": [flag.as_dict() for flag in flags],
    }
