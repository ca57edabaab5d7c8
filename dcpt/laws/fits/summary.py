"""A fit on one screen: a line per (channel, law), and the flags in words."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dcpt.laws.fits.folds import SPLITS
from dcpt.laws.flags.explain import explain_flag, together

CAPTION = (
    "Under each split the error in nats (RMSE in `phase`) on points that the fit never saw; under "
    "constant and annealed the weight in that phase."
)


@dataclass(frozen=True, repr=False, eq=False)
class Summary:
    """A fit as people read it: printed it is text, in a notebook a table.

    Args:
        table: Per (channel, law) the points, the parameters fitted, the objective, the held-out
            errors by split in nats (RMSE in the phase ``held_out_phase``, NaN where the law cannot
            be tested on a split), and its weight in each phase (NaN in a phase that it does not
            describe).
        flags: Warnings in words.
    """

    table: pd.DataFrame
    flags: tuple[str, ...]

    def __str__(self) -> str:
        words = [f"Warning: {flag}." for flag in self.flags]
        return "\n".join([CAPTION, self._shown.to_string(index=False), *words])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(flag)}</li>" for flag in self.flags)
        return f"<p>{CAPTION}</p>{self._shown.to_html(index=False)}<ul>{items}</ul>"

    @property
    def _shown(self) -> pd.DataFrame:
        """The table with its numbers as text, under shorter names."""
        shown = {
            name.removeprefix("held_out_").removeprefix("weight_"): _as_text(name, self.table[name])
            for name in map(str, self.table.columns)
        }
        return pd.DataFrame(shown)


def summarise(records: Sequence[Mapping[str, Any]], flags: Sequence[str]) -> Summary:
    """The summary of a fit.

    Args:
        records: ``Fit.records()``.
        flags: ``Fit.flags``.
    """
    splits = [split for split in SPLITS if any(split in one["held_out"] for one in records)]
    phases = [p for p in ("constant", "annealed") if any(p in one["weight"] for one in records)]
    lines = [
        {
            **{name: one[name] for name in ("channel", "law", "n_points", "n_fitted", "objective")},
            "held_out_phase": one["held_out_phase"],
            **{f"held_out_{split}": one["held_out"].get(split) for split in splits},
            **{f"weight_{phase}": one["weight"].get(phase) for phase in phases},
        }
        for one in records
    ]
    return Summary(pd.DataFrame(lines), tuple(explain_flag(flag) for flag in together(flags)))


def _as_text(name: str, values: pd.Series[Any]) -> list[Any]:
    """A column as people read it; empty where there is no number."""
    if values.dtype != float:
        return list(values)
    form = ".4g" if name == "objective" else ".2f" if name.startswith("weight_") else ".4f"
    return ["" if pd.isna(one) else format(one, form) for one in values]
