"""The commands that prepare, train and verify a study: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcpt.cli.options import DryRun, EngineKind, Json, On, OwnLaws, StudyFile, Workers
from dcpt.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from dcpt.grid.queue import Outcome


def end(outcome: Outcome, console: Console, again: str = "the same command trains them") -> None:
    """Print notes and the runs that failed; exit with code 1 if a run failed or is cancelled.

    Args:
        outcome: How training ended.
        console: Where to print.
        again: What trains cancelled runs.
    """
    from dcpt.cli.console import note_all, print_line

    note_all(outcome.notes)
    if n := len(outcome.cancelled):
        runs = "1 run is" if n == 1 else f"{n} runs are"
        note_all([f"{runs} cancelled; {again}"])
    for name, words in outcome.failed.items():
        print_line(console, f"failed: {name}: {words}", "red")
    if not outcome.is_whole:
        raise typer.Exit(1)


def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("study.yaml"),
    json: Json = False,
) -> None:
    """Write a commented study file to start from.

    Example: dcpt init study.yaml
    """
    from dcpt.cli.console import as_json
    from dcpt.study.files import study_template

    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(study_template(file.name))
    except FileExistsError:
        raise InputError(f"{file} exists already; choose another name") from None
    if json:
        typer.echo(as_json({"file": file}))
    else:
        typer.echo(f"wrote {file}; edit it, then run: dcpt prepare {file}")


def prepare(study: StudyFile, workers: Workers = None, json: Json = False) -> None:
    """Tokenize the text of every channel.

    Running it again does nothing unless the texts or the settings changed.

    Example: dcpt prepare study.yaml
    """
    from dcpt.cli.console import as_json, open_console, print_line
    from dcpt.cli.show_text import prepared_record, prepared_table, watch_progress
    from dcpt.grid.slots import count_cores
    from dcpt.pipeline.text_changes import flag_runs_of_other_text
    from dcpt.pipeline.train import prepare_study
    from dcpt.pipeline.workspace import Workspace

    console, workspace = open_console(json), Workspace(study)
    with watch_progress(console) as progress:
        prepared = prepare_study(workspace, workers=workers or count_cores(), progress=progress)
    flags = flag_runs_of_other_text(workspace, prepared)
    if json:
        typer.echo(as_json(prepared_record(prepared, flags)))
        return
    if prepared.did_nothing:
        console.print("nothing to do: the texts are prepared and unchanged")
    console.print(prepared_table(prepared))
    for warning in (*prepared.warnings, *(flag.sentence for flag in flags)):
        print_line(console, f"note: {warning}", "yellow")


def run_grid(
    study: StudyFile,
    dry_run: DryRun = False,
    on: On = None,
    workers: Workers = None,
    engine: EngineKind = None,
    cancelled: Annotated[
        bool, typer.Option("--cancelled", help="Train the runs that dcpt cancel left out, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Train the runs of the study that are not done yet.

    Runs that were interrupted continue. Runs that failed are tried again.

    Example: dcpt run-grid study.yaml --dry-run --on h100:8
    """
    from dcpt.cli.console import as_json, note_all, note_damaged, open_console, print_line
    from dcpt.cli.show_cost import cost_record, read_machine, show_cost
    from dcpt.cli.show_grid import occupancy_words, watch_grid
    from dcpt.engines.choose import gpus_of, override_kind, slots_of
    from dcpt.grid.planned import advise_on_sizes
    from dcpt.grid.status import repeated_text
    from dcpt.pipeline.cost import estimate_study
    from dcpt.pipeline.text_changes import check_text
    from dcpt.pipeline.train import train_study
    from dcpt.pipeline.workspace import Workspace
    from dcpt.quantities import count_things

    machine = read_machine(on, dry_run=dry_run, workers=workers)
    console, workspace = open_console(json), Workspace(study)
    section = override_kind(workspace.study.engine, engine)
    slots = slots_of(section, workers)
    check_text(workspace)  # the plan is of the prepared text, and may not be possible with it
    note_damaged(workspace.damaged)
    if dry_run:
        note_all(advise_on_sizes(workspace.planned))
        cost = estimate_study(workspace, slots, machine or gpus_of(section))
        if json:
            typer.echo(as_json(cost_record(cost)))
        else:
            show_cost(console, cost)
        return
    with watch_grid(console, slots, "grid") as view:
        outcome = train_study(
            workspace, slots, on_tick=view.tick, engine=section, again=cancelled, say=view.say
        )
    if json:
        typer.echo(as_json(vars(outcome)))
    else:
        finished = count_things(len(outcome.finished), "run")
        console.print(f"{finished} finished, {len(outcome.failed)} failed")
        if (sentence := occupancy_words(outcome)) is not None:
            print_line(console, sentence)
        for sentence in repeated_text(view.planned, workspace.folder):
            print_line(console, f"note: {sentence}", "yellow")
    end(outcome, console, "`dcpt run-grid` with --cancelled trains them")


