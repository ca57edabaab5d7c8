"""Which laws suit a table, with which parameters, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.law import Law, References
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.rate_rule import rule_of
from dcpt.laws.points.record import Points, distinct, known

Array = NDArray[np.float64]

COLUMNS = {
    "share": "ratio",
    "annealed": "phase",
    "base_loss": "a D = 0 row for every run (or base_loss_<channel>)",
    "unique_tokens": "unique_tokens_<channel>",
    "lr_area": "learning_rate with batch_tokens and warmup_tokens (or lr_area, or a schedule)",
    "anneal_area": "learning_rate with batch_tokens and warmup_tokens (or a schedule)",
    "drop_sizes": "learning_rate with batch_tokens and warmup_tokens (or a schedule)",
    "base_loss_general": (
        "the general side's loss at D = 0 (a row for every run or base_loss_<general channel>; "
        "with several general channels also weight_<channel>)"
    ),
}
"""How a person provides a field of the points, where the column has another name."""

MOST_NAMED = 3
"""Laws without their columns that a message names one by one."""

AXIS_WORDS = {
    "n_params": "sizes",
    "n_tokens": "token counts",
    "ratio": "ratios",
    "epochs": "numbers of epochs",
}


def data_for(law: Law, data: ChannelData) -> ChannelData:
    """The points that a law is fitted to: its phases, and every field it needs known."""
    annealed = data.points.get("annealed") > 0
    wanted = (annealed & ("annealed" in law.phases)) | (~annealed & ("constant" in law.phases))
    kept = data.take(wanted)
    missing = [n for n in law.needs if getattr(kept.points, n) is None]
    if missing:
        return kept
    kept = kept.take(known(kept.points, law.needs), f"{law.name} needs {', '.join(law.needs)}")
    for valid in law.holds_on:
        values = getattr(kept.points, valid.field)
        if values is not None:
            kept = kept.take(valid.holds(values), f"{law.name} holds on {valid}")
    return kept


def refusal(
    law: Law,
    data: ChannelData,
    ignore: frozenset[str] = frozenset(),
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> str | None:
    """Why a law cannot be fitted to a channel, in one clause; None if it can.

    Args:
        law: The law.
        data: The channel's points as ``data_for`` gives them.
        ignore: Axes not asked for (a fold may lack a phase that the table has).
        fixed: Parameters held at a value.
        bounds: Bounds that replace the law's own.
    """
    if law.side not in ("any", data.side):
        return f"it is for the {law.side} side"
    points = data.points
    missing = _missing_columns(law, points)
    if missing:
        return f"it needs {', '.join(missing)}, which is missing in the table"
    if len(points) == 0:
        return f"the channel has no points in its phases ({', '.join(law.phases)})"
    for name in law.one_value:
        values = distinct(points, name)
        by_rule = name == "learning_rate" and rule_of(points) is not None
        if len(values) > 1 and not by_rule:
            return (
                f"it holds at one {COLUMNS.get(name, name)} and the table has {len(values)} "
                f"({_list_values(name, values)})"
            )
    for axis, fewest in law.axes.items():
        if axis in ignore:
            continue
        values = distinct(points, axis)
        alone = len(values) == 1 and axis == "n_params"
        if len(values) < fewest and not alone:
            word = AXIS_WORDS.get(axis, f"values of {COLUMNS.get(axis, axis)}")
            return (
                f"it needs {fewest} {word} or more along {COLUMNS.get(axis, axis)} and the table "
                f"has {len(values)} ({_list_values(axis, values)})"
            )
    lower, upper = box(law, points, fixed, bounds)
    fitted = int((upper > lower).sum())
    if len(points) <= fitted:
        return f"it has {fitted} parameters and the channel {len(points)} points"
    return None


def _missing_columns(law: Law, points: Points) -> list[str]:
    missing = [COLUMNS.get(name, name) for name in law.needs if getattr(points, name) is None]
    return list(dict.fromkeys(missing))


def say_refusals(
    reasons: Mapping[str, str], laws: Mapping[str, Law], data: ChannelData
) -> list[str]:
    """Refusals in a few clauses: laws that are refused alike are named together.

    Args:
        reasons: Why each law is refused, by name.
        laws: Records of these laws at least.
        data: The channel.

    Returns:
        One clause a reason; of many laws that lack columns one, which names the columns.
    """
    lacking = {name: _missing_columns(laws[name], data.points) for name in reasons}
    without = [name for name, columns in lacking.items() if columns]
    alike: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        if len(without) <= MOST_NAMED or name not in without:
            alike.setdefault(reason, []).append(name)
    clauses = [f"{', '.join(names)}: {reason}" for reason, names in alike.items()]
    if len(without) > MOST_NAMED:
        columns = dict.fromkeys(
            reason.split(" (")[0] for name in without for reason in lacking[name]
        )
        others = f"{len(without)} {'other ' if clauses else ''}laws"
        clauses.append(f"{others} need columns that are missing in the table: {', '.join(columns)}")
    return clauses


def _list_values(name: str, values: Array) -> str:
    if name == "annealed":
        return ", ".join("annealed" if v else "constant" for v in values)
    shown = ", ".join(f"{v:.4g}" for v in values[:6])
    return shown + (", ..." if len(values) > 6 else "")


def carried_laws(
    data: ChannelData,
    laws: Mapping[str, Law],
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, str | None]:
    """Reason why each law does not suit the channel's points; None if it does."""
    return {
        name: refusal(law, data_for(law, data), fixed=fixed, bounds=bounds)
        for name, law in laws.items()
    }


