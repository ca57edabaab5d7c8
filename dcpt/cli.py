"""The ``dcpt`` command: parse, call, print. People get tables, programs ``--json``.

Exit codes: 0 done, 1 a run failed, 2 bad input (one sentence and a remedy, no traceback), 130, 143
or 129 stopped by SIGINT, SIGTERM or SIGHUP.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from dcpt import cli_laws, cli_runs
from dcpt.errors import InputError, Stopped
from dcpt.names import escape_controls
from dcpt.options import Json, OwnLaws, StudyFile, Workers
from dcpt.processes import STOP_SIGNALS

if TYPE_CHECKING:
    from rich.console import Console

    from dcpt.grid.queue import Outcome

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="How much domain text goes into a continual pre-training run? Train small, fit, decide.",
)


def main() -> None:
    """Run the command; bad input ends with one sentence and exit code 2."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)
    try:
        app()
    except Stopped as stop:
        with suppress(OSError):  # after SIGHUP the terminal may be gone
            print(f"dcpt: {stop}", file=sys.stderr)
        sys.exit(stop.exit_code)
    except InputError as error:
        for problem in error.problems:
            print(f"dcpt: {problem}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        remedy = "fix this and rerun the command"
        words = f"{place}{error.strerror or error}; {remedy}"
        print(f"dcpt: {escape_controls(words)}", file=sys.stderr)
        sys.exit(2)


def _stop(number: int, _: FrameType | None) -> None:
    """Stop a command that has nothing to save; a second signal ends it at once."""
    signal.signal(number, signal.SIG_DFL)
    raise Stopped(number, "stopped")


def _end(outcome: Outcome, console: Console) -> None:
    """Tell what failed and end with code 1 if anything did."""
    from dcpt import display

    for name, words in outcome.failed.items():
        display.print_line(console, f"failed: {name}: {words}", "red")
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("study.yaml"),
) -> None:
    """Write a commented study file to start from.

    Example: dcpt init study.yaml
    """
    from dcpt.study_file import study_template

    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(study_template(file.name))
    except FileExistsError:
        raise InputError(f"{file} is there already; choose another name") from None
    typer.echo(f"wrote {file}; edit it, then: dcpt prepare {file}")


@app.command()
def prepare(study: StudyFile, workers: Workers = None, json: Json = False) -> None:
    """Turn the text of every channel into token shards; a second call does nothing.

    Example: dcpt prepare study.yaml
    """
    from dcpt import display, stations
    from dcpt.grid.slots import count_cores

    console = display.open_console(json)
    with display.watch_progress(console) as progress:
        prepared = stations.prepare_study(
            study, workers=workers or count_cores(), progress=progress
        )
    if json:
        typer.echo(display.as_json(display.prepared_record(prepared)))
        return
    if prepared.did_nothing:
        console.print("nothing to do: the texts are prepared and unchanged")
    console.print(display.prepared_table(prepared))
    for warning in prepared.warnings:
        display.print_line(console, f"note: {warning}", "yellow")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model folder or hub id.")],
    study: Annotated[Path, typer.Option(help="Study whose validation shards are used.")],
    label: Annotated[str | None, typer.Option(help="Name of the base in the study.")] = None,
    json: Json = False,
) -> None:
    """Measure a base's own loss on every channel: its row at D = 0.

    Example: dcpt evaluate models/base --study study.yaml --label base
    """
    from dcpt import display, stations

    row = stations.evaluate_base(study, model, label)
    if json:
        typer.echo(display.as_json(row))
        return
    rows = [(name, f"{loss:.4f}", f"{row['se'][name]:.4f}") for name, loss in row["loss"].items()]
    title = f"{row['base']}: {row['n_params']:,} parameters, nats per token"
    display.open_console().print(
        display.make_table(title, ("channel", "loss", "standard error"), rows)
    )


