"""What a question takes from elsewhere: the target, the base of the table, the recommended pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dcpt.errors import InputError
from dcpt.pipeline.answer import read_target
from dcpt.pipeline.workspace import Place, Workspace, fit_folder
from dcpt.quantities import format_rate, format_share

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from dcpt.decide.records import Target
    from dcpt.pipeline.answer import TargetFields
    from dcpt.table.base_rows import TableBase

TARGET_FIELDS = (
    *("n_params", "n_tokens", "base_losses", "base_peak_learning_rate", "base_n_tokens"),
    *("learning_rate", "warmup_tokens", "unique_tokens", "mix"),
)
"""Fields of a target that a prediction takes as well."""


def complete_target(place: Place, target: Target) -> tuple[Target, list[str]]:
    """Take the base's losses from the fitted table where the target names none.

    Returns:
        The target, and a sentence on what was taken from the table.
    """
    base = None if target.base_losses else table_base(place, target.n_params)
    if base is None:
        return target, []
    completed = replace(
        target,
        base_losses=base.losses,
        base_peak_learning_rate=target.base_peak_learning_rate or base.base_peak_learning_rate,
        base_n_tokens=target.base_n_tokens or base.base_n_tokens,
    )
    return completed, [_say_base(base)]


def note_other_target(place: Place, target: Target) -> list[str]:
    """Say that a study's recommendation was made for another target than the study names.

    Args:
        place: A study, or a folder of a fit.
        target: The target as it was asked, before a decision completes its mix and warmup.
    """
    if not isinstance(place, Workspace):
        return []
    names = (
        *("n_params", "n_tokens", "limit", "channel_limits", "weights", "confidence"),
        *("learning_rate", "warmup_tokens", "schedule", "unique_tokens", "mix"),
    )
    own = read_target(place)
    other = [name for name in names if getattr(own, name) != getattr(target, name)]
    # A base loss that the study does not know only completes its target.
    if any(loss != target.base_losses.get(name) for name, loss in own.base_losses.items()):
        other.append("base_losses")
    if not other:
        return []
    return [
        f"recommendation.json is now for another "
        f"{', '.join(name.replace('_', ' ') for name in other)} than the study names; report, "
        f"verify and export follow it until `dcpt recommend {place}` is run again"
    ]


def complete_question(place: Place, given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Complete a question to a fit.

    A study's question is about its target; without a ratio it is about the recommended pair. The
    base's losses come from the fitted table where nothing names them.

    Args:
        place: A study, or a folder of a fit.
        given: Columns of the question by name, None where they are not given; ``base_losses``,
            ``unique_tokens`` and ``mix`` by channel.

    Returns:
        The completed columns, and a sentence on each thing that was taken from elsewhere.
    """
    asked = dict(given)
    notes: list[str] = []
    if isinstance(place, Workspace) and place.study.target is not None:
        fields = cast("TargetFields", {name: given.get(name) for name in TARGET_FIELDS})
        target, notes = complete_target(place, read_target(place, **fields))
        asked |= {name: getattr(target, name) for name in TARGET_FIELDS}
        if given.get("ratio") is None:
            pair, note = _recommended_pair(place, target)
            asked |= {name: value for name, value in pair.items() if asked.get(name) is None}
            notes += note
    elif asked.get("n_params") and not asked["base_losses"]:
        base = table_base(place, asked["n_params"])
        if base is not None:
            asked["base_losses"] = base.losses
            for name in ("base_peak_learning_rate", "base_n_tokens"):
                asked[name] = asked.get(name) or getattr(base, name)
            notes.append(_say_base(base))
    for field, column in (("base_losses", "base_loss"), ("unique_tokens", "unique_tokens")):
        by_channel = asked.pop(field)
        asked |= {f"{column}_{name}": value for name, value in by_channel.items()}
    return asked | _shares(asked.pop("mix"), asked.get("ratio")), notes


def at_tokens(asked: dict[str, Any], tokens: Sequence[int]) -> dict[str, Any]:
    """A completed question at several numbers of tokens, each with every share that it has."""
    if len(tokens) < 2:
        return asked
    n = max(np.size(value) for value in asked.values() if value is not None)
    tiled = {
        name: np.tile(value, len(tokens)) if np.size(value) == n > 1 else value
        for name, value in asked.items()
        if value is not None
    }
    return {**tiled, "n_tokens": np.repeat(tokens, n)}


def _shares(mix: Mapping[str, float], ratio: float | list[float] | None) -> dict[str, Any]:
    """The columns ``share_<channel>`` of a question with a mix of its own."""
    from dcpt.decide.general_mix import mix_columns

    if mix and ratio is None:
        raise InputError("--mix is the mix of the general text: give the share of domain text too")
    return dict(mix_columns(mix, np.array(ratio, dtype=np.float64)))


def table_base(place: Place, n_params: float) -> TableBase | None:
    """The base of a size in the table that was fitted; None if it has no losses there."""
    from dcpt.table.base_rows import base_of_size

    folder = fit_folder(place)
    there = (folder / "runs.csv").exists()
    base = base_of_size(sized_runs(folder), n_params) if there else None
    return base if base is not None and base.losses else None


def sized_runs(folder: Path) -> pd.DataFrame:
    """The table of a fit, with the column that is N in its laws as ``n_params``."""
    from dcpt.laws import read_size_column
    from dcpt.table import load_runs
    from dcpt.table.channels import choose_sizes

    return choose_sizes(load_runs(folder / "runs.csv"), read_size_column(folder))[0]


def _say_base(base: TableBase) -> str:
    losses = ", ".join(f"{name} {loss:.4g}" for name, loss in base.losses.items())
    return (
        f"the base's losses are those of the table at {base.n_params:,.0f} "
        f"parameters ({losses}); --base-loss sets others"
    )


def _recommended_pair(place: Place, target: Target) -> tuple[dict[str, float | None], list[str]]:
    """The pair recommended for this target, if there is one."""
    from dcpt.decide import read_recommendation

    folder = fit_folder(place)
    if not (folder / "recommendation.json").exists():
        return {}, []
    answer = read_recommendation(folder)
    same = (answer.target.n_params, answer.target.n_tokens) == (target.n_params, target.n_tokens)
    if answer.best is None or not same:
        return {}, []
    pair = {"ratio": answer.best.ratio, "learning_rate": answer.best.learning_rate}
    rate = "" if pair["learning_rate"] is None else f", {format_rate(pair['learning_rate'])}"
    return pair, [f"the pair is the recommended one ({format_share(answer.best.ratio)}{rate})"]
