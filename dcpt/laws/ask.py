"""From a question (a frame, or numbers by keyword) to the points of one channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.points import Points, base_losses

Array = NDArray[np.float64]

FIELDS = (
    *("n_params", "n_tokens", "ratio", "learning_rate", "base_peak_learning_rate"),
    *("base_n_tokens", "warmup_tokens"),
)


def frame_from_keywords(keywords: Mapping[str, Any]) -> pd.DataFrame:
    """Table columns from keywords; numbers are repeated to the longest one.

    Raises:
        InputError: If a keyword is not a column of a question, or lengths differ.
    """
    allowed = (*FIELDS, "phase", "base_loss", "base_loss_<channel>")
    wrong = [name for name in keywords if name not in allowed and not name.startswith("base_loss_")]
    if wrong:
        raise InputError(f"predict does not know {', '.join(wrong)}; it takes {', '.join(allowed)}")
    given = {name: value for name, value in keywords.items() if value is not None}
    size = max((np.size(v) for v in given.values()), default=0)
    if any(np.size(v) not in (1, size) for v in given.values()):
        sizes = ", ".join(f"{n} has {np.size(v)}" for n, v in given.items())
        raise InputError(f"predict needs one length for all its columns, and {sizes}")
    return pd.DataFrame({n: np.broadcast_to(np.ravel(v), size) for n, v in given.items()})


def ask_points(
    frame: pd.DataFrame, channel: str, side: str, general: str | None, warmup_tokens: float | None
) -> Points:
    """The points of a frame as one channel sees them.

    Args:
        frame: Table columns. Base losses come from D = 0 rows of the same run, from
            ``base_loss_<channel>``, or, where only one number is meant, ``base_loss``.
        channel: The channel asked for.
        side: Its side.
        general: The channel whose base loss stands for the general side.
        warmup_tokens: Used where the frame has no such column.
    """

    def column(name: str) -> Array | None:
        if name not in frame.columns:
            return None
        return np.asarray(pd.to_numeric(frame[name]), dtype=np.float64)

    def base_loss(name: str | None) -> Array | None:
        if name is None:
            return None
        if {"run", "n_tokens", f"loss_{name}"} <= set(frame.columns):
            found = base_losses(frame, name)
            return found if np.isfinite(found).any() else None
        return column(f"base_loss_{name}")

    ratio = column("ratio")
    warmup = column("warmup_tokens")
    if warmup is None and warmup_tokens is not None:
        warmup = np.full(len(frame), warmup_tokens)
    phase = frame["phase"] if "phase" in frame.columns else pd.Series("constant", frame.index)
    own = base_loss(channel)
    lg0 = base_loss(general)
    if "base_loss" in frame.columns:
        own = column("base_loss") if own is None else own
        lg0 = column("base_loss") if lg0 is None and side == "general" else lg0
    return Points(
        n_params=column("n_params"),
        n_tokens=column("n_tokens"),
        share=None if ratio is None else ratio if side == "domain" else 1.0 - ratio,
        ratio=ratio,
        learning_rate=column("learning_rate"),
        annealed=np.asarray(phase == "annealed", dtype=np.float64),
        base_loss=own,
        base_loss_general=lg0,
        base_peak_learning_rate=column("base_peak_learning_rate"),
        base_n_tokens=column("base_n_tokens"),
        warmup_tokens=warmup,
    )
