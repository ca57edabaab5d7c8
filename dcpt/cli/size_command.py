"""``dcpt size``: the best size, tokens, share and rate for a given compute."""

from __future__ import annotations

from typing import Annotated

import typer

from dcpt.cli.options import (
    FixedRate,
    Json,
    Level,
    LossWeights,
    Mix,
    OwnLaws,
    Place,
    TargetConfidence,
    TargetLimits,
    UniqueTokens,
    WarmupTokens,
    read_positive,
)
from dcpt.errors import InputError

COLUMNS = ("parameters", "tokens", "share", "learning rate", "loss", "note")


def size(
    place: Place,
    flops: Annotated[
        str | None, typer.Option(help="FLOPs of the run, 6 per parameter and token: 3e18.")
    ] = None,
    gpu_hours: Annotated[
        str | None, typer.Option(help="In place of --flops: GPU-hours of the run.")
    ] = None,
    flops_per_second: Annotated[
        str | None,
        typer.Option(help="With --gpu-hours: measured FLOP/s of a GPU, 6 N x tokens per second."),
    ] = None,
    limit: TargetLimits = None,
    weight: LossWeights = None,
    confidence: TargetConfidence = None,
    learning_rate: FixedRate = None,
    warmup_tokens: WarmupTokens = None,
    unique_tokens: UniqueTokens = None,
    mix: Mix = None,
    level: Level = 0.9,
    law: OwnLaws = None,
    json: Json = False,
) -> None:
    """Recommend size and tokens for a given compute.

    The share and the learning rate are chosen with them. Compared are the bases of the runs and
    sizes between them. The recommendation at the best size is kept, for report and verify.

    Example: dcpt size fit --flops 3e15 --limit +3%
    """
    from dcpt.cli.console import (
        as_json,
        make_table,
        note_all,
        note_damaged,
        open_console,
        print_line,
    )
    from dcpt.cli.show_fit import show_answer
    from dcpt.cli.show_text import note_changed_text
    from dcpt.cli.target_options import read_target_fields
    from dcpt.decide.compute import option_cells
    from dcpt.pipeline.answer import read_target
    from dcpt.pipeline.compute import recommend_size_for
    from dcpt.pipeline.target import note_other_target
    from dcpt.pipeline.workspace import damaged_files, open_place

    opened = open_place(place)
    note_changed_text(opened)
    note_damaged(damaged_files(opened))
    fields = read_target_fields(
        limit=limit,
        weight=weight,
        confidence=confidence,
        learning_rate=learning_rate,
        warmup_tokens=warmup_tokens,
        unique_tokens=unique_tokens,
        mix=mix,
    )
    compute = _read_compute(flops, gpu_hours, flops_per_second)
    answer = recommend_size_for(opened, compute, level, law or (), **fields)
    found = answer.recommendation.target
    fields["n_params"], fields["n_tokens"] = found.n_params, found.n_tokens
    fields["base_losses"] = found.base_losses
    note_all(note_other_target(opened, read_target(opened, **fields)))
    if json:
        typer.echo(as_json(answer.as_dict()))
        return
    console = open_console()
    for line in answer.words:
        print_line(console, line)
    rows = [option_cells(option) for option in answer.options]
    console.print(make_table(f"best pair of each size at {answer.flops:.3g} FLOPs", COLUMNS, rows))
    show_answer(console, answer.recommendation)


def _read_compute(flops: str | None, gpu_hours: str | None, per_second: str | None) -> float:
    """The FLOPs of the run."""
    if flops is not None and (gpu_hours or per_second) is None:
        return read_positive("--flops", flops, "3e18")
    if flops is not None or gpu_hours is None or per_second is None:
        raise InputError("give --flops, or both --gpu-hours and --flops-per-second")
    hours = read_positive("--gpu-hours", gpu_hours, "100")
    return hours * 3600 * read_positive("--flops-per-second", per_second, "4e14")
