"""The tables of a fit: its runs, its laws, their parameters, rows left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from dcpt.laws.fits.folds import SPLITS
from dcpt.quantities import format_count
from dcpt.report.cells import channel_name, nats, percent, rate
from dcpt.report.parts import Table
from dcpt.table.channels import without_own_decays

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

_SPLIT_WORDS = {
    "largest_n": "largest size",
    "longest_d": "longest training",
    "ratios": "shares",
    "outer_ratios": "outer shares",
    "learning_rate": "learning rates",
    "outer_rates": "outer rates",
    "mixtures": "mixtures",
}


def laws_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """A row per channel, phase and law: stack weight and held-out errors by split.

    Args:
        records: ``Fit.records()``.
    """
    splits = [split for split in SPLITS if any(split in record["held_out"] for record in records)]
    rows: list[list[str]] = []
    strong: set[int] = set()
    entries = [
        (record, phase, weight) for record in records for phase, weight in record["weight"].items()
    ]
    channels = list(dict.fromkeys(record["channel"] for record in records))
    entries.sort(key=lambda entry: (channels.index(entry[0]["channel"]), entry[1], -entry[2]))
    for record, phase, weight in entries:
        if phase in record["chosen"]:
            strong.add(len(rows))
        rows.append(
            [
                channel_name(record["channel"]),
                phase,
                record["law"],
                f"{weight:.2f}",
                str(record["n_points"]),
                *(nats(record["held_out"][s]) if s in record["held_out"] else "" for s in splits),
                _counted(flag["kind"] for flag in record["flags"]),
            ]
        )
    head = ["channel", "phase", "law", "weight", "points"]
    head += [_SPLIT_WORDS.get(split, split) for split in splits]
    return Table([*head, "flags"], rows, words=3, strong=frozenset(strong))


def _counted(kinds: Iterable[str]) -> str:
    """Kinds of flags, each with its count: ``at bound (3), ill conditioned``."""
    return ", ".join(
        kind.replace("_", " ") + (f" ({count})" if count > 1 else "")
        for kind, count in Counter(kinds).items()
    )


def parameters_table(record: Mapping[str, Any]) -> Table:
    """The fitted parameters of one law, with what they mean and their flags.

    Args:
        record: An entry of ``Fit.records()``.
    """
    rows = []
    for name, value in record["parameters"].items():
        flags = [
            flag["kind"] for flag in record["flags"] if name in flag["values"].get("parameters", ())
        ]
        meaning, unit = record["meanings"][name], record["units"][name]
        rows.append([name, meaning, f"{value:.4g}", unit, ", ".join(flags)])
    for name, value in record["references"].items():
        shown = "none in the runs" if value is None else f"{value:.4g}"
        rows.append([name, "scale that it is divided by", shown, "", ""])
    return Table(["parameter", "meaning", "value", "unit", "flags"], rows, words=2)


def left_out_table(fit: Fit) -> Table:
    """How many rows of each channel were not fitted, by reason."""
    places: dict[tuple[str, str], list[int]] = {}
    for row, channel, reason in fit.left_out().itertuples(index=False):
        places.setdefault((channel, reason), []).append(row)
    rows = []
    for (channel, reason), lines in places.items():
        where = str(lines[0]) if len(lines) == 1 else f"{min(lines)} to {max(lines)}"
        rows.append([channel_name(channel), reason, str(len(lines)), where])
    return Table(["channel", "reason", "rows", "in the file"], rows, words=2)


def bytes_per_token(runs: pd.DataFrame) -> dict[str, float]:
    """Bytes per token of each channel, from ``bytes_per_token_<channel>`` where known."""
    prefix = "bytes_per_token_"
    sizes: dict[str, float] = {}
    for column in runs.columns:
        if str(column).startswith(prefix):
            values = runs[column].dropna()
            if len(values):
                sizes[str(column)[len(prefix) :]] = float(values.iloc[0])
    return sizes


def sizes_table(runs: pd.DataFrame) -> Table:
    """The runs by size: their number, points, rates, shares and tokens."""
    if "n_params" in runs:
        groups = [(format_count(float(str(n))), part) for n, part in runs.groupby("n_params")]
    else:
        groups = [("not recorded", runs)]
    rows = []
    for size, part in groups:
        tokens = part["n_tokens"]
        rows.append(
            [
                size,
                str(part["run"].nunique()),
                str(len(part)),
                _listed(part, "learning_rate", rate),
                _listed(part, "ratio", percent),
                format_count(float(tokens.max())),
            ]
        )
    head = ["size", "runs", "points", "learning rates", "domain shares", "tokens"]
    return Table(head, rows)


def _listed(part: pd.DataFrame, column: str, say: object) -> str:
    """The distinct values of a column; ``not recorded`` without the column."""
    if column not in part:
        return "not recorded"
    assert callable(say)
    return ", ".join(str(say(value)) for value in sorted(part[column].dropna().unique()))


def runs_table(runs: pd.DataFrame) -> Table:
    """Every run with its losses before training, at its last constant point and after its decay."""
    runs = without_own_decays(runs)
    names = [str(c)[5:] for c in runs.columns if str(c).startswith("loss_")]
    phases = [
        name
        for name in ("base", "constant", "annealed")
        if "phase" not in runs or (runs["phase"] == name).any()
    ]
    if "phase" not in runs:
        phases = ["last"]
    head = ["run", "size", "domain share", "learning rate", "tokens"]
    head += [f"{channel_name(name)}, {phase}" for name in names for phase in phases]
    rows = []
    keys = [key for key in ("n_params", "learning_rate", "ratio") if key in runs]
    ordered = runs.sort_values([*keys, "run", "n_tokens"], kind="stable")
    for label, part in ordered.groupby("run", sort=False):
        first = part.iloc[0]
        row = [
            str(label),
            format_count(float(first["n_params"])) if "n_params" in part else "",
            percent(float(first["ratio"])) if "ratio" in part else "",
            rate(float(first["learning_rate"])) if "learning_rate" in part else "",
            format_count(float(part["n_tokens"].max())),
        ]
        for name in names:
            for phase in phases:
                here = part if phase == "last" else part[part["phase"] == phase]
                values = here[f"loss_{name}"].dropna()
                row.append(nats(float(values.iloc[-1])) if len(values) else "")
        rows.append(row)
    return Table(head, rows)
