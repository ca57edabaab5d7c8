"""``dcpt import``: logs of other trainers become a runs table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcpt.cli.options import Json, Replace
from dcpt.errors import InputError


def import_(
    logs: Annotated[
        list[Path], typer.Argument(help="Logs, or folders that are searched for them.")
    ],
    mapping: Annotated[
        Path, typer.Option(help="The mapping file. It is drafted if it does not exist.")
    ] = Path("mapping.yaml"),
    out: Annotated[Path, typer.Option(help="Table to write: .csv, .tsv, .parquet.")] = Path(
        "runs.csv"
    ),
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Make a runs table of the logs of other trainers.

    The first call drafts a mapping file: which metric is which channel, how steps become tokens,
    the share and rate of each run. Complete it and give the same command again.

    Example: dcpt import logs/ --mapping mapping.yaml --out runs.csv
    """
    from dcpt.cli.console import as_json, note_all, open_console, show_value
    from dcpt.cli.show_fit import print_flags
    from dcpt.table import describe, write_runs
    from dcpt.table.files import check_replaceable
    from dcpt.table.units import flag_units
    from dcpt.trainer_logs import import_runs, read_logs, read_mapping

    if not mapping.exists():
        _draft(logs, mapping, json)
        return
    known = read_mapping(mapping)
    for log in logs:
        check_replaceable(out, log, replace=replace)
    found, notes = read_logs(logs)
    frame, more = import_runs(found, known, mapping.name)
    write_runs(frame, out)
    note_all([*notes, *more])
    summary, flags = describe(frame), flag_units(frame)
    if json:
        record = {"table": out, **summary, "flags": [flag.as_dict() for flag in flags]}
        typer.echo(as_json({**record, "notes": [*notes, *more]}))
        return
    typer.echo(f"wrote {out}")
    for name, value in summary.items():
        typer.echo(f"{name}: {show_value(value)}")
    print_flags(open_console(), flags)
    schedules = _schedules_of(mapping)
    explained = f" --schedules {schedules}" if "schedule" in frame and schedules.exists() else ""
    typer.echo(f"next: dcpt fit {out}{explained} --out fit")


def _schedules_of(mapping: Path) -> Path:
    """Where the draft of a mapping file puts the learning-rate schedules."""
    return mapping.with_name(f"{mapping.stem}_schedules.yaml")


def _draft(logs: list[Path], mapping: Path, json: bool) -> None:
    """Write the draft of a mapping file, and say what to do with it."""
    from dcpt.cli.console import as_json, note_all
    from dcpt.quantities import count_things
    from dcpt.trainer_logs import draft_mapping, read_logs
    from dcpt.trainer_logs.mapping import FILL_IN

    found, notes = read_logs(logs)
    draft, schedules = draft_mapping(found), None
    if draft.schedules is not None:
        schedules = _schedules_of(mapping)
        _write_new(schedules, draft.schedules)
    _write_new(mapping, draft.mapping)
    note_all(notes)
    lines = [line.split("#")[0].strip() for line in draft.mapping.splitlines()]
    left = [line for line in lines if FILL_IN in line]
    if json:
        record = {"mapping": mapping, "schedules": schedules, "open": left}
        typer.echo(as_json({**record, "runs": [log.run for log in found]}))
        return
    typer.echo(
        f"wrote {mapping}: a draft for {count_things(len(found), 'run')} of {found[0].trainer}"
    )
    if schedules is not None:
        typer.echo(
            f"wrote {schedules}: learning-rate schedules for dcpt fit --schedules; check them"
        )
    if left:
        typer.echo(f"replace {FILL_IN} in {len(left)} places, and check the rest:")
        for line in left[:10]:
            typer.echo(f"  {line}")
    typer.echo("then give the same command again")


def _write_new(path: Path, text: str) -> None:
    """Write a file that does not exist yet."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(
            f"{path} exists, and dcpt import writes a draft there; move it away, or choose another "
            "name with --mapping"
        ) from None
