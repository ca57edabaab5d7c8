"""What the commands on laws show: the menu, one law, held-out comparisons, predictions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from dcpt.cli.console import make_table, print_line
from dcpt.cli.show_fit import print_flags, show_warnings
from dcpt.flags import Flag, rank_flags
from dcpt.laws import LAWS
from dcpt.laws.fits.folds import SPLITS
from dcpt.laws.flags.kinds import distinct_flags
from dcpt.laws.formulas import NOTATION
from dcpt.laws.law import Law
from dcpt.laws.suitable import AXIS_WORDS, COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from dcpt.laws import Fit
    from dcpt.table.schedules import Schedule

SPLIT_HEADS = {
    "largest_n": "size",
    "longest_d": "tokens",
    "ratios": "ratio",
    "learning_rate": "rate",
}
LEGEND = (
    "RMSE on points that the fit never saw: of the largest size, the last third of the token "
    "counts, single ratios and learning rates inside the grid; * is the best alone, weights are of "
    "all together. An empty cell: the law cannot be tested on this split "
    "(it then has no weight if others can)."
)


# ------------------------------------------------------------------------------------ the menu
def law_record(law: Law) -> dict[str, Any]:
    """A law for programs."""
    return {
        "name": law.name,
        "formula": law.formula,
        "source": law.source,
        "side": law.side,
        "phases": list(law.phases),
        "needs": _columns(law.needs),
        "needs_values": dict(law.axes),
        "one_value": _columns(law.one_value),
        "holds_on": [str(valid) for valid in law.holds_on],
        "parameters": [vars(parameter) for parameter in law.parameters],
    }


def _columns(fields: Sequence[str]) -> list[str]:
    """Columns of the runs table that give fields of the points, in a person's words."""
    return list(dict.fromkeys(COLUMNS.get(name, name) for name in fields))


def _column(axis: str) -> str:
    """An axis by its column's name, or its own where only a sentence says how it is given."""
    column = COLUMNS.get(axis, axis)
    return axis if " " in column else column


def _needs(law: Law) -> str:
    """What a table must have for a law, in one sentence."""
    values = [
        f"{fewest} {AXIS_WORDS.get(axis) or f'values of {_column(axis)}'} or more"
        for axis, fewest in law.axes.items()
    ]
    same = [f"one value of {name}" for name in _columns(law.one_value)]
    return "; ".join(", ".join(part) for part in (_columns(law.needs), values, same) if part)


def show_laws(console: Console, laws: Mapping[str, Law]) -> None:
    """What every law says, is for and needs."""
    for law in laws.values():
        print_line(console, f"{law.name}: {_what_for(law)}", style="bold")
        print_line(console, f"  {law.formula}")
        print_line(console, f"  needs {_needs(law)}")
        print_line(console, f"  source: {law.source}")
    print_line(console, "dcpt laws NAME shows a law's parameters and what its letters stand for.")


def _what_for(law: Law) -> str:
    side = "any channel" if law.side == "any" else f"{law.side} side"
    return f"{side}; {' and '.join(law.phases)} points; {len(law.parameters)} parameters"


def show_law(console: Console, law: Law) -> None:
    """Print a law: its parameters, the columns it needs, its range and its notation."""
    print_line(console, f"{law.name}: {_what_for(law)}", style="bold")
    print_line(console, f"  {law.formula}")
    rows = [
        (
            parameter.name,
            parameter.role,
            f"{parameter.lower:g} to {parameter.upper:g}",
            parameter.scale,
            parameter.unit,
            parameter.meaning,
        )
        for parameter in law.parameters
    ]
    columns = ("parameter", "role", "bounds", "fitted as", "unit", "meaning")
    table = make_table("", columns, rows)
    table.columns[-1].justify = "left"
    console.print(table)
    print_line(console, f"needs {_needs(law)}")
    if law.holds_on:
        print_line(console, f"holds on {', '.join(map(str, law.holds_on))}")
    print_line(console, f"source: {law.source}")
    if law.name in LAWS:
        for letter, words in _notation(law.formula):
            print_line(console, f"  {letter}: {words}")


