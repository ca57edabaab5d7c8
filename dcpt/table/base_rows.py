"""Losses and pre-training of the base, read from a runs table.

They stand in the rows at n_tokens = 0, or in the columns ``base_loss_<channel>`` of the other rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from dcpt.table.channels import GENERAL_TOTAL, channels, general_weights

SAME_SIZE = 0.01
"""Sizes within this relative difference are equal: people write 6.6M for 6,622,464 parameters."""

SAME_LOSS = 0.01
"""Nats; where bases of a size differ by more, the loss of the base is unknown."""


@dataclass(frozen=True)
class TableBase:
    """Losses and pre-training of the bases of one size.

    Args:
        n_params: Parameters.
        losses: Loss of each channel at n_tokens = 0, nats per token; a channel whose losses are
            unknown or differ between bases of this size is left out.
        base_peak_learning_rate: Peak learning rate of the pre-training; None if it is unknown
            or differs between rows.
        base_n_tokens: Tokens of the pre-training; None in the same cases.
    """

    n_params: float
    losses: dict[str, float] = field(default_factory=dict)
    base_peak_learning_rate: float | None = None
    base_n_tokens: float | None = None


def base_of_size(runs: pd.DataFrame, n_params: float) -> TableBase | None:
    """Find the base of a size in a runs table.

    Args:
        runs: A checked runs table.
        n_params: Parameters of the base.

    Returns:
        The base; None if the table has no rows near this size, or several sizes there.
    """
    if "n_params" not in runs:
        return None
    rows = runs[(runs["n_params"] / n_params - 1).abs() <= SAME_SIZE]
    sizes = rows["n_params"].unique()
    if len(sizes) != 1:
        return None
    # A total follows from its channels wherever they all have weights.
    total_follows = bool(general_weights(runs))
    names = [name for name in channels(runs) if not (name == GENERAL_TOTAL and total_follows)]
    losses = {name: _base_losses(rows, name) for name in names}
    return TableBase(
        n_params=float(sizes[0]),
        losses={
            name: float(cells.mean())
            for name, cells in losses.items()
            if len(cells) and cells.max() - cells.min() <= SAME_LOSS
        },
        base_peak_learning_rate=_only_value(rows, "base_peak_learning_rate"),
        base_n_tokens=_only_value(rows, "base_n_tokens"),
    )


def bases_by_size(runs: pd.DataFrame) -> list[TableBase]:
    """The bases of all sizes in a runs table that have losses of their base, ascending."""
    if "n_params" not in runs:
        return []
    sizes = sorted(runs["n_params"].dropna().unique())
    found = [base_of_size(runs, float(size)) for size in sizes]
    return [base for base in found if base is not None and base.losses]


def _base_losses(rows: pd.DataFrame, channel: str) -> pd.Series[float]:
    """The losses of a channel at n_tokens = 0; without such rows those that others name."""
    measured = rows.loc[rows["n_tokens"] == 0, f"loss_{channel}"].dropna()
    named = f"base_loss_{channel}"
    return measured if len(measured) or named not in rows else rows[named].dropna()


def _only_value(rows: pd.DataFrame, column: str) -> float | None:
    if column not in rows:
        return None
    values = rows[column].dropna().unique()
    return float(values[0]) if len(values) == 1 else None
