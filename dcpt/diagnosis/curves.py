"""The losses of a channel over a run, which every finding is based on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.diagnosis.journals import Journal
from dcpt.errors import InputError
from dcpt.laws.flags.noise import EVALUATION_NOISE
from dcpt.laws.points.channel_data import WARMUPS_LEFT_OUT, base_losses
from dcpt.laws.points.record import share_of, side_of
from dcpt.table import GENERAL_TOTAL, channels, general_channels
from dcpt.table.channels import general_weights

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A channel's losses over one run at constant rate, and where its branches ended.

    Args:
        run: Name of the run.
        channel: Name of the channel.
        tokens: D of each trained point, ascending, shape (P,).
        losses: Validation losses there, nats per token, shape (P,).
        train_losses: Mean training losses since the previous point, shape (P,); NaN where unknown.
        base_loss: Loss before CPT, nats per token; NaN where unknown.
        decays: (D where the branch starts, its loss at the end) of each branch that is fitted; a
            branch with a mixture of its own says nothing about the rate.
        largest: Largest loss of all points, branches and excluded points included; nats per token.
        planned: Planned share of the channel in training, 0..1; NaN where unknown.
        shares: Share of the channel in training so far, shape (P,); NaN where unknown.
        warmup_tokens: Tokens of the warmup; NaN where unknown.
        unique_tokens: Unique tokens of the channel's text; NaN where unknown.
        bytes_per_token: Bytes per token of the channel's text; NaN where unknown.
        learning_rate: Peak learning rate of the trunk; NaN where unknown.
        lines: D and training losses of the run's log lines, each of shape (Q,).
        standard_error: Median standard error of the validation losses, nats per token; NaN where
            unknown.
    """

    run: str
    channel: str
    tokens: Array
    losses: Array
    train_losses: Array
    base_loss: float
    decays: tuple[tuple[float, float], ...]
    largest: float
    planned: float
    shares: Array
    warmup_tokens: float
    unique_tokens: float
    bytes_per_token: float
    learning_rate: float
    lines: tuple[Array, Array]
    standard_error: float = np.nan

    @property
    def subject(self) -> dict[str, str]:
        """What findings about the curve are about."""
        return {"run": self.run, "channel": self.channel}

    @property
    def side(self) -> str:
        """``general`` or ``domain``."""
        return side_of(self.channel)

    @property
    def noise(self) -> float:
        """Differences of validation losses up to this are not significant, nats per token.

        The difference of two equal runs or, where known and larger, twice the standard error: with
        32 validation sequences it is near 0.03.
        """
        return float(np.fmax(EVALUATION_NOISE, 2 * self.standard_error))

    @property
    def is_trained(self) -> bool:
        """Whether the channel was trained; assumed where the table does not say."""
        known = self.shares[np.isfinite(self.shares)]
        share = known[-1] if len(known) else self.planned
        return bool(share != 0)

    @property
    def epochs(self) -> float:
        """Epochs of the channel's text at the last point; NaN where unknown."""
        known = self.shares[np.isfinite(self.shares)]
        share = known[-1] if len(known) else self.planned
        return float(self.tokens[-1] * share / self.unique_tokens) if len(self.tokens) else np.nan

    @property
    def settled(self) -> NDArray[np.bool_]:
        """Which points lie far enough after the warmup to be fitted, shape (P,)."""
        warmup = 0.0 if np.isnan(self.warmup_tokens) else self.warmup_tokens
        return np.asarray(self.tokens >= WARMUPS_LEFT_OUT * warmup)

    @property
    def late(self) -> NDArray[np.bool_]:
        """Which points lie after the first quarter of the run and its warmup, shape (P,)."""
        return np.asarray(self.settled & (self.tokens > EARLY * self.tokens[-1:]))


EARLY = 0.25
"""First part of a run, in which the learning rate rises again and losses may rise: in the pilot the
highest general loss of runs at shares up to 0.1 is at 2 to 19 % of their tokens."""


