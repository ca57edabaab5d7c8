"""The target that the options of a command name, completed from the study or the fitted table."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

from dcpt.cli.options import (
    read_base_losses,
    read_count,
    read_limits,
    read_mix,
    read_share,
    read_unique_tokens,
    read_weights,
)
from dcpt.limit import NO_LIMIT

if TYPE_CHECKING:
    from dcpt.decide.records import Target
    from dcpt.pipeline.answer import TargetFields
    from dcpt.pipeline.workspace import Place


class TargetOptions(TypedDict, total=False):
    """Options that name a target, as people write them; None is not given."""

    n_params: str | None
    n_tokens: str | None
    limit: list[str] | None
    weight: list[str] | None
    confidence: str | None
    base_loss: list[str] | None
    base_peak_learning_rate: float | None
    base_n_tokens: str | None
    learning_rate: float | None
    warmup_tokens: str | None
    schedule: str | None
    unique_tokens: list[str] | None
    mix: list[str] | None


def read_target_fields(**options: Unpack[TargetOptions]) -> TargetFields:
    """The fields of a target that options name; None is not given.

    Raises:
        InputError: If an option is not understood.
    """
    weight, confidence = options.get("weight"), options.get("confidence")
    # The mean of weighted losses is minimized without a limit, unless one is given.
    limit = options.get("limit") or ([NO_LIMIT] if weight else None)
    return {
        "n_params": read_count("--n-params", options.get("n_params")),
        "n_tokens": read_count("--n-tokens", options.get("n_tokens")),
        **read_limits(limit),
        "weights": read_weights(weight) or None,
        "confidence": None if confidence is None else read_share("--confidence", confidence),
        "base_losses": read_base_losses(options.get("base_loss")),
        "base_peak_learning_rate": options.get("base_peak_learning_rate"),
        "base_n_tokens": read_count("--base-n-tokens", options.get("base_n_tokens")),
        "learning_rate": options.get("learning_rate"),
        "warmup_tokens": read_count("--warmup-tokens", options.get("warmup_tokens")),
        "schedule": options.get("schedule"),
        "unique_tokens": read_unique_tokens(options.get("unique_tokens")),
        "mix": read_mix(options.get("mix")) or None,
    }


def ask_target(place: Place, **options: Unpack[TargetOptions]) -> Target:
    """Read a target from options as people write them; prints what was taken from elsewhere.

    Raises:
        InputError: If an option is no number, or something that a decision needs is not known.
    """
    from dcpt.cli.console import note_all
    from dcpt.pipeline.answer import read_target
    from dcpt.pipeline.target import complete_target

    target, notes = complete_target(place, read_target(place, **read_target_fields(**options)))
    note_all(notes)
    return target
