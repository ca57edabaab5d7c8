"""The target's run as a recommendation describes it: steps, stages, learning rate, batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from dcpt.errors import InputError, did_you_mean
from dcpt.pipeline.export_options import ExportOptions
from dcpt.pipeline.export_sources import find_sources
from dcpt.pipeline.workspace import Place, Workspace, fit_folder
from dcpt.quantities import format_count, format_percent, format_rate, format_share, format_shares
from dcpt.runs.course import channel_shares

if TYPE_CHECKING:
    from dcpt.decide.records import Recommendation
    from dcpt.laws.fits.result import Fit
    from dcpt.trainer_configs.records import Recipe, Source, Stage


def make_recipe(
    place: Place, answer: Recommendation, fitted: Fit, options: ExportOptions
) -> Recipe:
    """The target's run, as a recommendation describes it.

    Raises:
        InputError: If no share is recommended, or something that the run needs is not known.
    """
    from dcpt.trainer_configs import Recipe

    if answer.best is None:
        raise InputError(
            f"{place}: no share meets the limit {answer.target.limits_in_words}, so there is "
            "nothing to export; run `dcpt recommend` with a higher limit first"
        )
    sources = find_sources(place, answer.target, fitted, options)
    batch, sequence = _batch(place, options)
    n_steps = math.ceil(answer.target.n_tokens / (batch * sequence))
    decay_share = _decay_share(place, answer, options)
    decay_steps = round(n_steps * decay_share)
    warmup_steps = math.ceil(_warmup_tokens(place, answer, options) / (batch * sequence))
    if warmup_steps + decay_steps >= n_steps or (decay_share and not decay_steps):
        raise InputError(
            f"the run has {n_steps} steps of {batch * sequence} tokens, too few for a warmup "
            f"({warmup_steps} steps), a constant rate and a decay ({decay_steps} steps); give a "
            "smaller --batch-sequences"
        )
    stages = _stages(
        place, answer.best.ratio, sources, options, (n_steps, warmup_steps, decay_steps)
    )
    read = {name for stage in stages for name in stage.shares}
    return Recipe(
        sources={name: source for name, source in sources.items() if name in read},
        stages=stages,
        learning_rate=_learning_rate(place, answer, options),
        warmup_steps=warmup_steps,
        decay_steps=decay_steps,
        batch_sequences=batch,
        sequence_tokens=sequence,
        devices=options.devices,
        about=tuple(_about(answer, options)),
    )


def _batch(place: Place, options: ExportOptions) -> tuple[int, int]:
    """Sequences of a step, and tokens of a sequence."""
    batch, sequence = options.batch_sequences, options.sequence_tokens
    if isinstance(place, Workspace):
        training = place.study.training
        batch, sequence = batch or training.batch_sequences, sequence or training.sequence_tokens
    if batch is None or sequence is None:
        raise InputError(
            f"{place}: the batch of the target's run is not known; give --batch-sequences 512 and "
            "--sequence-tokens 4096 with your numbers"
        )
    return batch, sequence


def _decay_share(place: Place, answer: Recommendation, options: ExportOptions) -> float:
    """The decay as a share of the whole run's steps; 0 if losses before a decay were compared."""
    decay = options.decay
    if answer.phase != "annealed":
        if decay is not None:
            raise InputError(
                "--decay: the recommendation is for losses before a decay, so the run has none; "
                "leave it out, or fit runs with decays"
            )
        return 0.0
    if decay is None and isinstance(place, Workspace):
        decay = place.study.branches.decay
    if decay is None:
        decay = _table_decay(fit_folder(place))
    if decay is None:
        raise InputError(
            f"{place}: the recommendation is for losses after a decay, and the decays of the runs "
            "differ or are not in the table; give --decay 10% (of the tokens before it)"
        )
    return decay / (1 + decay)


def _table_decay(folder: Path) -> float | None:
    """The decay of a fit's runs, as a share of the tokens before it; None if runs differ."""
    from dcpt.table import load_runs

    runs = load_runs(folder / "runs.csv")
    if "branch_n_tokens" not in runs:
        return None
    ends = runs[runs["branch_n_tokens"].notna()]
    shares = ends["n_tokens"] / ends["branch_n_tokens"] - 1
    same = len(shares) > 0 and shares.max() - shares.min() <= 0.02 * shares.median()
    return float(shares.median()) if same else None


