"""What a runs table holds: its channels, their weighted total, and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dcpt.errors import InputError
from dcpt.table.columns import SIZE_COLUMNS, channels_of, known_column

DOMAIN = "domain"
"""The channel that is the domain; every other one is on the general side."""

GENERAL_TOTAL = "general_total"
"""The channel of the weighted mean over several general channels."""

OWN_MIXTURE = "decay with a mixture of its own"
"""Begins the reason why the row of such a decay is in no fit; the mixture's name follows."""


def channels(frame: pd.DataFrame) -> list[str]:
    """The channels with losses in the table, in the order of their columns.

    Args:
        frame: A runs table.

    Returns:
        Names such as ``general``, ``domain``; ``general_total`` where ``loss_general_total`` is
        there.
    """
    return channels_of([str(name) for name in frame.columns])


def general_channels(frame: pd.DataFrame) -> list[str]:
    """The single channels of the general side, without total and validation channels."""
    apart = {DOMAIN, GENERAL_TOTAL, *validation_channels(frame)}
    return [name for name in channels(frame) if name not in apart]


def validation_channels(frame: pd.DataFrame) -> list[str]:
    """Channels that were measured and never trained on: all their weights are 0."""
    names = [name for name in channels(frame) if name not in (DOMAIN, GENERAL_TOTAL)]
    weights = {
        name: frame[f"weight_{name}"].dropna() for name in names if f"weight_{name}" in frame
    }
    found = [name for name, cells in weights.items() if len(cells) and (cells == 0).all()]
    return found if len(found) < len(names) else []  # weights that are all 0 are an error


def general_weights(frame: pd.DataFrame, place: str = "runs") -> dict[str, float]:
    """What each of several general channels counts in their total; empty where nothing says it.

    Raises:
        InputError: If only some of the channels have a weight, or all weights are 0.
    """
    general = general_channels(frame)
    weights = {name: frame.get(f"weight_{name}") for name in general}
    known = {name: cells.dropna() for name, cells in weights.items() if cells is not None}
    known = {name: cells for name, cells in known.items() if len(cells)}
    if len(general) < 2 or not known:
        return {}
    lacking = [f"weight_{name}" for name in general if name not in known]
    if lacking:
        raise InputError(
            f"{place}: {', '.join(lacking)} lacking; either every general channel "
            f"({', '.join(general)}) has a weight, or none has: add it, or name the domain's "
            "losses loss_domain"
        )
    found = {name: float(known[name].iloc[0]) for name in general}
    if sum(found.values()) <= 0:
        raise InputError(f"{place}: the weights of {', '.join(general)} are all 0; raise one")
    return found


def weighted_total(losses: Mapping[str, Any], weights: Mapping[str, float]) -> Any:
    """The mean of several channels' losses (numbers, arrays or columns), weighted, by name."""
    whole = sum(weights.values())
    return sum(weight / whole * losses[name] for name, weight in weights.items())


def add_general_totals(frame: pd.DataFrame, place: str) -> pd.DataFrame:
    """Add the weighted mean of several general channels, nats per token.

    The weights are divided by their sum. Nothing is added for a single general channel, or where
    no channel has a weight.

    Args:
        frame: A checked runs table (M rows).
        place: Where the table is from, for messages.

    Returns:
        The table with ``loss_general_total`` and, where every channel has ``base_loss_<channel>``,
        ``base_loss_general_total``.

    Raises:
        InputError: As :func:`general_weights`, or if the table's own ``loss_general_total`` is
            another number.
    """
    weights = general_weights(frame, place)
    if not weights:
        return frame
    for prefix in ("loss_", "base_loss_"):
        if not all(prefix + name in frame for name in weights):
            continue
        losses = {name: frame[prefix + name].to_numpy(np.float64) for name in weights}
        total = weighted_total(losses, weights)
        found = frame.get(prefix + GENERAL_TOTAL)
        if found is not None:
            _refuse_other_total(found.to_numpy(np.float64), total, prefix + GENERAL_TOTAL, place)
        else:
            frame = frame.assign(**{prefix + GENERAL_TOTAL: total})
    return frame