def box(
    law: Law,
    points: Points,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> tuple[Array, Array]:
    """Bounds of a law's parameters on these points, shapes (P,), natural units.

    Parameters whose axis has one value are held at their neutral value, unless the caller bounds
    them; ``fixed`` ones at theirs.

    Raises:
        InputError: If a bound is not a pair low <= high, or a log parameter is not positive.
    """
    fixed, bounds = fixed or {}, bounds or {}
    lower, upper = [], []
    for parameter in law.parameters:
        low, high = bounds.get(parameter.name, (parameter.lower, parameter.upper))
        if parameter.name in fixed:
            low = high = fixed[parameter.name]
        elif (
            parameter.axis is not None
            and parameter.name not in bounds
            and len(distinct(points, parameter.axis)) < 2
        ):
            low = high = parameter.neutral
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError(
                f"bounds of {law.name}.{parameter.name} are ({low:g}, {high:g}): give finite bounds"
            )
        if not low <= high or (parameter.scale == "log" and low <= 0):
            rule = "above 0 and low <= high" if parameter.scale == "log" else "low <= high"
            raise InputError(
                f"bounds of {law.name}.{parameter.name} are ({low:g}, {high:g}): they must "
                f"be {rule}"
            )
        lower.append(low)
        upper.append(high)
    return np.array(lower, dtype=float), np.array(upper, dtype=float)


def references_of(points: Points) -> References:
    """Geometric medians of size, tokens, rate and area; None where the table has none."""

    def middle(values: Array | None) -> float | None:
        if values is None or not (values > 0).any():
            return None
        return float(np.exp(np.median(np.log(values[values > 0]))))

    return References(
        n_params=middle(points.n_params),
        n_tokens=middle(points.get("n_tokens")) or 1.0,
        learning_rate=middle(points.learning_rate),
        lr_area=middle(points.lr_area),
    )


def check_names(fixed: Mapping[str, object], laws: list[Law]) -> None:
    """Refuse a parameter that none of the laws has.

    Raises:
        InputError: Naming the parameter and the parameters there are.
    """
    there = sorted({name for law in laws for name in law.names})
    unknown = [name for name in fixed if name not in there]
    if unknown:
        raise InputError(
            f"parameter {', '.join(unknown)} is in none of the laws fitted "
            f"({', '.join(law.name for law in laws)}); they have {', '.join(there)}"
        )
