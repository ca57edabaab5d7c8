"""The ``dcpt`` command: parse, call, print. People get tables, programs ``--json``.

Exit codes: 0 done, 1 a run failed, 2 bad input (one sentence and a remedy, no traceback).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcpt.errors import InputError
from dcpt.options import (
    BaseLosses,
    BasePeak,
    BaseTokens,
    Columns,
    Json,
    Place,
    StudyFile,
    WarmupTokens,
    Workers,
    read_count,
    read_losses,
    read_mapping,
)

if TYPE_CHECKING:
    from rich.console import Console

    from dcpt.grid.local import Outcome

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="How much domain text goes into a continual pre-training run? Train small, fit, decide.",
)


def main() -> None:
    """Run the command; bad input ends with one sentence and exit code 2."""
    try:
        app()
    except InputError as error:
        for problem in error.problems:
            print(f"dcpt: {problem}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        remedy = "mend this and give the same command again"
        print(f"dcpt: {place}{error.strerror or error}; {remedy}", file=sys.stderr)
        sys.exit(2)


def _console(json: bool = False) -> Console:
    """Where people's output goes: with ``--json`` standard output belongs to the JSON."""
    from rich.console import Console

    return Console(stderr=json)


def _end(outcome: Outcome, console: Console) -> None:
    """Tell what failed and end with code 1 if anything did."""
    for name, words in outcome.failed.items():
        console.print(f"failed: {name}: {words}", style="red", markup=False, soft_wrap=True)
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("study.yaml"),
) -> None:
    """Write a commented study file to start from.

    Example: dcpt init study.yaml
    """
    from dcpt.study import study_template

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
    from dcpt.grid.local import count_cores

    console = _console(json)
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
        console.print(f"note: {warning}", style="yellow", markup=False, soft_wrap=True)


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
    _console().print(display.make_table(title, ("channel", "loss", "standard error"), rows))


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
    from dcpt import display, stations
    from dcpt.grid.local import choose_slots
    from dcpt.grid.status import repeated_text
    from dcpt.study import StudyFolder

    console, slots = _console(json), choose_slots(workers)
    if dry_run:
        estimates = stations.estimate_study(study, slots[0])
        if json:
            typer.echo(display.as_json([vars(one) for one in estimates]))
        else:
            console.print(display.estimate_table(estimates))
            console.print(display.estimate_words(estimates, len(slots)))
        return
    folder = StudyFolder(study)
    with display.watch_grid(console, folder, len(slots), "grid") as view:
        outcome = stations.train_study(study, slots, on_tick=view.tick)
    if json:
        typer.echo(display.as_json(vars(outcome)))
    else:
        console.print(f"{len(outcome.finished)} runs finished, {len(outcome.failed)} failed")
        for words in repeated_text(view.planned, folder):
            console.print(f"note: {words}", style="yellow", soft_wrap=True)
    _end(outcome, console)


@app.command()
def status(study: StudyFile, json: Json = False) -> None:
    """Put the runs that the study expects beside what is found.

    Example: dcpt status study.yaml
    """
    from dcpt import display, stations
    from dcpt.grid.status import read_status
    from dcpt.study import StudyFolder

    statuses = read_status(stations.plan_study(study), StudyFolder(study))
    if json:
        typer.echo(display.as_json([display.status_record(one) for one in statuses]))
        return
    _console().print(display.status_table(statuses))
    for line in display.error_lines(statuses):
        typer.echo(line)
    typer.echo(display.count_states(statuses))


def _note_left_out(table: Path) -> None:
    """Say on standard error which runs of the folder the study does not ask for."""
    from dcpt import stations

    left_out = stations.left_out_runs(table)
    if left_out:
        typer.echo(
            f"note: {len(left_out)} runs in the folder are not the study's (another text, batch or "
            f"evaluation, or no longer in its grid) and are left out: {', '.join(left_out[:3])}"
            + (" ..." if len(left_out) > 3 else ""),
            err=True,
        )


@app.command()
def runs(
    table: Annotated[Path, typer.Argument(help="A study's YAML file, or a CSV or parquet table.")],
    out: Annotated[Path | None, typer.Option(help="Write it as .csv or .parquet.")] = None,
    column: Columns = None,
    json: Json = False,
) -> None:
    """Export the runs table of a study, or check a table from any other trainer.

    Example: dcpt runs study.yaml --out runs.csv
    """
    from dcpt import display, stations
    from dcpt.table import describe, write_runs

    frame = stations.collect_runs(table, read_mapping(column))
    _note_left_out(table)
    if out is not None:
        write_runs(frame, out)
    found = describe(frame)
    if json:
        typer.echo(display.as_json(found))
        return
    for name, value in found.items():
        typer.echo(f"{name}: {display.in_words(value)}")


@app.command()
def fit(
    table: Annotated[Path, typer.Argument(help="A study's YAML file, or a CSV or parquet table.")],
    law: Annotated[str, typer.Option(help="One law by name, or auto.")] = "auto",
    channel: Annotated[list[str] | None, typer.Option(help="Only this channel.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for fit.json (study: fit).")] = None,
    draws: Annotated[int, typer.Option(min=20, help="Refits on resampled runs.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of starts and draws.")] = 0,
    column: Columns = None,
    json: Json = False,
) -> None:
    """Fit laws to every channel, choose by held-out error, draw intervals.

    Example: dcpt fit runs.csv --law d-cpt --channel domain --json
    """
    from dcpt import display, stations

    _note_left_out(table)
    folder = out or (stations.fit_folder(table) if stations.is_study(table) else None)
    fitted = stations.fit_runs(
        stations.collect_runs(table, read_mapping(column)),
        folder,
        law=law,
        channels=channel or None,
        n_draws=draws,
        seed=seed,
    )
    if json:
        typer.echo(display.as_json(display.fit_record(fitted)))
    else:
        display.show_fit(_console(), fitted)


