"""The tables of a fit: its laws, their parameters, the rows they did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dcpt.laws.compare import SPLITS
from dcpt.report.tables import Table
from dcpt.report.words import channel_name, nats

if TYPE_CHECKING:
    from dcpt.laws.fitted import Fit

_SPLIT_WORDS = {
    "largest_n": "largest size",
    "longest_d": "longest training",
    "ratios": "shares",
    "learning_rate": "learning rates",
}


def laws_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """One row per channel, phase and law: stack weight and held-out errors by split.

    Args:
        records: ``Fit.records()``.
    """
    splits = [split for split in SPLITS if any(split in one["held_out"] for one in records)]
    rows: list[list[str]] = []
    strong: set[int] = set()
    entries = [(one, phase, weight) for one in records for phase, weight in one["weight"].items()]
    channels = list(dict.fromkeys(one["channel"] for one in records))
    entries.sort(key=lambda entry: (channels.index(entry[0]["channel"]), entry[1], -entry[2]))
    for one, phase, weight in entries:
        if phase in one["chosen"]:
            strong.add(len(rows))
        rows.append(
            [
                channel_name(one["channel"]),
                phase,
                one["law"],
                f"{weight:.2f}",
                str(one["n_points"]),
                *(nats(one["held_out"][s]) if s in one["held_out"] else "" for s in splits),
                ", ".join(one["flags"]),
            ]
        )
    head = ["channel", "phase", "law", "weight", "points"]
    head += [_SPLIT_WORDS.get(split, split) for split in splits]
    return Table([*head, "flags"], rows, words=3, strong=frozenset(strong))


def parameters_table(record: Mapping[str, Any]) -> Table:
    """The fitted parameters of one law, with what they mean and their flags.

    Args:
        record: One of ``Fit.records()``.
    """
    rows = []
    for name, value in record["parameters"].items():
        flags = [flag.split(":")[0] for flag in record["flags"] if flag.endswith(f":{name}")]
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
    for (channel, reason), found in places.items():
        where = str(found[0]) if len(found) == 1 else f"{min(found)} to {max(found)}"
        rows.append([channel_name(channel), reason, str(len(found)), where])
    return Table(["channel", "reason", "rows", "in the file"], rows, words=2)
