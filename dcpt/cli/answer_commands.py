"""The commands that ask a fit: losses, a share and a rate, and the page about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dcpt.cli.options import (
    BaseLosses,
    BasePeak,
    BaseTokens,
    FixedRate,
    Json,
    Level,
    LossWeights,
    Mix,
    OwnLaws,
    Place,
    Schedules,
    TargetConfidence,
    TargetLimits,
    TargetSchedule,
    TargetSize,
    TargetTokens,
    UniqueTokens,
    WarmupTokens,
    read_base_losses,
    read_count,
    read_mix,
    read_ratio,
    read_schedules,
    read_unique_tokens,
)

NO_ANSWER = 2
"""Exit code where no share keeps the limits, as for input that cannot be used."""


def predict(
    place: Place,
    n_params: Annotated[str | None, typer.Option(help="Number of parameters, e.g. 1.5B.")] = None,
    n_tokens: Annotated[
        list[str] | None,
        typer.Option(
            help="CPT tokens, decay included, e.g. 10B. Repeatable, for the losses over the tokens."
        ),
    ] = None,
    ratio: Annotated[
        list[str] | None, typer.Option(help="Share of domain tokens: 0.25 or 25%. Repeatable.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    phase: Annotated[
        str | None,
        typer.Option(help="constant or annealed. Default: annealed if the runs have decays."),
    ] = None,
    base_loss: BaseLosses = None,
    base_peak_learning_rate: BasePeak = None,
    base_n_tokens: BaseTokens = None,
    warmup_tokens: WarmupTokens = None,
    unique_tokens: UniqueTokens = None,
    mix: Mix = None,
    batch_tokens: Annotated[str | None, typer.Option(help="Tokens per step.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Name of a schedule in the file of --schedules.")
    ] = None,
    schedules: Schedules = None,
    law: OwnLaws = None,
    json: Json = False,
) -> None:
    """Predict every channel's loss, with 90 % intervals.

    For a study, the question is about its target unless options say otherwise, and without --ratio
    about the recommended pair. A fit folder needs the options.

    Example: dcpt predict fit --n-params 7B --n-tokens 10B --n-tokens 20B --ratio 0.5
    """
    from dcpt.cli.console import as_json, note_all, open_console
    from dcpt.cli.show_laws import (
        flags_of_question,
        horizon_of_question,
        prediction_record,
        show_prediction,
    )
    from dcpt.laws import load_fit
    from dcpt.pipeline.target import at_tokens, complete_question
    from dcpt.pipeline.workspace import fit_folder, open_place

    counts = [read_count("--n-tokens", text) for text in n_tokens or []]
    tokens = [count for count in counts if count is not None]
    given: dict[str, Any] = {
        "n_params": read_count("--n-params", n_params),
        "n_tokens": tokens[-1] if tokens else None,
        "ratio": [read_ratio(text) for text in ratio or []] or None,
        "learning_rate": learning_rate,
        "phase": phase,
        "base_peak_learning_rate": base_peak_learning_rate,
        "base_n_tokens": read_count("--base-n-tokens", base_n_tokens),
        "warmup_tokens": read_count("--warmup-tokens", warmup_tokens),
        "batch_tokens": read_count("--batch-tokens", batch_tokens),
        "schedule": schedule,
        "base_losses": read_base_losses(base_loss),
        "unique_tokens": read_unique_tokens(unique_tokens),
        "mix": read_mix(mix),
    }
    opened = open_place(place)
    fitted, named = load_fit(fit_folder(opened), law or ()), read_schedules(schedules)
    asked, notes = complete_question(opened, given)
    note_all(notes)
    frame = fitted.predict(schedules=named, **at_tokens(asked, tokens))
    flags = flags_of_question(fitted, frame, named)
    horizon = horizon_of_question(fitted, frame)
    if json:
        typer.echo(as_json(prediction_record(frame, horizon, flags)))
    else:
        show_prediction(open_console(), frame, horizon, flags)


def recommend(
    place: Place,
    n_params: TargetSize = None,
    n_tokens: TargetTokens = None,
    limit: TargetLimits = None,
    weight: LossWeights = None,
    confidence: TargetConfidence = None,
    base_loss: BaseLosses = None,
    base_peak_learning_rate: BasePeak = None,
    base_n_tokens: BaseTokens = None,
    learning_rate: FixedRate = None,
    warmup_tokens: WarmupTokens = None,
    schedule: TargetSchedule = None,
    unique_tokens: UniqueTokens = None,
    mix: Mix = None,
    level: Level = 0.9,
    law: OwnLaws = None,
    json: Json = False,
) -> None:
    """Recommend the share of domain text and the learning rate.

    Options override the study's target; a fit folder needs them. The base's losses are taken from
    the rows of its size if the table has them. Ends with exit code 2 where no share keeps the
    limits.

    Example: dcpt recommend fit --n-params 7B --n-tokens 20B --limit +3%
    """
    from dcpt.cli.console import as_json, note_all, note_damaged, open_console
    from dcpt.cli.show_fit import show_answer
    from dcpt.cli.show_text import note_changed_text
    from dcpt.cli.target_options import ask_target
    from dcpt.pipeline.answer import recommend_for
    from dcpt.pipeline.target import note_other_target
    from dcpt.pipeline.workspace import damaged_files, open_place

    opened = open_place(place)
    note_changed_text(opened)
    note_damaged(damaged_files(opened))
    target = ask_target(
        opened,
        n_params=n_params,
        n_tokens=n_tokens,
        limit=limit,
        weight=weight,
        confidence=confidence,
        base_loss=base_loss,
        base_peak_learning_rate=base_peak_learning_rate,
        base_n_tokens=base_n_tokens,
        learning_rate=learning_rate,
        warmup_tokens=warmup_tokens,
        unique_tokens=unique_tokens,
        mix=mix,
        schedule=schedule,
    )
    answer = recommend_for(opened, target, level, law or ())
    note_all(note_other_target(opened, target))
    if json:
        typer.echo(as_json(answer.as_dict()))
    else:
        show_answer(open_console(), answer)
    if answer.best is None:
        raise typer.Exit(NO_ANSWER)


def report(
    place: Place,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to. Default: report, in the folder of the fit."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    sliders: Annotated[
        bool,
        typer.Option(
            help="Sliders for other sizes, tokens, limits and odds. Their answers take some "
            "seconds to compute."
        ),
    ] = True,
    figures: Annotated[
        Path | None, typer.Option(help="Also write the figures to this folder, as SVG and PNG.")
    ] = None,
    law: OwnLaws = None,
    json: Json = False,
) -> None:
    """Write the report as HTML, Markdown and JSON.

    Example: dcpt report study.yaml
    """
    from dcpt.cli.console import as_json, note_damaged
    from dcpt.cli.show_text import note_changed_text
    from dcpt.pipeline.answer import report_on
    from dcpt.pipeline.workspace import damaged_files, open_place

    opened = open_place(place)
    note_changed_text(opened)
    note_damaged(damaged_files(opened))
    pages = report_on(
        opened, out=out, title=title, laws=law or (), sliders=sliders, figures=figures
    )
    typer.echo(as_json({"files": pages}) if json else "\n".join(map(str, pages)))
