"""A large run against its prediction: where a channel leaves the band, and where it will end.

The forecast of the end is the prediction, shifted by what the prediction missed in the phase of
the end, if there are points in the second half of the run. Its interval stays as wide as that of
the prediction: one of draws that meet the measured points held 25 to 50 % of the ends instead of
90 %. Losses at constant rate do not shift the forecast of a loss after the decay, since what is
missed there does not carry over (``experiments/watch.md`` has the errors on known runs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.decide.question import Array, Question, ask
from dcpt.decide.records import Interval, Target
from dcpt.decide.target_schedule import points_along
from dcpt.errors import InputError
from dcpt.laws.points.record import SAME, Points
from dcpt.quantities import (
    format_count,
    format_difference,
    format_loss,
    format_losses,
    format_percent,
)

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

FIRST_PART = 0.05
"""Part of the target's tokens before which no point is judged: no law describes a warmup."""

SHIFTED_FROM = 0.5
"""Part of the target's tokens from which points shift the forecast. Chosen in hindsight from
``experiments/watch.md``: shifted at a quarter of a run the domain loss was missed by more."""

LATEST_PART = 1 / 3
"""Part of the judged points in the phase of the end, the last ones, that shift the curve."""

IN_A_ROW = 3
"""Points in a row on one side of the band after which a channel has left it."""

N_ENDS = 40
"""Earlier ends that are tried where the limit will not be kept."""


@dataclass(frozen=True)
class WatchedPoint:
    """A measured loss and its prediction.

    Args:
        n_tokens: CPT tokens seen.
        measured: Measured loss, nats per token.
        predicted: Prediction with its interval, nats per token.
    """

    n_tokens: float
    measured: float
    predicted: Interval

    @property
    def side(self) -> int:
        """1 above the interval, -1 below it, 0 inside."""
        low, high = self.predicted.low, self.predicted.high
        assert low is not None
        assert high is not None
        return int(self.measured > high) - int(self.measured < low)


@dataclass(frozen=True)
class WatchedChannel:
    """A channel of the large run.

    Args:
        channel: Its name.
        points: Measured points, ascending in tokens.
        left_at: Tokens of the first of three or more last points in a row that lie outside the
            interval on one side; None where the channel has not left it.
        predicted: The loss at the end as predicted before the run.
        forecast: The loss at the end as forecast now.
        is_shifted: Whether points in the phase of the end, in the second half of the run, shifted
            the forecast; without any it is the prediction.
        allowed: Largest loss within the limit; None where the channel has no limit.
        probability: Part of the forecast draws that keep the limit; None without one.
    """

    channel: str
    points: list[WatchedPoint]
    left_at: float | None
    predicted: Interval
    forecast: Interval
    is_shifted: bool
    allowed: float | None = None
    probability: float | None = None

    @property
    def breaks_limit(self) -> bool:
        """Whether the forecast is beyond the limit."""
        value = self.forecast.value
        return self.allowed is not None and value is not None and value > self.allowed


