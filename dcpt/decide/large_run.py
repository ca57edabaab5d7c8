"""A large run against its prediction: where a channel leaves the band, and where it will end.

The forecast of the end is the prediction, shifted by what the prediction missed in the phase of
the end, if there are points in the second half of the run. Its interval stays as wide as that of
the prediction: one of draws that meet the measured points held 25 to 50 % of the ends instead of
90 %. Losses at constant rate do not shift the forecast of a loss after the decay, since what is
missed there does not carry over (``experiments/watch.md`` has the errors on known runs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.decide.question import Array, Question, ask
from dcpt.decide.records import Interval, Target
from dcpt.decide.target_schedule import points_along
from dcpt.decide.watched import Watched, WatchedChannel, WatchedPoint
from dcpt.decide.watched_rows import watched_rows
from dcpt.errors import InputError
from dcpt.laws.points.record import Points

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

SHIFTED_FROM = 0.5
"""Part of the target's tokens from which points shift the forecast. Chosen in hindsight from
``experiments/watch.md``: shifted at a quarter of a run the domain loss was missed by more."""

LATEST_PART = 1 / 3
"""Part of the judged points in the phase of the end, the last ones, that shift the curve."""

IN_A_ROW = 3
"""Points in a row on one side of the band after which a channel has left it."""

N_ENDS = 40
"""Earlier ends that are tried where the limit will not be kept."""


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
        InputError: If the table holds several runs, another size or more tokens than were
            predicted, no point can be judged yet, or a channel with a limit is not in the table.
    """
    question = ask(fit, target)
    rows = watched_rows(runs, question)
    own, last = rows.judged, min(rows.n_tokens, target.n_tokens)
    rate = float("nan") if learning_rate is None else learning_rate
    ends = np.linspace(last, target.n_tokens, N_ENDS)
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
    if any(channel.breaks_limit for channel in channels) and not rows.n_in_decay:
        kept = [curves[channel].shifted <= allowed for channel, allowed in limits.items()]
        within = np.flatnonzero(np.all(kept, axis=0))
        earlier = float(ends[within[-1]]) if len(within) else None
    return Watched(
        run=str(own["run"].iloc[0]),
        n_tokens=rows.n_tokens,
        target=question.target,
        ratio=ratio,
        learning_rate=learning_rate,
        phase=question.phase,
        level=level,
        channels=channels,
        earlier_end=earlier,
        n_in_decay=rows.n_in_decay,
        unseen=tuple(channel for channel in fit.channels if channel not in curves),
    )


def _limits(question: Question) -> Mapping[str, float]:
    """The largest allowed loss of every channel that has a limit, nats per token."""
    losses = question.target.base_losses
    return {name: limit.on(losses[name]) for name, limit in question.limits.items()}


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
        phases = seen["phase"]
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