@app.command()
def predict(
    place: Place,
    n_params: Annotated[str | None, typer.Option(help="Parameters, e.g. 1.5B.")] = None,
    n_tokens: Annotated[str | None, typer.Option(help="CPT tokens, e.g. 10B.")] = None,
    ratio: Annotated[list[float] | None, typer.Option(help="Share of domain tokens.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    phase: Annotated[
        str | None, typer.Option(help="constant or annealed (default: annealed where known).")
    ] = None,
    base_loss: BaseLosses = None,
    base_peak_learning_rate: BasePeak = None,
    base_n_tokens: BaseTokens = None,
    warmup_tokens: WarmupTokens = None,
    json: Json = False,
) -> None:
    """Predict every channel's loss, with 90 % intervals.

    Example: dcpt predict fit --n-params 7B --n-tokens 20B --ratio 0.5 --base-loss general=1.9
    """
    from dcpt import display, stations
    from dcpt.laws import load_fit

    fitted = load_fit(stations.fit_folder(place))
    given: dict[str, Any] = {
        "n_params": read_count("--n-params", n_params),
        "n_tokens": read_count("--n-tokens", n_tokens),
        "ratio": ratio or None,
        "learning_rate": learning_rate,
        "phase": phase,
        "base_peak_learning_rate": base_peak_learning_rate,
        "base_n_tokens": read_count("--base-n-tokens", base_n_tokens),
        "warmup_tokens": read_count("--warmup-tokens", warmup_tokens),
        **{f"base_loss_{name}": loss for name, loss in read_losses(base_loss).items()},
    }
    frame = fitted.predict(**{name: value for name, value in given.items() if value is not None})
    if json:
        typer.echo(display.as_json(frame.to_dict(orient="records")))
    else:
        typer.echo(frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"))


@app.command()
def recommend(
    place: Place,
    n_params: Annotated[str | None, typer.Option(help="Target: parameters, e.g. 7B.")] = None,
    n_tokens: Annotated[str | None, typer.Option(help="Target: tokens, decay included.")] = None,
    limit: Annotated[str | None, typer.Option(help="Rise of general loss: +3% or +0.05.")] = None,
    base_loss: BaseLosses = None,
    base_peak_learning_rate: BasePeak = None,
    base_n_tokens: BaseTokens = None,
    learning_rate: Annotated[float | None, typer.Option(help="Hold the rate at this.")] = None,
    warmup_tokens: WarmupTokens = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.99, help="Level of intervals.")] = 0.9,
    json: Json = False,
) -> None:
    """Recommend the share of domain text and the learning rate for the target.

    Options override the study's target; a fit folder needs them.

    Example: dcpt recommend fit --n-params 7B --n-tokens 20B --limit +3% --base-loss general=1.9
    """
    from dcpt import display, stations

    target = stations.read_target(
        place,
        n_params=read_count("--n-params", n_params),
        n_tokens=read_count("--n-tokens", n_tokens),
        limit=limit,
        base_losses=read_losses(base_loss),
        base_peak_learning_rate=base_peak_learning_rate,
        base_n_tokens=read_count("--base-n-tokens", base_n_tokens),
        learning_rate=learning_rate,
        warmup_tokens=read_count("--warmup-tokens", warmup_tokens),
    )
    answer = stations.recommend_for(place, target, level)
    if json:
        typer.echo(display.as_json(answer.as_dict()))
    else:
        display.show_answer(_console(), answer)


@app.command()
def verify(study: StudyFile, workers: Workers = None, json: Json = False) -> None:
    """Train the target at the recommendation and beside it; measured beside predicted.

    Example: dcpt verify study.yaml
    """
    from dcpt import display, stations
    from dcpt.grid.local import choose_slots
    from dcpt.study import StudyFolder

    console, folder = _console(json), StudyFolder(study)
    slots = choose_slots(workers)
    with display.watch_grid(console, folder, len(slots), "verification") as view:
        checked, outcome = stations.verify_study(study, slots, on_tick=view.tick)
    _end(outcome, console)
    assert checked is not None
    if json:
        typer.echo(display.as_json(checked.as_dict()))
        return
    for line in checked.words:
        typer.echo(line)


@app.command()
def report(
    place: Place,
    out: Annotated[Path | None, typer.Option(help="Folder for the page.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
) -> None:
    """Write the page that people act on: HTML, Markdown and JSON.

    Example: dcpt report study.yaml
    """
    from dcpt import stations

    for path in stations.report_on(place, out=out, title=title):
        typer.echo(str(path))


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

    console = _console(json)
    outcome = None
    if bundled:
        answer = demonstration.run_bundled(out, console)
    else:
        answer, outcome = demonstration.run(out, domain, seed, workers, console)
    if json:
        typer.echo(display.as_json(answer.as_dict()))
    if outcome is not None:
        _end(outcome, console)