@dataclass(frozen=True)
class Watched:
    """Where a large run stands.

    Args:
        run: Its name.
        n_tokens: Tokens at its last judged point.
        target: What it was predicted for.
        ratio: Its share of domain text.
        learning_rate: Its peak learning rate; None where the runs of the fit have none.
        phase: Phase of the end.
        level: Interval probability.
        channels: The channels, those with a limit first.
        earlier_end: Tokens at which the run could end, decay included, and keep its limits; None
            where they are kept anyway, or an end now would break one.
    """

    run: str
    n_tokens: float
    target: Target
    ratio: float
    learning_rate: float | None
    phase: str
    level: float
    channels: list[WatchedChannel]
    earlier_end: float | None

    @property
    def breaking(self) -> list[WatchedChannel]:
        """Channels that will break their limit."""
        return [channel for channel in self.channels if channel.breaks_limit]

    @property
    def words(self) -> list[str]:
        """Where the run stands, in sentences: the verdict first."""
        return [
            f"{self.run}: {self.verdict}",
            *(self._say(channel) for channel in self.channels),
            *self.advice,
        ]

    @property
    def verdict(self) -> str:
        """Whether the run is on track, in a sentence."""
        part = format_percent(self.n_tokens / self.target.n_tokens)
        return f"{self._verdict()}, after {format_count(self.n_tokens)} tokens ({part})."

    def _verdict(self) -> str:
        names = ", ".join(channel.channel for channel in self.breaking)
        if names:
            return f"the limit {self.target.limits_in_words} will be broken ({names})"
        left = [channel.channel for channel in self.channels if channel.left_at is not None]
        if left:
            names = ", ".join(left)
            limits = self.target.limits_in_words
            return f"on track for the limit {limits}, but {names} left the band"
        return f"on track, every channel inside its {format_percent(self.level)} band"

    def _say(self, channel: WatchedChannel) -> str:
        last, end, before = channel.points[-1], channel.forecast, channel.predicted
        where = {1: "above", 0: "inside", -1: "below"}[last.side]
        words = (
            f"{channel.channel}: {format_loss(last.measured)} now, {where} the band "
            f"{format_losses(last.predicted.low, last.predicted.high)}"
        )
        if channel.left_at is not None:
            words += f" since {format_count(channel.left_at)} tokens"
        made = "forecast" if channel.is_shifted else "predicted"
        words += f"; {made} at the end {format_loss(end.value)} "
        words += f"({format_losses(end.low, end.high)})"
        if channel.is_shifted:
            words += f", before the run {format_loss(before.value)}"
        if channel.allowed is not None and None not in (channel.probability, end.value):
            assert end.value is not None
            assert channel.probability is not None
            words += (
                f"; the limit is {format_loss(channel.allowed)}, "
                f"{format_difference(channel.allowed - end.value)} from the forecast, kept in "
                f"{format_percent(channel.probability)} of the draws"
            )
        return f"{words}."

    @property
    def advice(self) -> list[str]:
        """What to do about a limit that will be broken; empty if none will be."""
        if not self.breaking:
            measured = all(channel.is_shifted for channel in self.channels)
            if measured or all(channel.left_at is None for channel in self.channels):
                return []
            return [
                "The prediction does not hold for this run. A short decay from a checkpoint in its "
                "second half measures where the end lies: add it to the log as an annealed point."
            ]
        if self.earlier_end is None:
            return [
                "Even an end now, with its decay, is forecast to break the limit: stop, or go back "
                "to an earlier checkpoint and decay from there. Less domain text in the decay "
                "lowers the general loss too; no law here says by how much."
            ]
        return [
            f"An end at {format_count(self.earlier_end)} tokens, decay included, keeps the limit: "
            "begin the decay earlier. Or decay with less domain text, which lowers the general "
            "loss too; no law here says by how much."
        ]

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return {**asdict(self), "breaks_limit": bool(self.breaking), "words": self.words}


def watch_run(
    fit: Fit,
    target: Target,
    runs: pd.DataFrame,
    *,
    ratio: float,
    learning_rate: float | None,
    level: float = 0.9,
) -> Watched:
    """Compare a large run that is still training with its prediction.

    Args:
        fit: The fit that predicted it.
        target: What it was predicted for: size, tokens, limit, the base's losses.
        runs: Runs table of that run alone, as ``load_runs`` gives it.
        ratio: Its share of domain text.
        learning_rate: Its peak learning rate; None where the runs of the fit have none.
        level: Interval probability.

    Raises:
        InputError: If the table holds several runs or another size, no point can be judged yet, or
            a channel with a limit is not in the table.
    """
    question = ask(fit, target)
    own = _judged_rows(runs, question)
    rate = float("nan") if learning_rate is None else learning_rate
    ends = np.linspace(float(own["n_tokens"].max()), target.n_tokens, N_ENDS)
    limits = _limits(question)
    curves = {
        channel: _Curve(question, channel, own, (ratio, rate), ends, level)
        for channel in (*limits, *(c for c in fit.channels if c not in limits))
        if f"loss_{channel}" in own and own[f"loss_{channel}"].notna().any()
    }
    unseen = [channel for channel in limits if channel not in curves]
    if unseen:
        raise InputError(
            f"the log of {own['run'].iloc[0]} has no loss of {', '.join(unseen)}, which the limit "
            "is on: log its validation loss, and name its metric in the mapping"
        )
    channels = [curve.watched(limits.get(channel)) for channel, curve in curves.items()]
    earlier = None
    if any(channel.breaks_limit for channel in channels):
        kept = [curves[channel].shifted <= allowed for channel, allowed in limits.items()]
        within = np.flatnonzero(np.all(kept, axis=0))
        earlier = float(ends[within[-1]]) if len(within) else None
    return Watched(
        run=str(own["run"].iloc[0]),
        n_tokens=float(own["n_tokens"].max()),
        target=question.target,
        ratio=ratio,
        learning_rate=learning_rate,
        phase=question.phase,
        level=level,
        channels=channels,
        earlier_end=earlier,
    )


def _limits(question: Question) -> Mapping[str, float]:
    """The largest allowed loss of every channel that has a limit, nats per token."""
    losses = question.target.base_losses
    return {name: limit.on(losses[name]) for name, limit in question.limits.items()}


