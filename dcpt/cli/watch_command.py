"""``dcpt watch``: whether a large run is on track."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcpt.cli.options import Json, Level, OwnLaws, Place, read_ratio

if TYPE_CHECKING:
    from dcpt.decide.watched import Watched

BREAKS_LIMIT = 3
"""Exit code when a channel is forecast to break its limit."""


def watch(
    place: Place,
    log: Annotated[
        list[Path],
        typer.Option(help="A runs table, or a log that dcpt import reads. Repeatable."),
    ],
    mapping: Annotated[Path | None, typer.Option(help="Mapping file of a trainer's log.")] = None,
    run: Annotated[str | None, typer.Option(help="The run, if the log holds several.")] = None,
    ratio: Annotated[
        str | None,
        typer.Option(help="Its share of domain text. Default: the log's, or the recommended one."),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Its peak learning rate. Default: the log's, or the recommended one."),
    ] = None,
    level: Level = 0.9,
    page: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
    every: Annotated[
        float | None,
        typer.Option(min=1, help="Read the log again every so many seconds, until the run ends."),
    ] = None,
    law: OwnLaws = None,
    json: Json = False,
) -> None:
    """Compare a large run in training with its prediction.

    The end of the run is forecast. The target is that of the last recommendation. Ends with exit
    code 3 when a channel is forecast to break its limit.

    Example: dcpt watch fit --log large.csv --page watch.html
    """
    from dcpt.cli.console import as_json, note_all
    from dcpt.pipeline.watch import watch_log
    from dcpt.pipeline.workspace import open_place
    from dcpt.report.watch_page import write_watch_page

    opened, said = open_place(place), []
    share = None if ratio is None else read_ratio(ratio)
    while True:
        watched, notes = watch_log(
            opened,
            log,
            mapping=mapping,
            run=run,
            ratio=share,
            learning_rate=learning_rate,
            level=level,
            laws=law or (),
        )
        note_all([note for note in notes if note not in said])
        said += notes
        if page is not None:
            write_watch_page(watched, page, every_s=every)
        typer.echo(as_json(watched.as_dict()) if json else "\n".join(watched.words))
        if every is None or _has_ended(watched):
            break
        time.sleep(every)
    if watched.breaking:
        raise typer.Exit(BREAKS_LIMIT)


def _has_ended(watched: Watched) -> bool:
    return watched.n_tokens >= watched.target.n_tokens * (1 - 1e-6)