def status(
    study: StudyFile,
    every: Annotated[
        bool, typer.Option("--all", help="A row for every decay, too, not only for its trunk.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the state of the study's runs, and the time left.

    Example: dcpt status study.yaml
    """
    from dcpt.cli.console import as_json, open_console
    from dcpt.cli.show_status import (
        StatusRow,
        error_lines,
        group_runs,
        status_record,
        status_table,
        total_lines,
    )
    from dcpt.cli.show_text import note_changed_text
    from dcpt.grid.status import read_status
    from dcpt.pipeline.workspace import Workspace

    workspace = Workspace(study)
    note_changed_text(workspace)
    statuses = read_status(workspace.planned, workspace.folder)
    if json:
        typer.echo(as_json([status_record(run) for run in statuses]))
        return
    rows = group_runs(statuses)
    open_console().print(status_table([StatusRow((run,)) for run in statuses] if every else rows))
    for line in error_lines(statuses):
        typer.echo(line)
    for line in total_lines(rows):
        typer.echo(line)


def verify(
    study: StudyFile,
    dry_run: DryRun = False,
    on: On = None,
    workers: Workers = None,
    law: OwnLaws = None,
    json: Json = False,
) -> None:
    """Train at the recommendation and compare with the prediction.

    Example: dcpt verify study.yaml --dry-run
    """
    from dcpt.cli.console import as_json, note_damaged, open_console
    from dcpt.cli.show_cost import cost_record, read_machine, show_cost
    from dcpt.cli.show_grid import watch_grid
    from dcpt.engines.choose import gpus_of, slots_of
    from dcpt.pipeline.verify import estimate_verification, verify_study
    from dcpt.pipeline.workspace import Workspace

    machine = read_machine(on, dry_run=dry_run, workers=workers)
    console, workspace = open_console(json), Workspace(study)
    section = workspace.study.engine
    slots = slots_of(section, workers)
    note_damaged(workspace.damaged)
    if dry_run:
        cost = estimate_verification(workspace, slots, machine or gpus_of(section))
        if json:
            typer.echo(as_json(cost_record(cost)))
        else:
            show_cost(console, cost)
        return
    with watch_grid(console, slots, "verification") as view:
        checked, outcome = verify_study(
            workspace, slots, on_tick=view.tick, say=view.say, laws=law or ()
        )
    end(outcome, console)
    if checked is None:
        raise typer.Exit(1)
    if json:
        typer.echo(as_json(checked.as_dict()))
        return
    for line in checked.words:
        typer.echo(line)


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("demo"),
    bundled: Annotated[
        bool, typer.Option("--bundled", help="Train nothing: fit the runs that come with dcpt.")
    ] = False,
    domain: Annotated[
        str, typer.Option(help="Domain text: icd (medical code book) or pronunciations.")
    ] = "icd",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bases and runs.")] = 0,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Run every step on a small example, from text to report.

    Example: dcpt demo
    """
    from dcpt.cli.console import as_json, open_console
    from dcpt.cli.demo import run, run_bundled

    console = open_console(json)
    outcome = None
    if bundled:
        answer = run_bundled(out, console)
    else:
        answer, outcome = run(out, domain, seed, workers, console)
    if json:
        typer.echo(as_json(answer.as_dict()))
    if outcome is not None:
        end(outcome, console, "`dcpt run-grid` with --cancelled trains them")