def _judged_rows(runs: pd.DataFrame, question: Question) -> pd.DataFrame:
    """The points of the run that can be judged, ascending in tokens."""
    target, names = question.target, list(dict.fromkeys(runs["run"]))
    if len(names) > 1:
        raise InputError(
            f"the log holds {len(names)} runs ({', '.join(map(str, names[:5]))}): name the large "
            "run with --run"
        )
    if "n_params" in runs:
        sizes = runs["n_params"].dropna()
        off = sizes[(sizes / target.n_params - 1).abs() > SAME]
        if len(off):
            raise InputError(
                f"run {names[0]} has {format_count(float(off.iloc[0]))} parameters, and the "
                f"prediction is for {format_count(target.n_params)}: give --n-params"
            )
    own = runs[runs["n_tokens"] >= FIRST_PART * target.n_tokens].sort_values("n_tokens")
    if own.empty:
        last = float(runs["n_tokens"].max()) if len(runs) else 0.0
        raise InputError(
            f"run {', '.join(map(str, names)) or '(none)'} has no point beyond "
            f"{format_count(FIRST_PART * target.n_tokens)} tokens, {FIRST_PART:.0%} of the target "
            f"(its last one is at {format_count(last)}): watch it later"
        )
    return own


def _points(
    question: Question, channel: str, frame: pd.DataFrame, at_end: NDArray[np.bool_]
) -> Points:
    """Points of the run, those of ``at_end`` at the end of the target's schedule."""
    if question.shape is None or question.fit.batch_tokens is None:
        return question.fit.points(channel, frame)
    n_tokens = question.target.n_tokens
    return points_along(question.fit, channel, frame, question.shape, at_end, n_tokens)


class _Curve:
    """The predicted curve of a channel, and the same curve shifted to what was measured."""

    def __init__(
        self,
        question: Question,
        channel: str,
        own: pd.DataFrame,
        pair: tuple[float, float],
        ends: Array,
        level: float,
    ) -> None:
        self.channel, self.level = channel, level
        seen = own[own[f"loss_{channel}"].notna()]
        self.tokens = seen["n_tokens"].to_numpy(dtype=float)
        self.measured = seen[f"loss_{channel}"].to_numpy(dtype=float)
        phases = seen["phase"] if "phase" in seen else pd.Series("constant", seen.index)
        decided = question.phase
        n_tokens = np.concatenate([self.tokens, ends])
        share, rate = (np.full(len(n_tokens), value) for value in pair)
        frame = question.frame(share, rate).assign(
            n_tokens=n_tokens, phase=[*phases, *[decided] * len(ends)]
        )
        n_seen = len(seen)
        # A decay before the end is the end of a shorter run of the same schedule.
        at_end = (frame["phase"] == "annealed").to_numpy() | (np.arange(len(frame)) >= n_seen)
        points = _points(question, channel, frame, at_end)
        central = question.fit.central(channel, points)
        draws = question.fit.sample(channel, points)
        self.central, self.draws = central[:n_seen], draws[:, :n_seen]
        self.end, self.end_draws = central[-1], draws[:, -1]
        is_late = self.tokens >= SHIFTED_FROM * question.target.n_tokens
        of_phase = np.flatnonzero((phases.to_numpy() == decided) & is_late)
        latest = of_phase[len(of_phase) - max(1, round(LATEST_PART * len(of_phase))) :]
        self.is_shifted = len(of_phase) > 0
        shift = 0.0
        if self.is_shifted:
            shift = float(self.measured[latest].mean() - central[latest].mean())
        self.shifted = central[n_seen:] + shift
        self.shifted_draws = draws[:, -1] + shift

    def watched(self, allowed: float | None) -> WatchedChannel:
        """The record of the channel."""
        low, high = self._limits(self.draws)
        rows = np.stack([self.tokens, self.measured, self.central, low, high], axis=1).tolist()
        points = [WatchedPoint(n, loss, Interval(*band)) for n, loss, *band in rows]
        kept = None if allowed is None else float((self.shifted_draws <= allowed).mean())
        return WatchedChannel(
            channel=self.channel,
            points=points,
            left_at=_left_at(points),
            predicted=self._interval(self.end, self.end_draws),
            forecast=self._interval(self.shifted[-1], self.shifted_draws),
            is_shifted=self.is_shifted,
            allowed=allowed,
            probability=kept,
        )

    def _limits(self, draws: Array) -> Array:
        ends: Array = np.quantile(draws, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return ends

    def _interval(self, value: float, draws: Array) -> Interval:
        low, high = self._limits(draws)
        return Interval(float(value), float(low), float(high))


def _left_at(points: list[WatchedPoint]) -> float | None:
    """Where the last points in a row began to lie outside on one side, if enough do."""
    side, n_outside = points[-1].side, 0
    while side and n_outside < len(points) and points[-1 - n_outside].side == side:
        n_outside += 1
    return points[-n_outside].n_tokens if n_outside >= IN_A_ROW else None
