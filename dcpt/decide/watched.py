"""Where a large run stands: its points, its forecast, and both in sentences."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dcpt.decide.records import Interval, Target
from dcpt.quantities import (
    count_things,
    format_count,
    format_difference,
    format_loss,
    format_losses,
    format_percent,
)


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
        n_tokens: Tokens at its last point.
        target: What it was predicted for.
        ratio: Its share of domain text.
        learning_rate: Its peak learning rate; None where the runs of the fit have none.
        phase: Phase of the end.
        level: Interval probability.
        channels: The channels, those with a limit first.
        earlier_end: Tokens at which the run could end, decay included, and keep its limits; None
            where they are kept anyway, an end now would break one, or the decay has begun.
        n_in_decay: Points within the final decay, before its end, which are not judged.
        unseen: Channels of the fit that the log has no loss of.
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
    n_in_decay: int = 0
    unseen: tuple[str, ...] = ()

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
            *self.notes,
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
    def notes(self) -> list[str]:
        """What the log lacks, and which points are not judged; empty if all is."""
        words = []
        if self.n_in_decay:
            words.append(
                "The final decay has begun. No law describes what lies within it "
                f"({count_things(self.n_in_decay, 'point')}); its end will be judged."
            )
        if self.unseen:
            words.append(f"The log has no loss of {', '.join(self.unseen)}: not watched.")
        return words

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
        if self.n_in_decay:
            return [
                "The decay has begun. Go back to a checkpoint before it and decay from an earlier "
                "one, or with less domain text, which lowers the general loss; no law here says by "
                "how much."
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