@app.command("run-grid")
def run_grid(
    study: StudyFile,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained.")] = False,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Train every run of the study that is not done; failed ones are tried again.

    Example: dcpt run-grid study.yaml --dry-run
    """
    from dcpt import display, display_grid, stations
    from dcpt.grid.slots import choose_slots
    from dcpt.grid.status import repeated_text
    from dcpt.study import StudyFolder

    console, slots = display.open_console(json), choose_slots(workers)
    display.note_damaged(stations.damaged_files(study))
    if dry_run:
        estimates = stations.estimate_study(study, slots[0])
        if json:
            typer.echo(display.as_json([vars(one) for one in estimates]))
        else:
            console.print(display.estimate_table(estimates))
            console.print(display.estimate_words(estimates, len(slots)))
        return
    with display_grid.watch_grid(console, slots, "grid") as view:
        outcome = stations.train_study(study, slots, on_tick=view.tick)
    if json:
        typer.echo(display.as_json(vars(outcome)))
    else:
        console.print(f"{len(outcome.finished)} runs finished, {len(outcome.failed)} failed")
        for sentence in repeated_text(view.planned, StudyFolder(study)):
            display.print_line(console, f"note: {sentence}", "yellow")
    _end(outcome, console)


@app.command()
def status(study: StudyFile, json: Json = False) -> None:
    """Put the runs that the study expects beside what is found.

    Example: dcpt status study.yaml
    """
    from dcpt import display, display_grid, stations
    from dcpt.grid.status import read_status
    from dcpt.study import StudyFolder

    statuses = read_status(stations.plan_study(study), StudyFolder(study))
    if json:
        typer.echo(display.as_json([display_grid.status_record(run) for run in statuses]))
        return
    display.open_console().print(display_grid.status_table(statuses))
    for line in display_grid.error_lines(statuses):
        typer.echo(line)
    typer.echo(display_grid.count_states(statuses))


for command in (*cli_laws.COMMANDS, *cli_runs.COMMANDS):
    app.command()(command)


@app.command()
def verify(
    study: StudyFile,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained.")] = False,
    workers: Workers = None,
    law: OwnLaws = None,
    json: Json = False,
) -> None:
    """Train the recommended pair and its neighbours; compare measured and predicted losses.

    Example: dcpt verify study.yaml --dry-run
    """
    from dcpt import display, display_grid, stations
    from dcpt.grid.slots import choose_slots

    console, slots = display.open_console(json), choose_slots(workers)
    display.note_damaged(stations.damaged_files(study))
    if dry_run:
        estimates = stations.estimate_verification(study, slots[0])
        if json:
            typer.echo(display.as_json([vars(estimate) for estimate in estimates]))
        else:
            console.print(display.estimate_table(estimates))
            console.print(display.estimate_words(estimates, len(slots)))
        return
    with display_grid.watch_grid(console, slots, "verification") as view:
        checked, outcome = stations.verify_study(study, slots, on_tick=view.tick, laws=law or ())
    _end(outcome, console)
    assert checked is not None
    if json:
        typer.echo(display.as_json(checked.as_dict()))
        return
    for line in checked.words:
        typer.echo(line)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    bundled: Annotated[
        bool, typer.Option("--bundled", help="No training: fit our own runs in the package.")
    ] = False,
    domain: Annotated[str, typer.Option(help="icd (medical code book) or pronunciations.")] = "icd",
    seed: Annotated[int, typer.Option(min=0, help="Seed of bases and runs.")] = 0,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """From nothing to a recommendation, made of real text and real runs on this machine.

    Example: dcpt demo
    """
    from dcpt import demo as demonstration
    from dcpt import display

    console = display.open_console(json)
    outcome = None
    if bundled:
        answer = demonstration.run_bundled(out, console)
    else:
        answer, outcome = demonstration.run(out, domain, seed, workers, console)
    if json:
        typer.echo(display.as_json(answer.as_dict()))
    if outcome is not None:
        _end(outcome, console)
