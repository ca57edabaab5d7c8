"""Output of the commands on laws: built-in laws, held-out comparisons, predictions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from dcpt.cli.console import make_table, print_line
from dcpt.cli.show_fit import print_flags, show_warnings
from dcpt.flags import Flag, rank_flags
from dcpt.laws.fits.folds import SPLITS
from dcpt.laws.fits.horizon import say_horizon
from dcpt.laws.flags.kinds import distinct_flags
from dcpt.laws.formulas import NOTATION
from dcpt.laws.law import Law
from dcpt.laws.menu import NAMES
from dcpt.laws.suitable import columns_for, values_along

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from dcpt.laws import Fit
    from dcpt.table.schedules import Schedule

SPLIT_HEADS = {
    "largest_n": "size",
    "longest_d": "tokens",
    "ratios": "ratio",
    "outer_ratios": "outer ratio",
    "learning_rate": "rate",
    "outer_rates": "outer rate",
    "mixtures": "mixture",
}
LEGEND = (
    "RMSE on held-out points: the largest size, the last third of the token counts, single ratios "
    "and learning rates inside the grid, the lowest and highest of each, and quarters of the runs "
    "where each has a mixture of its own. * marks the best single law; weights are those of the "
    "stack of all laws. An empty cell means that the law cannot be tested on this split; if other "
    "laws can, its weight is 0."
)


# -------------------------------------------------------------------------------------- laws
def law_record(law: Law) -> dict[str, Any]:
    """The JSON record of a law."""
    return {
        "name": law.name,
        "formula": law.formula,
        "source": law.source,
        "side": law.side,
        "phases": list(law.phases),
        "needs": columns_for(law.needs),
        "needs_values": dict(law.axes),
        "one_value": columns_for(law.one_value),
        "holds_on": [str(limits) for limits in law.holds_on],
        "parameters": [vars(parameter) for parameter in law.parameters],
    }


def _needs(law: Law) -> str:
    """The columns and distinct values that a law needs, as one phrase."""
    values = [f"at least {fewest} {values_along(axis)}" for axis, fewest in law.axes.items()]
    single = [f"a single value of {name}" for name in columns_for(law.one_value)]
    return "; ".join(", ".join(part) for part in (columns_for(law.needs), values, single) if part)


def show_laws(console: Console, laws: Mapping[str, Law]) -> None:
    """Print the formula, scope, needs and source of each law.

    Args:
        console: Where to print.
        laws: Laws by name.
    """
    for law in laws.values():
        print_line(console, f"{law.name}: {_scope(law)}", style="bold")
        print_line(console, f"  {law.formula}")
        print_line(console, f"  needs {_needs(law)}")
        print_line(console, f"  source: {law.source}")
    print_line(
        console, "dcpt laws NAME shows the parameters of a law and the meaning of its symbols."
    )


def _scope(law: Law) -> str:
    """The channels and phases that a law describes, and its number of parameters."""
    side = "any channel" if law.side == "any" else f"{law.side} side"
    return f"{side}; {' and '.join(law.phases)} points; {len(law.parameters)} parameters"


def show_law(console: Console, law: Law) -> None:
    """Print a law with its parameters, needs, valid ranges, source and symbols.

    Args:
        console: Where to print.
        law: The law.
    """
    print_line(console, f"{law.name}: {_scope(law)}", style="bold")
    print_line(console, f"  {law.formula}")
    rows = [
        (p.name, p.role, f"{p.lower:g} to {p.upper:g}", p.scale, p.unit, p.meaning)
        for p in law.parameters
    ]
    columns = ("parameter", "role", "bounds", "fitted as", "unit", "meaning")
    table = make_table("", columns, rows)
    table.columns[-1].justify = "left"
    console.print(table)
    print_line(console, f"needs {_needs(law)}")
    if law.holds_on:
        print_line(console, f"valid for {', '.join(map(str, law.holds_on))}")
    print_line(console, f"source: {law.source}")
    if law.name in NAMES:
        for symbol, meaning in _symbols(law.formula):
            print_line(console, f"  {symbol}: {meaning}")


def _symbols(formula: str) -> list[tuple[str, str]]:
    """The symbols of a built-in formula with their meanings, and the symbols in those meanings."""
    unread = [formula]
    symbols: set[str] = set()
    while unread:
        # "e^" is the exponential function and not a symbol.
        words = re.findall(r"e\^|[A-Za-z]\w*", unread.pop())
        new = set(words) & NOTATION.keys() - symbols
        symbols |= new
        unread += [NOTATION[symbol].partition(";")[0].partition(",")[0] for symbol in new]
    return [(symbol, meaning) for symbol, meaning in NOTATION.items() if symbol in symbols]


def show_suitable(console: Console, carried: Mapping[str, Mapping[str, str | None]]) -> None:
    """Print which laws can be fitted to each channel, and why the others cannot.

    Args:
        console: Where to print.
        carried: By channel and law name, None or the reason why the law cannot be fitted.
    """
    for channel, reasons in carried.items():
        able = [name for name, reason in reasons.items() if reason is None]
        print_line(console, f"{channel}: can fit {', '.join(able) or 'no law'}", style="bold")
        refused = [reason for reason in reasons.values() if reason is not None]
        for reason in dict.fromkeys(refused):
            names = [name for name, other in reasons.items() if other == reason]
            print_line(console, f"  not {', '.join(names)}: {reason}")


# ---------------------------------------------------------------------------------- comparisons
def comparison_records(fitted: Fit) -> list[dict[str, Any]]:
    """The JSON records of the comparison: errors of the laws on held-out points, in nats per token.

    Args:
        fitted: The fit.

    Returns:
        One record per channel and phase.
    """
    return [
        {
            "channel": channel,
            "phase": phase,
            "choice": compared.choice,
            "stack": dict(compared.spread),
            "laws": [
                {
                    "law": name,
                    "n_points": channel_fit.members[name].n_points,
                    "n_fitted": channel_fit.members[name].n_fitted,
                    "weight": weight,
                    "held_out": dict(compared.errors[name]),
                }
                for name, weight in compared.weights.items()
            ],
        }
        for channel, channel_fit in fitted.by_channel.items()
        for phase, compared in channel_fit.comparisons.items()
    ]


def show_comparisons(console: Console, fitted: Fit) -> None:
    """Print a table per channel and phase, the best law first, and then the warnings of the fit.

    Args:
        console: Where to print.
        fitted: The fit.
    """
    for record in comparison_records(fitted):
        title = f"{record['channel']}, {record['phase']} points: held-out error in nats"
        print_line(console, title, style="bold")
        console.print(comparison_table(record))
        console.print()
    print_line(console, LEGEND)
    show_warnings(console, fitted)


def comparison_table(record: Mapping[str, Any]) -> Table:
    """A table of the laws of a channel and phase: errors by split, weights, the best law.

    Args:
        record: A record of :func:`comparison_records`.

    Returns:
        A table with a row per law, the best law first. Errors are in nats per token.
    """
    stack = record["stack"]
    splits = [s for s in SPLITS if any(s in law["held_out"] for law in record["laws"])]

    def rank(law: Mapping[str, Any]) -> tuple[bool, float]:
        errors = [law["held_out"].get(split, np.nan) for split in stack]
        return bool(np.isnan(errors).any()), float(np.sqrt(np.mean(np.square(errors or [0.0]))))

    rows = [
        (
            law["law"] + (" *" if law["law"] == record["choice"] else ""),
            str(law["n_fitted"]),
            *_errors(law["held_out"], splits),
            f"{law['weight']:.2f}",
        )
        for law in sorted(record["laws"], key=rank)
    ]
    if stack:
        rows.append(("all, weighted", "", *_errors(stack, splits), "1.00"))
    heads = ("law", "fitted", *(SPLIT_HEADS[split] for split in splits), "weight")
    return make_table("", heads, rows)


def _errors(by_split: Mapping[str, float], splits: Sequence[str]) -> list[str]:
    return [f"{by_split[split]:.4f}" if split in by_split else "" for split in splits]


# ---------------------------------------------------------------------------------- predictions
def prediction_record(
    frame: pd.DataFrame, horizon: Sequence[str], flags: Sequence[Flag]
) -> dict[str, Any]:
    """The JSON record of predicted losses (nats per token) and the warnings about the request."""
    return {
        "predictions": frame.to_dict(orient="records"),
        "horizon": list(horizon),
        "flags": [flag.as_dict() for flag in flags],
    }


def show_prediction(
    console: Console, frame: pd.DataFrame, horizon: Sequence[str], flags: Sequence[Flag]
) -> None:
    """Print predicted losses in nats per token, and then what limits their trust.

    Args:
        console: Where to print.
        frame: The predictions.
        horizon: What rolling-origin tests say about them.
        flags: The warnings, ranked.
    """
    print_line(console, frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    for line in horizon:
        print_line(console, line)
    print_flags(console, flags)


def horizon_of_question(fitted: Fit, frame: pd.DataFrame) -> list[str]:
    """What rolling-origin tests say about requested points, in sentences, by phase."""
    import pandas as pd

    default = pd.Series(fitted.phase_for_decisions, frame.index)
    words = []
    for phase, points in frame.groupby(frame.get("phase", default)):
        size = points.get("n_params", 1.0)
        asked = float((size * points["n_tokens"]).max()) if "n_tokens" in points else None
        words += say_horizon(fitted.horizons(str(phase)), asked)
    return list(dict.fromkeys(words))


def flags_of_question(
    fitted: Fit, frame: pd.DataFrame, schedules: Mapping[str, Schedule] | None
) -> list[Flag]:
    """Warnings about a prediction request: points outside the runs, laws that are not valid there.

    Args:
        fitted: The fit.
        frame: Table columns of the requested points.
        schedules: Schedules by the names used in the frame.

    Returns:
        The warnings, ranked, without duplicates.
    """
    flags: list[Flag] = []
    for channel in fitted.channels:
        flags += fitted.flags_at(channel, fitted.points(channel, frame, schedules))
    return rank_flags(distinct_flags(flags))
