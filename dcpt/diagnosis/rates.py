"""Diagnosis of learning rates: runs of the same share compared across rates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dcpt.diagnosis.curves import standard_error
from dcpt.diagnosis.records import Finding
from dcpt.laws.flags.noise import EVALUATION_NOISE
from dcpt.laws.points.record import side_of
from dcpt.quantities import format_rate
from dcpt.table import GENERAL_TOTAL, channels
from dcpt.table.channels import without_own_decays

ALIKE = (
    "n_params",
    "base",
    "ratio",
    "warmup_tokens",
    "batch_tokens",
    "n_tokens",
    "branch_n_tokens",
)
"""Columns in which compared runs must agree, together with all ``unique_tokens_`` columns."""


def about_rates(runs: pd.DataFrame) -> Iterator[Finding]:
    """Report runs that end worse in every channel than runs at a lower rate, all else equal.

    A higher rate forgets more and learns more. Where it does not learn more, it has no benefit.
    Only ends of decays are compared: at constant rate a high rate looks worse than it is. Shares of
    0 and 1 are left out, since they train a single side.

    Args:
        runs: The runs table.
    """
    needed = {"run", "ratio", "learning_rate", "phase"}
    names = [name for name in channels(runs) if name != GENERAL_TOTAL]
    if not needed <= set(runs.columns) or len({side_of(name) for name in names}) < 2:
        return
    losses = [f"loss_{name}" for name in names]
    ends = without_own_decays(runs[runs["phase"] == "annealed"]).dropna(subset=losses)
    ends = ends[(ends["ratio"] > 0) & (ends["ratio"] < 1)]
    errors = [2 * standard_error(ends, name) for name in names]
    noise = np.fmax(EVALUATION_NOISE, errors)
    alike = [name for name in runs.columns if name in ALIKE or name.startswith("unique_tokens_")]
    for _, some in ends.groupby(alike, dropna=False):
        by_rate = some.groupby("learning_rate")[losses].mean()
        for rate in by_rate.index[1:].astype(float):
            worse = -by_rate[by_rate.index < rate].sub(by_rate.loc[rate])
            worse = worse[(worse > noise).all(axis=1)]
            if worse.empty:
                continue
            gaps = worse.iloc[int(worse.sum(axis=1).argmax())]
            lower = float(str(gaps.name))
            differences = ", ".join(f"{name} {gaps[f'loss_{name}']:+.3f}" for name in names)
            words = (
                f"At {format_rate(rate)} every channel ends its decay with a higher loss than at "
                f"{format_rate(lower)}, all else equal ({differences}). This rate has no "
                "benefit at this size and share."
            )
            values = {"lower_rate": lower, **{str(k): float(v) for k, v in gaps.items()}}
            for run in some.loc[some["learning_rate"] == rate, "run"].unique():
                subject = {"run": str(run)}
                yield Finding("rate_buys_nothing", words, subject, values, verdict="look")
