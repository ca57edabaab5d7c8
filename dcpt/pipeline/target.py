"""Fill in a question: the study's target, the base of the table, the recommended pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from dcpt.pipeline.answer import read_target
from dcpt.pipeline.bases import TargetFields
from dcpt.pipeline.workspace import Place, Workspace, fit_folder
from dcpt.quantities import format_rate, format_share

if TYPE_CHECKING:
    from dcpt.decide.records import Target
    from dcpt.pipeline.answer import TargetFields
    from dcpt.table.base_rows import TableBase

TARGET_COLUMNS = (
    *("n_params", "n_tokens", "base_peak_learning_rate", "base_n_tokens"),
    *("learning_rate", "warmup_tokens"),
)
"""Fields of a target that are columns of a question, too."""


def complete_target(place: Place, target: Target) -> tuple[Target, list[str]]:
    """Take the base's losses from the fitted table if the target has none.

    Returns:
        The target, and a sentence on values taken from the table.
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


def complete_question(
    place: Place, given: TargetFields, columns: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Complete a question to a fit.

    A study's question is about its target; without a ratio it is about the recommended pair. The
    base's losses come from the fitted table unless they are given.

    Args:
        place: A study, or a folder of a fit.
        given: Fields of the target; None where not given.
        columns: Other columns of the question by name, such as ``ratio``; None where not given.

    Returns:
        All columns of the question, and a sentence on each value that was not given.
    """
    asked: dict[str, Any] = {**{name: given.get(name) for name in TARGET_COLUMNS}, **columns}
    losses = given.get("base_losses", {})
    notes: list[str] = []
    if isinstance(place, Workspace) and place.study.target is not None:
        fields = cast("TargetFields", {name: given.get(name) for name in TARGET_FIELDS})
        target, notes = complete_target(place, read_target(place, **fields))
        asked |= {name: getattr(target, name) for name in TARGET_FIELDS}
        if given.get("ratio") is None:
            pair, note = _recommended_pair(place, target)
            asked |= {name: value for name, value in pair.items() if asked.get(name) is None}
            notes += note
    elif asked["n_params"] and not losses:
        base = table_base(place, asked["n_params"])
        if base is not None:
            losses = base.losses
            for name in ("base_peak_learning_rate", "base_n_tokens"):
                asked[name] = asked[name] or getattr(base, name)
            notes.append(_say_base(base))
    return {**asked, **{f"base_loss_{name}": loss for name, loss in losses.items()}}, notes


def table_base(place: Place, n_params: float) -> TableBase | None:
    """The base of a size in the fitted table; None if the table has no losses of it."""
    from dcpt.table import load_runs
    from dcpt.table.base_rows import base_of_size

    table = fit_folder(place) / "runs.csv"
    base = base_of_size(load_runs(table), n_params) if table.exists() else None
    return base if base is not None and base.losses else None


def _say_base(base: TableBase) -> str:
    losses = ", ".join(f"{name} {loss:.4g}" for name, loss in base.losses.items())
    return (
        f"the base's losses are those of the table at n_tokens = 0 and {base.n_params:,.0f} "
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