def add_ratio(frame: pd.DataFrame) -> pd.DataFrame:
    """Take the share of domain text from ``share_domain`` where the table has no ``ratio``.

    Args:
        frame: A checked runs table.

    Returns:
        The table, with ``ratio`` if every trained point has a ``share_domain`` and every run has
        one value of it.
    """
    share = frame.get(f"share_{DOMAIN}")
    if share is None or "ratio" in frame:
        return frame
    trained = frame["n_tokens"] > 0
    if "excluded" in frame:
        trained &= frame["excluded"].isna()
    shares = share[trained]
    if shares.isna().any() or (shares.groupby(frame["run"]).nunique() > 1).any():
        return frame
    return frame.assign(ratio=share)


def _refuse_other_total(found: Any, total: Any, name: str, place: str) -> None:
    known = ~np.isnan(found) & ~np.isnan(total)
    off = np.abs(found - total)[known]
    if len(off) and off.max() > 1e-4:
        raise InputError(
            f"{place}: {name} differs from the weighted mean of the general channels by up to "
            f"{off.max():.3g} nats; remove the column (it is computed), or correct the weights"
        )


def choose_sizes(frame: pd.DataFrame, column: str | None = None) -> tuple[pd.DataFrame, str | None]:
    """Choose the column that is N in the laws.

    Args:
        frame: A checked runs table.
        column: One of ``SIZE_COLUMNS``; None takes the first that the table has.

    Returns:
        The table with that column as ``n_params``, and its name; None if the table names no sizes.

    Raises:
        InputError: If the table does not have the column.
    """
    there = [name for name in SIZE_COLUMNS if name in frame and frame[name].notna().any()]
    if column is not None and column not in there:
        raise InputError(
            f"size column {column!r} is not in the table; it has {', '.join(there) or 'none'}"
        )
    chosen = column or next(iter(there), None)
    if chosen not in (None, "n_params"):
        frame = frame.assign(n_params=frame[chosen])
    return frame, chosen


def without_own_decays(frame: pd.DataFrame) -> pd.DataFrame:
    """All rows except those of decays with mixtures of their own.

    They end at the same tokens as the ordinary decay of their trunk, which is meant where somebody
    asks for the end of a run.

    Args:
        frame: A checked runs table.
    """
    if "excluded" not in frame:
        return frame
    return frame[~frame["excluded"].fillna("").astype(str).str.startswith(OWN_MIXTURE)]


def describe(frame: pd.DataFrame) -> dict[str, Any]:
    """Summarise a runs table for people and for JSON.

    Args:
        frame: A checked runs table.

    Returns:
        ``runs``, ``points`` and ``excluded`` (numbers of them), ``excluded_for`` (how many rows
        for each reason), ``n_tokens`` (the largest D),
        ``sizes`` (n_params), ``ratios``, ``learning_rates``, ``phases`` (what occurs; None where
        the table does not say), ``channels``, and ``other_columns``, which are not read.
    """

    def values(name: str) -> list[Any] | None:
        return sorted(frame[name].dropna().unique().tolist()) if name in frame else None

    names = channels(frame)
    reasons = list(frame["excluded"].dropna()) if "excluded" in frame else []
    return {
        "runs": int(frame["run"].nunique()),
        "points": len(frame),
        "excluded": len(reasons),
        "excluded_for": dict(Counter(reasons)),
        "n_tokens": int(frame["n_tokens"].max()),
        "sizes": values("n_params"),
        "ratios": values("ratio"),
        "learning_rates": values("learning_rate"),
        "phases": values("phase"),
        "channels": names,
        "other_columns": [
            name for name in map(str, frame.columns) if known_column(name, names) is None
        ],
    }
