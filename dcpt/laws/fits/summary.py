"""A fit on one screen: a line per (channel, law), and the warnings."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dcpt.flags import Flag, rank_flags, show_flags
from dcpt.laws.fits.folds import SPLITS

CAPTION = (
    "Split columns: the error on held-out points in nats (RMSE in `phase`). Columns constant and "
    "annealed: the weight in that phase."
)


@dataclass(frozen=True, repr=False, eq=False)
class Summary:
    """A fit as people read it: text when printed, a table in a notebook.

    Args:
        table: Per (channel, law) the points, the parameters fitted, the objective, the held-out
            errors by split in nats (RMSE in the phase ``held_out_phase``, NaN where the law cannot
            be tested on a split), and its weight in each phase (NaN in a phase that it does not
            describe).
        flags: Warnings, the most important first.
    """

    table: pd.DataFrame
    flags: tuple[Flag, ...]

    def __str__(self) -> str:
        return "\n".join([CAPTION, self._shown.to_string(index=False), *show_flags(self.flags)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in show_flags(self.flags))
        return f"<p>{CAPTION}</p>{self._shown.to_html(index=False)}<ul>{items}</ul>"

    @property
    def _shown(self) -> pd.DataFrame:
        """The table with its numbers as text, under shorter names."""
        shown = {
            name.removeprefix("held_out_").removeprefix("weight_"): _as_text(name, self.table[name])
            for name in map(str, self.table.columns)
        }
        return pd.DataFrame(shown)


def summarise(records: Sequence[Mapping[str, Any]], flags: Sequence[Flag]) -> Summary:
    """Summarise a fit.

    Args:
        records: ``Fit.records()``.
        flags: ``Fit.flags``.
    """
    splits = [split for split in SPLITS if any(split in fit["held_out"] for fit in records)]
    phases = [p for p in ("constant", "annealed") if any(p in fit["weight"] for fit in records)]
    lines = [
        {
            **{name: fit[name] for name in ("channel", "law", "n_points", "n_fitted", "objective")},
            "held_out_phase": fit["held_out_phase"],
            **{f"held_out_{split}": fit["held_out"].get(split) for split in splits},
            **{f"weight_{phase}": fit["weight"].get(phase) for phase in phases},
        }
        for fit in records
    ]
    return Summary(pd.DataFrame(lines), tuple(rank_flags(flags)))


def _as_text(name: str, values: pd.Series[Any]) -> list[Any]:
    """A column as people read it; empty where there is no number."""
    if values.dtype != float:
        return list(values)
    form = ".4g" if name == "objective" else ".2f" if name.startswith("weight_") else ".4f"
    return ["" if pd.isna(value) else format(value, form) for value in values]