def _notation(formula: str) -> list[tuple[str, str]]:
    """What the letters of a formula of the menu stand for, and the letters of their words."""
    left: list[str] = [formula]
    found: set[str] = set()
    while left:
        # e^ is the exponential, any other e the epochs.
        words = re.findall(r"e\^|[A-Za-z]\w*", left.pop())
        letters = set(words) & NOTATION.keys() - found
        found |= letters
        left += [NOTATION[letter].partition(";")[0].partition(",")[0] for letter in letters]
    return [(letter, words) for letter, words in NOTATION.items() if letter in found]


def show_suitable(console: Console, by_channel: Mapping[str, Mapping[str, str | None]]) -> None:
    """Print which laws suit each channel of a table, and why the others do not."""
    for channel, reasons in by_channel.items():
        able = [name for name, reason in reasons.items() if reason is None]
        print_line(console, f"{channel}: {', '.join(able) or 'no law'}", style="bold")
        refused = [reason for reason in reasons.values() if reason is not None]
        for reason in dict.fromkeys(refused):
            alike = [name for name, other in reasons.items() if other == reason]
            print_line(console, f"  not {', '.join(alike)}: {reason}")


# ---------------------------------------------------------------------------------- comparisons
def comparison_records(fitted: Fit) -> list[dict[str, Any]]:
    """Per channel and phase the laws' errors on what they never saw, for programs."""
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
    """A table per channel and phase, the best law first, then the warnings of the runs' design."""
    for record in comparison_records(fitted):
        title = f"{record['channel']}, {record['phase']} points: held-out error in nats"
        print_line(console, title, style="bold")
        console.print(comparison_table(record))
        console.print()
    print_line(console, LEGEND)
    show_warnings(console, fitted)


def comparison_table(record: Mapping[str, Any]) -> Table:
    """One channel's laws in one phase: errors in nats by split, weights, the choice.

    Args:
        record: One of :func:`comparison_records`.
    """
    stack = record["stack"]
    splits = [s for s in SPLITS if any(s in entry["held_out"] for entry in record["laws"])]

    def rank(entry: Mapping[str, Any]) -> tuple[bool, float]:
        errors = [entry["held_out"].get(split, np.nan) for split in stack]
        return bool(np.isnan(errors).any()), float(np.sqrt(np.mean(np.square(errors or [0.0]))))

    rows = [
        (
            entry["law"] + (" *" if entry["law"] == record["choice"] else ""),
            str(entry["n_fitted"]),
            *_errors(entry["held_out"], splits),
            f"{entry['weight']:.2f}",
        )
        for entry in sorted(record["laws"], key=rank)
    ]
    if stack:
        rows.append(("all, weighted", "", *_errors(stack, splits), "1.00"))
    heads = ("law", "fitted", *(SPLIT_HEADS[split] for split in splits), "weight")
    return make_table("", heads, rows)


def _errors(by_split: Mapping[str, float], splits: Sequence[str]) -> list[str]:
    return [f"{by_split[split]:.4f}" if split in by_split else "" for split in splits]


# ---------------------------------------------------------------------------------- predictions
def prediction_record(frame: pd.DataFrame, flags: Sequence[Flag]) -> dict[str, Any]:
    """Predicted losses and the warnings about the question, for programs."""
    return {
        "predictions": frame.to_dict(orient="records"),
        "flags": [flag.as_dict() for flag in flags],
    }


def show_prediction(console: Console, frame: pd.DataFrame, flags: Sequence[Flag]) -> None:
    """Predicted losses, then the warnings about the question."""
    print_line(console, frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print_flags(console, flags)


def flags_of_question(
    fitted: Fit, frame: pd.DataFrame, schedules: Mapping[str, Schedule] | None
) -> list[Flag]:
    """Warnings about a question: axes outside the runs, laws that do not hold there."""
    flags: list[Flag] = []
    for channel in fitted.channels:
        flags += fitted.flags_at(channel, fitted.points(channel, frame, schedules))
    return rank_flags(distinct_flags(flags))
