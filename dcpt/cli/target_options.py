"""The target that the options of a command name, completed from the study or the fitted table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcpt.cli.options import (
    read_base_losses,
    read_count,
    read_limits,
    read_mix,
    read_share,
    read_unique_tokens,
    read_weights,
)

if TYPE_CHECKING:
    from dcpt.decide.records import Target
    from dcpt.pipeline.workspace import Place


def ask_target(
    place: Place,
    *,
    n_params: str | None,
    n_tokens: str | None,
    limit: list[str] | None,
    confidence: str | None,
    base_loss: list[str] | None,
    base_peak_learning_rate: float | None,
    base_n_tokens: str | None,
    learning_rate: float | None,
    warmup_tokens: str | None,
    unique_tokens: list[str] | None,
    mix: list[str] | None,
    schedule: str | None = None,
    weight: list[str] | None = None,
) -> Target:
    """Read a target from options as people write them; prints what was taken from elsewhere.

    Raises:
        InputError: If an option is no number, or something that a decision needs is not known.
    """
    from dcpt.cli.console import note_all
    from dcpt.pipeline.answer import read_target
    from dcpt.pipeline.target import complete_target

    target = read_target(
        place,
        n_params=read_count("--n-params", n_params),
        n_tokens=read_count("--n-tokens", n_tokens),
        **read_limits(limit or (["none"] if weight else None)),
        weights=read_weights(weight) or None,
        confidence=None if confidence is None else read_share("--confidence", confidence),
        base_losses=read_base_losses(base_loss),
        base_peak_learning_rate=base_peak_learning_rate,
        base_n_tokens=read_count("--base-n-tokens", base_n_tokens),
        learning_rate=learning_rate,
        warmup_tokens=read_count("--warmup-tokens", warmup_tokens),
        unique_tokens=read_unique_tokens(unique_tokens),
        schedule=schedule,
        mix=read_mix(mix) or None,
    )
    target, notes = complete_target(place, target)
    note_all(notes)
    return target
