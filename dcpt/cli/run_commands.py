"""The commands on single runs of a study: what they wrote, and how they are stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from dcpt.cli.options import Json, StudyFile

_RUN = "Name of its folder or the start of it, or its hash, as dcpt status shows them."


def logs(
    study: StudyFile,
    run: Annotated[str, typer.Argument(help=_RUN)],
    lines: Annotated[int, typer.Option(min=1, help="The most lines of each file.")] = 20,
    json: Json = False,
) -> None:
    """Show what a run wrote, why it failed, and where it runs.

    Example: dcpt logs study.yaml s7-r0.5-lr0.003
    """
    from dcpt.cli.console import as_json
    from dcpt.cli.show_log import log_lines, log_record
    from dcpt.grid.planned import find_folders
    from dcpt.grid.run_log import read_run_log
    from dcpt.names import escape_controls
    from dcpt.pipeline.named_runs import find_run
    from dcpt.pipeline.workspace import Workspace

    workspace = Workspace(study)
    found = find_run(workspace, run)
    folder = find_folders([found], workspace.folder.runs)[found.name]
    log = read_run_log(found, folder, lines)
    if json:
        typer.echo(as_json(log_record(log)))
        return
    for line in log_lines(log):
        typer.echo(escape_controls(line))


def train_run(
    study: StudyFile, run: Annotated[str, typer.Argument(help=_RUN)], json: Json = False
) -> None:
    """Train one run over the processes of torchrun.

    For a run that needs the GPUs of several nodes: start it on each node with
    `torchrun --nnodes 2 --nproc-per-node 8 -m`. A run that was stopped goes on from its last state,
    on any number of processes. `run-grid` finds it done.

    Example: dcpt train-run study.yaml b7-r0.5-lr0.00003
    """
    from dcpt.cli.console import as_json
    from dcpt.pipeline.train_run import train_run
    from dcpt.processes import run_and_exit

    def train() -> None:
        trained = train_run(study, run)
        if not trained.is_first:
            return
        if json:
            typer.echo(as_json({"run": trained.run, "is_done": trained.is_done}))
        elif trained.is_done:
            typer.echo(f"finished {trained.run}: {trained.n_tokens:,} tokens")
        else:
            typer.echo(f"saved {trained.run}; the same command goes on")

    run_and_exit(train)


def cancel(
    study: StudyFile,
    run: Annotated[
        list[str] | None, typer.Argument(help=f"{_RUN} Default: all that are not done.")
    ] = None,
    json: Json = False,
) -> None:
    """Save runs and those that start from them, and stop them.

    It works from any machine that sees the study's folder. Cancelled runs are left out until
    `dcpt run-grid --cancelled` asks for them again.

    Example: dcpt cancel study.yaml s7-r0.5-lr0.003
    """
    from dcpt.cli.console import as_json
    from dcpt.pipeline.named_runs import cancel_runs
    from dcpt.pipeline.workspace import Workspace

    cancelled = cancel_runs(Workspace(study), run or ())
    if json:
        typer.echo(as_json(vars(cancelled)))
        return
    n_running, n_waiting = len(cancelled.running), len(cancelled.waiting)
    n_silent = len(cancelled.silent)
    if not n_running + n_waiting + n_silent:
        typer.echo("nothing to cancel: every run is done or cancelled")
        return
    silent = (
        f", and {n_silent} whose owner gave no sign of life for ten minutes: it was lost, or it "
        "saves them when it goes on"
    )
    typer.echo(
        f"cancelled: {n_running} in training, which are saved and stop, and {n_waiting} that "
        f"nobody trains now{silent if n_silent else ''}; to train them: "
        f"dcpt run-grid {study} --cancelled, or for runs of refine and verify the same command"
    )