def _warmup_tokens(place: Place, answer: Recommendation, options: ExportOptions) -> float:
    """Tokens of the warmup: those that the recommendation was made for."""
    recommended, given = answer.target.warmup_tokens, options.warmup_tokens
    if recommended is None and given is None:
        raise InputError(
            f"{place}: the warmup of the runs is not known or differs; give --warmup-tokens with "
            "that of the target's run"
        )
    if recommended is not None and given not in (None, recommended):
        raise InputError(
            f"--warmup-tokens {given:g}: the share is recommended for a warmup of "
            f"{recommended:g} tokens; run `dcpt recommend {place} --warmup-tokens {given:g}` first"
        )
    return recommended if recommended is not None else float(given or 0)


def _learning_rate(place: Place, answer: Recommendation, options: ExportOptions) -> float:
    assert answer.best is not None
    recommended, given = answer.best.learning_rate, options.learning_rate
    if recommended is None and given is None:
        raise InputError(
            f"{place}: the runs have no learning rate, so none is recommended; give "
            "--learning-rate with that of your runs"
        )
    if recommended is not None and given not in (None, recommended):
        raise InputError(
            f"--learning-rate {given:g}: the share is recommended for {format_rate(recommended)}; "
            f"run `dcpt recommend {place} --learning-rate {given:g}` first"
        )
    return recommended if recommended is not None else float(given or 0)


def _stages(
    place: Place,
    ratio: float,
    sources: Mapping[str, Source],
    options: ExportOptions,
    steps: tuple[int, int, int],
) -> tuple[Stage, ...]:
    """The stages: a warmup and a decay are stages where they have mixtures of their own."""
    from dcpt.trainer_configs import Stage

    n_steps, warmup_steps, decay_steps = steps
    channels = list(sources.values())
    main = _as_floats(channel_shares(channels, ratio))
    warmup_ratio = place.study.training.warmup_ratio if isinstance(place, Workspace) else None
    own = _decay_shares(place, options)
    decay = {name: own[name] for name in sources if name in own}  # in the order of the sources
    if decay and not decay_steps:
        raise InputError("--decay-mixture: the run has no decay; leave it out")
    first = warmup_steps if warmup_ratio is not None else 0
    last = n_steps - decay_steps if decay else n_steps
    stages = [Stage("main", first, last - first, main)]
    if first and warmup_ratio is not None:
        shares = _as_floats(channel_shares(channels, warmup_ratio))
        stages.insert(0, Stage("warmup", 0, first, shares))
    if decay:
        stages.append(Stage("decay", last, decay_steps, decay))
    return tuple(stages)


def _decay_shares(place: Place, options: ExportOptions) -> dict[str, float]:
    """The decay's own shares; empty if it reads the mixture of the run."""
    name = options.decay_mixture_name
    if name is None:
        total = sum(options.decay_mixture.values())
        if options.decay_mixture and abs(total - 1) > 1e-6:
            raise InputError(f"--decay-mixture: the shares sum to {total:g}; they must sum to 1")
        return {name: share for name, share in options.decay_mixture.items() if share > 0}
    mixtures = place.study.branches.mixtures if isinstance(place, Workspace) else {}
    if name not in mixtures:
        raise InputError(
            f"--decay-mixture {name}: {place} has no such mixture (it has "
            f"{', '.join(mixtures) or 'none'}); give shares, such as --decay-mixture domain=80% "
            f"--decay-mixture general=20%{did_you_mean(name, mixtures)}"
        )
    return dict(mixtures[name])


def _as_floats(shares: Mapping[str, Fraction]) -> dict[str, float]:
    return {name: float(share) for name, share in shares.items()}


def _about(answer: Recommendation, options: ExportOptions) -> list[str]:
    """Lines on the recommendation, for the head of the files."""
    assert answer.best is not None
    target, best, interval = answer.target, answer.best, answer.ratio_interval
    level = format_percent(answer.level)
    lines = [
        "Mixture and learning rate of a continual pre-training run, as dcpt recommends them.",
        f"Command: {options.command}",
        f"Target: {format_count(target.n_params)} parameters, {format_count(target.n_tokens)} "
        f"tokens, limit on the general loss: {target.limits_in_words}.",
        f"Share of domain text: {format_share(best.ratio)} of the tokens; {level} interval "
        f"{format_shares(interval.low, interval.high)}. Evidence: {answer.evidence.level}.",
    ]
    rates = answer.learning_rate_interval
    if rates is not None and rates.low is not None and rates.high is not None:
        lines.append(
            f"Peak learning rate: {level} interval {format_rate(rates.low)} to "
            f"{format_rate(rates.high)}."
        )
    return lines
