"""Select the points of a channel from the runs table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.points.record import Array, Points, annealed_of, share_of, side_of
from dcpt.table.channels import DOMAIN, GENERAL_TOTAL, channels, validation_channels
from dcpt.table.columns import base_channels_of
from dcpt.table.rate_histories import lacks_history, read_history
from dcpt.table.schedule_phases import phases_of
from dcpt.table.schedules import Schedule

SHARE = "share_"
"""Begins the columns of the shares of single channels in training."""

WARMUPS_LEFT_OUT = 2.5
"""Points before this many warmup lengths are not fitted: their loss still shows the re-warming."""


@dataclass(frozen=True)
class ChannelData:
    """The points of one channel, with their losses, runs and rows.

    Args:
        channel: Name of the channel.
        side: ``general`` or ``domain``.
        points: M points.
        losses: Measured losses, shape (M,), nats per token.
        runs: Index of each point's run in ``run_names``, shape (M,).
        run_names: All runs of the table, the same for every channel.
        rows: Row number of each point in the table, shape (M,), counted as in a file: the header
            is row 1 and the first data row is row 2. The frame's index is ignored.
        lacking_history: What the table lacks for the history of the learning rate, as people read
            it; empty if nothing.
        left_out: Rows of the table that are not among the points, as (row, reason).
    """

    channel: str
    side: str
    points: Points
    losses: Array
    runs: NDArray[np.intp]
    run_names: tuple[str, ...]
    rows: NDArray[np.intp]
    left_out: tuple[tuple[int, str], ...] = ()
    lacking_history: tuple[str, ...] = ()

    def take(self, mask: NDArray[np.bool_], reason: str | None = None) -> ChannelData:
        """Select points by a mask.

        Args:
            mask: Shape (M,), true for the points to keep.
            reason: Why the others are left out. None does not list them in ``left_out``.

        Returns:
            The selected points.
        """
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
            lacking_history=self.lacking_history,
        )


def find_general_channel(frame: pd.DataFrame) -> str | None:
    """The channel that represents the general side.

    Args:
        frame: A runs table.

    Returns:
        The weighted total of the general channels if the table has it, else ``general``, else the
        only general channel; None if there are several and none of these, or none at all. If no
        general channel is measured, those with a base loss (``base_loss_<channel>``) count.
    """
    general = _general_channels(frame)
    for name in (GENERAL_TOTAL, "general"):
        if name in general:
            return name
    return general[0] if len(general) == 1 else None


def _general_channels(frame: pd.DataFrame) -> list[str]:
    """General channels with losses; if there are none, those with a loss of the base."""
    of_base, apart = base_channels_of([str(name) for name in frame.columns]), {DOMAIN}
    apart.update(validation_channels(frame))
    measured, at_base = (
        [name for name in names if name not in apart] for names in (channels(frame), of_base)
    )
    return measured or at_base


def points_from_table(
    frame: pd.DataFrame, channel: str, schedules: Mapping[str, Schedule] | None = None
) -> ChannelData:
    """Select the points of a channel from a runs table.

    Rows at D = 0 provide the base losses and are not fitted. Rows left out with a reason are those
    marked ``excluded``, rows without a loss of this channel, rows without text of the channel
    (ratio 1 for a general channel, ratio 0 for the domain), and rows before 2.5 x warmup tokens.

    Args:
        frame: A runs table.
        channel: Name of one of its channels.
        schedules: Schedules by the names used in the column ``schedule``.

    Returns:
        The channel's points, losses in nats per token.

    Raises:
        InputError: If the table has no such channel, or a schedule is unknown.
    """
    if f"loss_{channel}" not in frame.columns:
        raise InputError(
            f"channel {channel!r} is not in the table; its channels are "
            f"{', '.join(channels(frame))}"
        )
    table = frame.reset_index(drop=True)
    side = _find_side(table, channel)
    names = tuple(dict.fromkeys(table["run"].astype(str)))
    codes = {name: i for i, name in enumerate(names)}
    phases = phases_of(table, schedules)
    points = _read_points(table, channel, side, base_losses(table, channel), phases)
    points = replace(
        points,
        base_loss_general=_general_base_loss(table, channel, points.base_loss),
        **read_history(table, schedules),
    )
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
        lacking_history=lacks_history(table, schedules),
    )


def _general_base_loss(table: pd.DataFrame, channel: str, own: Array | None) -> Array | None:
    """The base loss of the general side; the channel's own where there is no general side.

    Delphi's table has a domain channel alone, and its own base loss serves there: errors at the
    largest size are 0.9 % (``experiments/delphi.md``).
    """
    if not _general_channels(table):
        return own
    general = find_general_channel(table)
    if general in (None, channel):
        return own if general == channel else None
    return _unknown_as_none(base_losses(table, general))


def base_losses(table: pd.DataFrame, channel: str) -> Array:
    """The base loss of a channel for each row.

    It is taken from the run's row at D = 0, else from a D = 0 row of a run with the same ``base``,
    else from the column ``base_loss_<channel>``. Rows marked ``excluded`` are ignored.

    Args:
        table: A runs table.
        channel: Name of the channel.

    Returns:
        Shape (rows,), nats per token; NaN where unknown.
    """
    at_base = table[(table["n_tokens"] == 0) & (_why_excluded(table) == "")]
    known_losses = pd.Series(np.nan, table.index)
    for key in ("run", "base"):
        if f"loss_{channel}" in table.columns and key in table.columns:
            by_key = at_base.groupby(key)[f"loss_{channel}"].mean()
            known_losses = known_losses.fillna(table[key].map(by_key))
    if f"base_loss_{channel}" in table.columns:
        known_losses = known_losses.fillna(table[f"base_loss_{channel}"])
    return np.asarray(known_losses, dtype=np.float64)


def _why_excluded(table: pd.DataFrame) -> pd.Series:
    """The text in ``excluded`` by row; empty for a row that is not excluded."""
    if "excluded" not in table.columns:
        return pd.Series("", index=table.index)
    return table["excluded"].fillna("").astype(str).str.strip()


def _unknown_as_none(values: Array) -> Array | None:
    return values if np.isfinite(values).any() else None


def _find_side(table: pd.DataFrame, channel: str) -> str:
    """The side of a channel; of a validation channel, the text that lowers its loss.

    It is ``domain`` if the loss falls with the share of domain text among points that differ in
    nothing else that a law knows.
    """
    if channel not in validation_channels(table) or "ratio" not in table:
        return side_of(channel)
    others = ["n_params", "n_tokens", "learning_rate", "phase", "branch_n_tokens"]
    alike = table[table["n_tokens"] > 0].groupby(
        [name for name in others if name in table], dropna=False
    )
    off = {
        name: table[name] - alike[name].transform("mean") for name in ("ratio", f"loss_{channel}")
    }
    falls = float((off["ratio"] * off[f"loss_{channel}"]).sum()) < 0
    return "domain" if falls else "general"


def _read_points(
    table: pd.DataFrame, channel: str, side: str, own_base_loss: Array, phases: pd.Series
) -> Points:
    def column(name: str) -> Array | None:
        if name not in table.columns:
            return None
        return _unknown_as_none(pd.to_numeric(table[name]).to_numpy(dtype=float))

    points = points_from_columns(column, channel, side, phases)
    return replace(
        points,
        source_shares=shares_of_sources(column, sources_of(table)),
        n_tokens=table["n_tokens"].to_numpy(dtype=float),
        base_loss=_unknown_as_none(own_base_loss),
    )


def sources_of(table: pd.DataFrame) -> tuple[str, ...]:
    """The sources with a share of training in the table (``share_<channel>``), by name."""
    names = [name for name in map(str, table.columns) if name.startswith(SHARE)]
    return tuple(sorted(n.removeprefix(SHARE) for n in names if table[n].notna().any()))


def shares_of_sources(column: Callable[[str], Array | None], names: Sequence[str]) -> Array | None:
    """Shares of named sources, shape (M, J); None if a source has none, or there is no source."""
    columns = [column(SHARE + name) for name in names]
    known_columns = [values for values in columns if values is not None]
    if not names or len(known_columns) < len(names):
        return None
    return np.stack(known_columns, axis=1)


def points_from_columns(
    column: Callable[[str], Array | None], channel: str, side: str, phases: pd.Series
) -> Points:
    """Build the points of a channel from columns of a table, without base losses and history.

    Args:
        column: Returns the numbers of a column, shape (M,), or None if they are unknown.
        channel: Name of the channel.
        side: Side of the channel, ``general`` or ``domain``.
        phases: Phase of each row, ``constant``, ``annealed`` or ``falling``, M rows.

    Returns:
        M points.
    """
    ratio = column("ratio")
    return Points(
        n_params=column("n_params"),
        n_tokens=column("n_tokens"),
        share=share_of(side, ratio),
        ratio=ratio,
        learning_rate=column("learning_rate"),
        annealed=annealed_of(phases),
        base_peak_learning_rate=column("base_peak_learning_rate"),
        base_n_tokens=column("base_n_tokens"),
        warmup_tokens=column("warmup_tokens"),
        unique_tokens=column(f"unique_tokens_{channel}"),
    )


def _reasons_to_leave_out(
    table: pd.DataFrame, side: str, points: Points, losses: Array
) -> list[str | None]:
    """For each row: None if it is fitted, an empty text at D = 0, else why it is left out."""
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