def read_curves(runs: pd.DataFrame, journals: Mapping[str, Journal]) -> Iterator[Curve]:
    """Yield every channel of every run, in the order of the table.

    Rows with a reason in ``excluded`` are included, since runs that diverged are among them.
    """
    names = [name for name in channels(runs) if name != GENERAL_TOTAL]
    weights = general_weights(runs)
    table = runs.reset_index(drop=True)
    if "phase" not in table.columns:
        table = table.assign(phase=np.where(table["n_tokens"] == 0, "base", "constant"))
    for name in names:
        table[f"base_loss_{name}"] = base_losses(table, name)
    for run, rows in table.sort_values("n_tokens", kind="stable").groupby("run", sort=False):
        journal = journals.get(str(run), Journal())
        for name in names:
            if rows[f"loss_{name}"].notna().any():
                yield _curve(str(run), name, rows, weights, journal)


def _curve(
    run: str, name: str, rows: pd.DataFrame, weights: Mapping[str, float], journal: Journal
) -> Curve:
    rows = rows[rows[f"loss_{name}"].notna()]
    trunk = rows[(rows["phase"] == "constant") & (rows["n_tokens"] > 0)]
    ends = rows[rows["phase"] == "annealed"]
    if "excluded" in ends.columns:
        ends = ends[ends["excluded"].isna()]
    own = rows.loc[rows["n_tokens"] == 0, f"loss_{name}"]
    base = own if len(own) else rows[f"base_loss_{name}"]
    left_at = _numbers(ends, "branch_n_tokens")
    lines = [(at, losses[name]) for at, losses in journal.lines if name in losses]
    return Curve(
        run=run,
        channel=name,
        tokens=_numbers(trunk, "n_tokens"),
        losses=_numbers(trunk, f"loss_{name}"),
        train_losses=_numbers(trunk, f"train_loss_{name}"),
        base_loss=float(base.iloc[0]),
        decays=tuple(zip(left_at.tolist(), _numbers(ends, f"loss_{name}").tolist(), strict=True)),
        largest=float(rows[f"loss_{name}"].max()),
        planned=_planned_share(name, rows, weights),
        shares=_numbers(trunk, f"share_{name}"),
        warmup_tokens=_first_known(rows, "warmup_tokens"),
        unique_tokens=_first_known(rows, f"unique_tokens_{name}"),
        bytes_per_token=_first_known(rows, f"bytes_per_token_{name}"),
        learning_rate=_first_known(rows, "learning_rate"),
        lines=(
            np.array([at for at, _ in lines], dtype=np.float64),
            np.array([loss for _, loss in lines], dtype=np.float64),
        ),
        standard_error=standard_error(rows, name),
    )


def standard_error(rows: pd.DataFrame, name: str) -> float:
    """Median standard error of a channel's losses, nats per token; NaN where none is known."""
    known = _numbers(rows, f"se_{name}")
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else np.nan


def _planned_share(name: str, rows: pd.DataFrame, weights: Mapping[str, float]) -> float:
    """The channel's planned share, from ratio and weights; NaN where they are unknown."""
    side_share = share_of(side_of(name), np.array([_first_known(rows, "ratio")]))
    assert side_share is not None
    if side_of(name) == "domain" or len(general_channels(rows)) == 1:
        return float(side_share[0])
    weight = weights[name] / sum(weights.values()) if name in weights else np.nan
    return float(side_share[0] * weight)


def _numbers(rows: pd.DataFrame, name: str) -> Array:
    """A column's numbers, shape (rows,); NaN where unknown.

    Raises:
        InputError: If the column holds anything but numbers.
    """
    if name not in rows.columns:
        return np.full(len(rows), np.nan)
    try:
        # Empty cells of columns without a rule are read as empty strings.
        return np.asarray(pd.to_numeric(rows[name].replace("", np.nan)), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"column {name}: {error}; write numbers, or call the column by another name"
        ) from None


def _first_known(rows: pd.DataFrame, name: str) -> float:
    """The first known value of a run; NaN where there is none."""
    values = _numbers(rows, name)
    known = values[np.isfinite(values)]
    return float(known[0]) if len(known) else np.nan
