"""The commands on runs tables and fits: parse, call, print. None of them needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dcpt.cli.options import (
    Channels,
    Columns,
    Json,
    Laws,
    Replace,
    Schedules,
    SizeColumn,
    Table,
    Without,
    is_table,
    read_bounds,
    read_channels,
    read_mapping,
    read_numbers,
    read_schedules,
)


def runs(
    table: Table,
    out: Annotated[Path | None, typer.Option(help="File to write: .csv, .tsv, .parquet.")] = None,
    replace: Replace = False,
    column: Columns = None,
    json: Json = False,
) -> None:
    """Export a study's runs table, or check a table of runs.

    Example: dcpt runs study.yaml --out runs.csv
    """
    from dcpt.cli.console import (
        as_json,
        note_all,
        note_damaged,
        note_left_out,
        open_console,
        show_value,
    )
    from dcpt.cli.show_fit import print_flags
    from dcpt.laws.flags.kinds import SENTENCES
    from dcpt.pipeline.answer import collect_runs
    from dcpt.pipeline.workspace import damaged_files, left_out_runs, open_place
    from dcpt.table import describe, write_runs
    from dcpt.table.files import check_replaceable
    from dcpt.table.units import flag_units

    place = open_place(table)
    frame = collect_runs(place, read_mapping(column))
    if not {"phase", "schedule"} & set(frame.columns):
        note_all([SENTENCES["phase_not_named"]])
    note_left_out(left_out_runs(place))
    note_damaged(damaged_files(place))
    if out is not None:
        check_replaceable(out, table, replace=replace)
        write_runs(frame, out)
    found, flags = describe(frame), flag_units(frame)
    if json:
        typer.echo(as_json({**found, "flags": [flag.as_dict() for flag in flags]}))
        return
    for name, value in found.items():
        typer.echo(f"{name}: {show_value(value)}")
    print_flags(open_console(), flags)


def laws(
    about: Annotated[
        str | None,
        typer.Argument(help="Name of a law, or a table of runs. Default: list all laws."),
    ] = None,
    law: Laws = None,
    channel: Channels = None,
    column: Columns = None,
    schedules: Schedules = None,
    json: Json = False,
) -> None:
    """List all laws, show one, or list those a table supports.

    Example: dcpt laws runs.csv --channel domain (or: dcpt laws d-cpt)
    """
    from dcpt.cli.console import as_json, note_damaged, open_console
    from dcpt.cli.show_laws import law_record, show_law, show_laws, show_suitable
    from dcpt.laws import offer_laws
    from dcpt.laws.menu import NAMES, laws_named
    from dcpt.table import channels

    wanted, place = list(law or []), None
    if about is not None and is_table(about):
        place = Path(about)
    elif about is not None:
        wanted.append(about)
    shown = laws_named(wanted or NAMES)
    found: dict[str, Any] = {"laws": [law_record(law) for law in shown.values()]}
    if place is not None:
        from dcpt.pipeline.answer import collect_runs
        from dcpt.pipeline.workspace import damaged_files, open_place

        opened = open_place(place)
        note_damaged(damaged_files(opened))
        frame = collect_runs(opened, read_mapping(column))
        named = read_schedules(schedules)
        found["channels"] = {
            name: offer_laws(frame, name, wanted or "auto", named)
            for name in read_channels(channel) or channels(frame)
        }
    console = open_console(json)
    if json:
        typer.echo(as_json(found))
    elif place is not None:
        show_suitable(console, found["channels"])
    elif wanted:
        for record in shown.values():
            show_law(console, record)
    else:
        show_laws(console, shown)


def compare(
    table: Table,
    law: Laws = None,
    channel: Channels = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the optimizer's starting points.")] = 0,
    column: Columns = None,
    without: Without = None,
    size_column: SizeColumn = None,
    schedules: Schedules = None,
    json: Json = False,
) -> None:
    """Compare the errors of laws on held-out runs.

    Example: dcpt compare runs.csv --law auto --law my_laws:cmr
    """
    from dcpt.cli.console import as_json, note_damaged, note_left_out, open_console
    from dcpt.cli.show_laws import comparison_records, show_comparisons
    from dcpt.flags import rank_flags
    from dcpt.pipeline.answer import collect_runs, fit_runs, set_aside
    from dcpt.pipeline.workspace import damaged_files, left_out_runs, open_place

    place = open_place(table)
    note_left_out(left_out_runs(place))
    note_damaged(damaged_files(place))
    fitted = fit_runs(
        set_aside(collect_runs(place, read_mapping(column)), without or ()),
        None,
        law=law or "auto",
        channels=read_channels(channel),
        n_draws=1,
        seed=seed,
        schedules=read_schedules(schedules),
        size_column=size_column,
    )
    if json:
        found = {"comparisons": comparison_records(fitted)}
        flags = [flag.as_dict() for flag in rank_flags(fitted.flags)]
        typer.echo(as_json({**found, "flags": flags}))
    else:
        show_comparisons(open_console(), fitted)


def fit(
    table: Table,
    law: Laws = None,
    channel: Channels = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the fit. Default for a study: fit.")
    ] = None,
    draws: Annotated[int, typer.Option(min=20, help="Number of bootstrap refits.")] = 200,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the optimizer and of the bootstrap.")
    ] = 0,
    fixed: Annotated[
        list[str] | None, typer.Option(help="kappa=0.7 fixes a parameter. Repeatable.")
    ] = None,
    bounds: Annotated[
        list[str] | None, typer.Option(help="gamma=0.1:2 bounds a parameter. Repeatable.")
    ] = None,
    delta: Annotated[
        float,
        typer.Option(help="Threshold of the Huber loss, in log loss. inf gives least squares."),
    ] = 1e-3,
    column: Columns = None,
    without: Without = None,
    size_column: SizeColumn = None,
    schedules: Schedules = None,
    json: Json = False,
) -> None:
    """Fit laws to every channel, weighted by held-out error.

    Example: dcpt fit runs.csv --law d-cpt --channel domain --json
    """
    from dcpt.cli.console import as_json, note_chosen, note_damaged, note_left_out, open_console
    from dcpt.cli.show_fit import fit_record, show_fit
    from dcpt.cli.show_text import note_changed_text
    from dcpt.pipeline.answer import collect_runs, fit_runs, set_aside
    from dcpt.pipeline.workspace import (
        Workspace,
        chosen_runs,
        damaged_files,
        left_out_runs,
        open_place,
    )

    place = open_place(table)
    note_changed_text(place)
    note_left_out(left_out_runs(place))
    note_damaged(damaged_files(place))
    note_chosen(chosen_runs(place))
    folder = out or (place.fit_folder if isinstance(place, Workspace) else None)
    runs = set_aside(collect_runs(place, read_mapping(column)), without or ())
    fitted = fit_runs(
        runs,
        folder,
        law=law or "auto",
        channels=read_channels(channel),
        n_draws=draws,
        seed=seed,
        fixed=read_numbers("--fixed", fixed, "kappa=0.7"),
        bounds=read_bounds(bounds),
        delta=delta,
        schedules=read_schedules(schedules),
        size_column=size_column,
    )
    if json:
        typer.echo(as_json({**fit_record(fitted), "chosen_runs": chosen_runs(place)}))
    else:
        show_fit(open_console(), fitted)
        if folder is None:
            typer.echo("Nothing was saved: --out FOLDER keeps the fit for predict and recommend.")


def diagnose(table: Table, column: Columns = None, json: Json = False) -> None:
    """Check the losses of runs for problems in text and training.

    For a study, the run folders are read too: loss spikes between evaluations, runs that stopped.

    Example: dcpt diagnose study.yaml (or: dcpt diagnose runs.csv --column n_params=N)
    """
    from dcpt.cli.console import as_json, note_damaged, note_left_out, open_console
    from dcpt.cli.show_diagnosis import show_diagnosis
    from dcpt.pipeline.answer import diagnose_runs
    from dcpt.pipeline.workspace import damaged_files, left_out_runs, open_place

    place = open_place(table)
    note_left_out(left_out_runs(place))
    note_damaged(damaged_files(place))
    found = diagnose_runs(place, read_mapping(column))
    if json:
        typer.echo(as_json(found.as_dict()))
    else:
        show_diagnosis(open_console(), found)
