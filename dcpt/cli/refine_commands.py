"""The commands that choose further runs, and train them: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from dcpt.cli.options import (
    BaseLosses,
    BasePeak,
    BaseTokens,
    FixedRate,
    Json,
    Laws,
    Level,
    Mix,
    OwnLaws,
    Place,
    StudyFile,
    TargetConfidence,
    TargetLimits,
    TargetSize,
    TargetTokens,
    UniqueTokens,
    WarmupTokens,
    Workers,
    read_shares,
)
from dcpt.errors import InputError

Budgets = Annotated[
    str,
    typer.Option(
        "--budget",
        help="What the runs may cost together: 50% of the cost of the target's run, or 20h "
        "(GPU-hours).",
    ),
]


def next_runs(
    place: Place,
    budget: Budgets = "50%",
    length: Annotated[
        list[str] | None,
        typer.Option(
            help="Length that a run may have, as a share of the target's tokens. Default: 25%. "
            "Repeatable."
        ),
    ] = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Write the runs to next_runs.yaml, for the study to include."),
    ] = False,
    n_params: TargetSize = None,
    n_tokens: TargetTokens = None,
    limit: TargetLimits = None,
    confidence: TargetConfidence = None,
    base_loss: BaseLosses = None,
    base_peak_learning_rate: BasePeak = None,
    base_n_tokens: BaseTokens = None,
    learning_rate: FixedRate = None,
    warmup_tokens: WarmupTokens = None,
    unique_tokens: UniqueTokens = None,
    mix: Mix = None,
    level: Level = 0.9,
    law: OwnLaws = None,
    json: Json = False,
) -> None:
    """Choose the few further runs that narrow the share most.

    By default these are short runs at the target. Where the study cannot train the target, they are
    at another size.

    Example: dcpt next-runs study.yaml --budget 50%
    """
    from dcpt.cli.console import as_json, note_damaged, open_console
    from dcpt.cli.show_next_runs import show_next_runs
    from dcpt.cli.target_options import ask_target
    from dcpt.pipeline.next_runs import choose_next, write_next
    from dcpt.pipeline.workspace import Workspace, damaged_files, open_place

    opened = open_place(place)
    if write and not isinstance(opened, Workspace):
        raise InputError(f"--write: {place} is no study, so no study can include the runs")
    note_damaged(damaged_files(opened))
    target = ask_target(
        opened,
        n_params=n_params,
        n_tokens=n_tokens,
        limit=limit,
        confidence=confidence,
        base_loss=base_loss,
        base_peak_learning_rate=base_peak_learning_rate,
        base_n_tokens=base_n_tokens,
        learning_rate=learning_rate,
        warmup_tokens=warmup_tokens,
        unique_tokens=unique_tokens,
        mix=mix,
    )
    chosen = choose_next(
        opened,
        target,
        budget,
        level=level,
        lengths=read_shares("--length", length),
        laws=law or (),
    )
    file = write_next(opened, chosen) if write and isinstance(opened, Workspace) else None
    if json:
        typer.echo(as_json({**chosen.as_dict(), "file": file}))
        return
    show_next_runs(open_console(), chosen)
    if file is not None:
        typer.echo(
            f"wrote {file}; write `include: {file.name}` into {place}, then: dcpt run-grid {place}"
        )


def refine(
    study: StudyFile,
    budget: Budgets = "50%",
    width: Annotated[
        float,
        typer.Option(min=0, max=1, help="End when the share's interval is at most this wide."),
    ] = 0.2,
    level: Level = 0.9,
    law: Laws = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Choose further runs, train and fit them, and verify the answer.

    Ends when the interval of the share is narrow enough or the budget is spent. If it was stopped,
    the same command resumes; no run is trained twice.

    Example: dcpt refine study.yaml --budget 50% --width 0.2
    """
    from dcpt.cli.console import as_json, note_damaged, open_console, print_line
    from dcpt.cli.show_grid import watch_grid
    from dcpt.cli.study_commands import end
    from dcpt.decide.budget import Budget
    from dcpt.engines.choose import slots_of
    from dcpt.pipeline.refine import refine_study
    from dcpt.pipeline.rounds import Goal
    from dcpt.pipeline.workspace import Workspace

    console, workspace = open_console(json), Workspace(study)
    slots = slots_of(workspace.study.engine, workers)
    note_damaged(workspace.damaged)
    goal = Goal(Budget.parse(budget), width, level)
    refined = refine_study(
        workspace,
        slots,
        goal,
        laws=law or (),
        watch=lambda title: watch_grid(console, slots, title),
        on_round=lambda done: print_line(console, done.say(goal.budget)),
    )
    if json:
        typer.echo(as_json(refined.as_dict()))
    else:
        for line in refined.words:
            typer.echo(line)
    end(refined.outcome, console)
