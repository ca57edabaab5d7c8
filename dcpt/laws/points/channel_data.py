"""The points of one channel, taken from the runs table by the rules of its side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.points.record import Array, Points, annealed_of, share_of, side_of
from dcpt.table.cells import column_numbers
from dcpt.table.channels import DOMAIN, GENERAL_TOTAL, channels
from dcpt.table.rate_histories import read_history
from dcpt.table.schedules import Schedule

WARMUPS_LEFT_OUT = 2.5
"""Points before this many warmup lengths are not fitted: the learning rate is still coming back."""


@dataclass(frozen=True)
class ChannelData:
    """The points of one channel, with their losses and where they came from.

    Args:
        channel: Name of the channel.
        side: ``general`` or ``domain``.
        points: M points.
        losses: Shape (M,), nats per token.
        runs: Index of each point's run in ``run_names``, shape (M,).
        run_names: All runs of the table (the same list for every channel).
        rows: Row of each point, shape (M,): its position in the table that was fitted, counted as
            in a file of that table (the header is row 1, the first run row 2), whatever the
            frame's labels.
        left_out: (row, reason) of the table's rows that are not among the points.
    """

    channel: str
    side: str
    points: Points
    losses: Array
    runs: NDArray[np.intp]
    run_names: tuple[str, ...]
    rows: NDArray[np.intp]
    left_out: tuple[tuple[int, str], ...] = ()

    def take(self, mask: NDArray[np.bool_], reason: str | None = None) -> ChannelData:
        """The points where a mask is true; the others are listed as left out, if for a reason."""
        dropped = () if reason is None else tuple((int(row), reason) for row in self.rows[~mask])
        return ChannelData(
            channel=self.channel,
            side=self.side,
            points=self.points.take(mask),
            losses=self.losses[mask],
            runs=self.runs[mask],
            run_names=self.run_names,
            rows=self.rows[mask],
            left_out=(*self.left_out, *dropped),
        )


def find_general_channel(frame: pd.DataFrame) -> str | None:
    """The channel that stands for the general side: the total, ``general``, or the only one."""
    there = [name for name in channels(frame) if name != DOMAIN]
    for name in (GENERAL_TOTAL, "general"):
        if name in there:
            return name
    return there[0] if len(there) == 1 else None


def points_from_table(
    frame: pd.DataFrame, channel: str, schedules: Mapping[str, Schedule] | None = None
) -> ChannelData:
    """The points of one channel, by the rules of its side.

    Rows at D = 0 give the base's losses and are not fitted. Left out, each with its reason: rows
    marked ``excluded``; rows without this channel's loss; ratio 1 for a general channel and ratio 0
    for the domain (no text of the channel); D below 2.5 x warmup.

    Args:
        frame: A runs table.
        channel: One of its channels.
        schedules: Those that the column ``schedule`` names.

    Raises:
        InputError: If the table has no such channel, or names a schedule wrongly.
    """
    if f"loss_{channel}" not in frame.columns:
        raise InputError(
            f"channel {channel!r} is not in the table; it has {', '.join(channels(frame))}"
        )
    side = side_of(channel)
    table = frame.reset_index(drop=True)
    names = tuple(dict.fromkeys(table["run"].astype(str)))
    codes = {name: i for i, name in enumerate(names)}
    general = find_general_channel(table)
    points = _read_points(table, channel, base_losses(table, channel))
    points = replace(points, **read_history(table, schedules))
    if general is not None:
        own = side == "general" and general == channel
        lg0 = points.base_loss if own else _unknown_as_none(base_losses(table, general))
        points = replace(points, base_loss_general=lg0)
    losses = table[f"loss_{channel}"].to_numpy(dtype=float)
    reasons = _reasons_to_leave_out(table, side, points, losses)
    kept = np.array([reason is None for reason in reasons])
    at_base = np.array([reason == "" for reason in reasons])
    return ChannelData(
        channel=channel,
        side=side,
        points=points.take(kept),
        losses=losses[kept],
        runs=np.array([codes[str(run)] for run in table["run"]], dtype=np.intp)[kept],
        run_names=names,
        rows=np.arange(len(table), dtype=np.intp)[kept] + 2,
        left_out=tuple(
            (row + 2, str(reasons[row])) for row in np.flatnonzero(~kept & ~at_base).tolist()
        ),
    )


def base_losses(table: pd.DataFrame, channel: str) -> Array:
    """Each row's base loss of a channel: the run's own D = 0 row, its base's, or the column.

    Rows marked ``excluded`` say nothing about a base.

    Returns:
        Shape (rows,), nats per token; NaN where unknown.
    """
    at_base = table[(table["n_tokens"] == 0) & (_why_excluded(table) == "")]
    by_run = at_base.groupby("run")[f"loss_{channel}"].mean()
    known_losses = table["run"].map(by_run)
    if "base" in table.columns:
        by_base = at_base.groupby("base")[f"loss_{channel}"].mean()
        known_losses = known_losses.fillna(table["base"].map(by_base))
    if f"base_loss_{channel}" in table.columns:
        known_losses = known_losses.fillna(table[f"base_loss_{channel}"])
    return np.asarray(known_losses, dtype=np.float64)


def _why_excluded(table: pd.DataFrame) -> pd.Series:
    """What a person wrote in ``excluded``, by row; an empty text for a row that counts."""
    if "excluded" not in table.columns:
        return pd.Series("", index=table.index)
    return table["excluded"].fillna("").astype(str).str.strip()


def _unknown_as_none(values: Array) -> Array | None:
    return values if np.isfinite(values).any() else None


def _read_points(table: pd.DataFrame, channel: str, own_base_loss: Array) -> Points:
    def column(name: str) -> Array | None:
        if name not in table.columns:
            return None
        return _unknown_as_none(column_numbers(table, name))

    ratio = column("ratio")
    phase = table["phase"] if "phase" in table.columns else pd.Series("constant", table.index)
    return Points(
        n_params=column("n_params"),
        n_tokens=table["n_tokens"].to_numpy(dtype=float),
        share=share_of(side_of(channel), ratio),
        ratio=ratio,
        learning_rate=column("learning_rate"),
        annealed=annealed_of(phase),
        base_loss=_unknown_as_none(own_base_loss),
        base_peak_learning_rate=column("base_peak_learning_rate"),
        base_n_tokens=column("base_n_tokens"),
        warmup_tokens=column("warmup_tokens"),
        unique_tokens=column(f"unique_tokens_{channel}"),
    )


def _reasons_to_leave_out(
    table: pd.DataFrame, side: str, points: Points, losses: Array
) -> list[str | None]:
    """Per row: None to fit it, an empty text for a D = 0 row, else why it is left out."""
    size = len(table)
    tokens = points.get("n_tokens")
    excluded = _why_excluded(table).tolist()
    reasons: list[str | None] = [None] * size
    for row in range(size):
        if excluded[row]:
            reasons[row] = f"excluded: {excluded[row]}"
        elif tokens[row] == 0:
            reasons[row] = ""
        elif not np.isfinite(losses[row]):
            reasons[row] = "no loss of this channel"
        elif points.share is not None and points.share[row] == 0:
            reasons[row] = f"ratio {points.get('ratio')[row]:g}: no text of this channel"
        elif (
            points.warmup_tokens is not None
            and tokens[row] < WARMUPS_LEFT_OUT * points.warmup_tokens[row]
        ):
            reasons[row] = f"D below {WARMUPS_LEFT_OUT:g} x warmup tokens"
    return reasons
