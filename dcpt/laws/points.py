"""What a law sees: arrays of points, taken from the runs table by the rules of a channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.table.channels import DOMAIN, GENERAL_TOTAL, channels
from dcpt.table.histories import read_history
from dcpt.table.schedules import Schedule

Array = NDArray[np.float64]

WARMUPS_LEFT_OUT = 2.5
"""Points before this many warmup lengths are not fitted: the learning rate is still coming back."""

SAME = 0.02
"""A count, ratio or learning rate within 2 % of one seen is the same one."""


@dataclass(frozen=True)
class Points:
    """M points as one channel sees them; arrays of shape (M,), ``None`` where the table has none.

    The learning-rate history of a point is in its areas (LR x steps) and in its drops: arrays of
    shape (M, J) over the steps at which the rate changed before the point, padded with drops of 0.

    Args:
        n_params: Parameters in all.
        n_tokens: CPT tokens seen so far.
        share: The channel's own share of training: ratio for the domain, 1 - ratio for the general
            side.
        ratio: Share of domain tokens.
        learning_rate: The trunk's peak, absolute.
        annealed: 1.0 at the end of a decay to zero, 0.0 at constant rate.
        base_loss: The channel's own loss before CPT, nats per token.
        base_loss_general: The general channel's loss before CPT, nats per token.
        base_peak_learning_rate: Peak learning rate of the base's pre-training.
        base_n_tokens: Tokens that the base was pre-trained on.
        warmup_tokens: Tokens of the run's warmup.
        unique_tokens: Unique tokens of this channel's own text: epochs are share D / unique.
        lr_area: S1, the sum of learning rates over the steps so far.
        anneal_area: S2 of arXiv 2408.11029, the drops so far, each fading with the steps since.
        drop_sizes: Learning rate before a drop minus after it, shape (M, J).
        drop_rates: Learning rate after it, shape (M, J).
        drop_areas: Sum of learning rates from its step to the point, that step included, (M, J).
    """

    n_params: Array | None = None
    n_tokens: Array | None = None
    share: Array | None = None
    ratio: Array | None = None
    learning_rate: Array | None = None
    annealed: Array | None = None
    base_loss: Array | None = None
    base_loss_general: Array | None = None
    base_peak_learning_rate: Array | None = None
    base_n_tokens: Array | None = None
    warmup_tokens: Array | None = None
    unique_tokens: Array | None = None
    lr_area: Array | None = None
    anneal_area: Array | None = None
    drop_sizes: Array | None = None
    drop_rates: Array | None = None
    drop_areas: Array | None = None

    def __len__(self) -> int:
        return next((len(values) for _, values in self._there()), 0)

    def _there(self) -> Iterator[tuple[str, Array]]:
        for one in fields(self):
            values = getattr(self, one.name)
            if values is not None:
                yield one.name, values

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Points:
        """The points at an index or where a mask is true."""
        return Points(**{name: values[index] for name, values in self._there()})

    @property
    def epochs(self) -> Array | None:
        """How often the channel's own text was seen, shape (M,); a share that is missing is 1."""
        if self.unique_tokens is None or self.n_tokens is None:
            return None
        share = 1.0 if self.share is None else self.share
        with np.errstate(divide="ignore", invalid="ignore"):  # no text, seen without end
            return self.n_tokens * share / self.unique_tokens

    def levels(self, name: str) -> tuple[Array, NDArray[np.intp]]:
        """Distinct values of a field, shape (U,), and which of them each point has, shape (M,).

        They are found once per record: a formula's powers cost U numbers instead of M.
        """
        found: dict[str, tuple[Array, NDArray[np.intp]]] = self.__dict__.setdefault("_levels", {})
        if name not in found:
            found[name] = np.unique(self.get(name), return_inverse=True)
        return found[name]

    def get(self, name: str) -> Array:
        """A field that must be there.

        Raises:
            InputError: If the points have no such field.
        """
        values: Array | None = getattr(self, name)
        if values is None:
            raise InputError(f"{name} is missing: this law needs it; give it for every point")
        return values


def side_of(channel: str) -> str:
    """The side of a channel, ``general`` or ``domain``."""
    return "domain" if channel == DOMAIN else "general"


def share_of(side: str, ratio: Array | None) -> Array | None:
    """A channel's own share of training: the ratio for the domain, the rest for the other side."""
    return ratio if ratio is None or side == "domain" else 1.0 - ratio


def annealed_of(phases: pd.Series) -> Array:
    """1.0 where a phase is ``annealed``, else 0.0, shape (M,)."""
    return np.asarray(phases == "annealed", dtype=np.float64)


def known(points: Points, needs: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which points have a number in every needed field, shape (M,)."""
    mask = np.ones(len(points), dtype=bool)
    for name in needs:
        values = getattr(points, name)
        if values is None:
            return np.zeros(len(points), dtype=bool)
        mask &= np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    return mask


def distinct(points: Points, axis: str) -> Array:
    """The distinct values along an axis, ascending, equal within 1e-6 of their size.

    Args:
        points: The points.
        axis: A field, or a quotient of two (``n_params/learning_rate``). A field that is missing
            or has no number counts as one unknown value (NaN).
    """
    numerator, _, denominator = axis.partition("/")
    values = getattr(points, numerator)
    if denominator and values is not None:
        below = getattr(points, denominator)
        values = values if below is None else values / below
    if values is None or not np.isfinite(values).any():
        return np.array([np.nan])
    ordered = np.unique(values[np.isfinite(values)])
    steps = np.diff(ordered) > 1e-6 * np.abs(ordered[1:])
    return np.asarray(ordered[np.concatenate([[True], steps])], dtype=np.float64)


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
        return _unknown_as_none(pd.to_numeric(table[name]).to_numpy(dtype=float))

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
