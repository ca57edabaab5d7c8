"""``dcpt evaluate``: losses of a base on every channel, or the metrics of lm-eval's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcpt.cli.options import Json
from dcpt.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from dcpt.training.task_metrics import TaskMetric


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Model folder, or id on the Hugging Face Hub. Default with --tasks: every saved "
            "model of the study's runs."
        ),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(help="Study file whose validation text, or saved models, are used."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Name of the base in the study. Default: found by its model.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Run these tasks of lm-eval instead: names or YAML files, separated by commas."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure a base's loss on every channel, or run lm-eval tasks.

    Example: dcpt evaluate models/base --study study.yaml --label base
    """
    if tasks is not None:
        _show_tasks(tasks, model, study, label, json)
    elif model is None or study is None:
        missing = "a model" if model is None else "--study, whose validation text is used"
        raise InputError(f"dcpt evaluate: give {missing}")
    else:
        _show_losses(model, study, label, json)


def _show_losses(model: str, study: Path, label: str | None, json: bool) -> None:
    from dcpt.cli.console import as_json, make_table, open_console
    from dcpt.pipeline.train import evaluate_base
    from dcpt.pipeline.workspace import Workspace

    row = evaluate_base(Workspace(study), model, label)
    if json:
        typer.echo(as_json(row))
        return
    rows = [(name, f"{loss:.4f}", f"{row['se'][name]:.4f}") for name, loss in row["loss"].items()]
    title = f"{row['base']}: {row['n_params']:,} parameters, nats per token"
    open_console().print(make_table(title, ("channel", "loss", "standard error"), rows))


def _show_tasks(
    tasks: str, model: str | None, study: Path | None, label: str | None, json: bool
) -> None:
    from dcpt.cli.console import as_json, open_console, print_line
    from dcpt.pipeline.tasks import evaluate_tasks
    from dcpt.pipeline.workspace import Workspace

    if label is not None:
        raise InputError(
            "--label names a base whose losses are measured; leave it out with --tasks"
        )
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise InputError("--tasks is empty; name tasks, such as --tasks arc_easy,my_task.yaml")
    measured = evaluate_tasks(names, model, None if study is None else Workspace(study))
    if json:
        found = {name: [vars(metric) for metric in metrics] for name, metrics in measured.items()}
        typer.echo(as_json(found))
        return
    console = open_console()
    for name, metrics in measured.items():
        print_line(console, name)  # a path may be longer than the table is wide
        console.print(_task_table(metrics))


def _task_table(metrics: Sequence[TaskMetric]) -> Table:
    """A row for each metric; a filter of the answers is part of its name."""
    from dcpt.cli.console import make_table

    def show(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    rows = [
        (
            metric.task,
            metric.metric if metric.filter == "none" else f"{metric.metric}, {metric.filter}",
            show(metric.value),
            show(metric.se),
            f"{metric.n_documents:,}",
        )
        for metric in metrics
    ]
    return make_table("", ("task", "metric", "value", "standard error", "documents"), rows)
