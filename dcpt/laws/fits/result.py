"""A fit: the laws of every channel with their draws, and the predictions made from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.flags import Flag
from dcpt.laws.fits.channel_fit import ChannelFit
from dcpt.laws.fits.coverage import PHASES, flag_question
from dcpt.laws.fits.horizon import Horizon
from dcpt.laws.fits.run_off import RUN_OFF
from dcpt.laws.fits.summary import Summary, summarise
from dcpt.laws.flags.kinds import distinct_flags, make_flag
from dcpt.laws.points.channel_data import SHARE
from dcpt.laws.points.questions import ask_points, check_question, frame_from_keywords
from dcpt.laws.points.record import HISTORY, Points
from dcpt.table.channels import GENERAL_TOTAL, weighted_total
from dcpt.table.schedules import Schedule
from dcpt.table.units import Bases

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WithoutRun:
    """The fit without the one run that disagrees with all others.

    Args:
        run: The run that was left out.
        by_channel: The fit of each channel, of its laws with weight only and with fewer draws.
    """

    run: str
    by_channel: Mapping[str, ChannelFit]


@dataclass(frozen=True, repr=False)
class Fit:
    """Laws fitted to a runs table.

    Args:
        by_channel: The fit of each channel, in the table's order.
        general_channel: The channel that represents the general side (it need not be fitted); None
            if there is none, or several without a total.
        domain_channel: The domain channel; None if the table has none.
        seen_rates: Every (n_params or None, learning_rate, phase) that was fitted; empty if the
            table names no learning rate.
        flags: Warnings about the table's design, its channels and the laws with weight.
        warmup_tokens: The warmup that all runs share; None if it differs or is unknown.
        batch_tokens: The batch that all runs share; None if it differs or is unknown.
        n_draws: Bootstrap draws per channel.
        seed: Seed of starts and draws.
        table_sha256: Hash of the runs table's content.
        delta: Threshold of the Huber loss, in log loss.
        general_weights: Weight of each general channel in their total; empty if there is one.
        general_mix: Lowest and highest part of each channel in the general text of the runs; empty
            where the table does not name them.
        tied_sources: Sources of the general text whose shares the runs do not change apart from
            those of the others; empty if they change every share on its own.
        validation_channels: Channels that were measured and never trained on.
        bases: Loss at D = 0 of each channel by size.
        size_column: The column that is N in the laws; None if the table names no sizes.
        schedules: The learning-rate schedules that the fitted runs name.
        without: The fit without the run that disagrees with all others; None if there is none.
    """

    by_channel: Mapping[str, ChannelFit]
    general_channel: str | None
    domain_channel: str | None
    seen_rates: tuple[tuple[float | None, float, str], ...]
    flags: tuple[Flag, ...]
    warmup_tokens: float | None
    batch_tokens: float | None
    n_draws: int
    seed: int
    table_sha256: str
    delta: float
    general_weights: Mapping[str, float] = field(default_factory=dict)
    general_mix: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    tied_sources: tuple[str, ...] = ()
    validation_channels: tuple[str, ...] = ()
    bases: Mapping[str, Bases] = field(default_factory=dict)
    size_column: str | None = "n_params"
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    without: WithoutRun | None = None

    def __repr__(self) -> str:
        laws = {name: list(channel.members) for name, channel in self.by_channel.items()}
        labels = [flag.label for flag in self.flags]
        return f"Fit(laws={laws}, n_draws={self.n_draws}, seed={self.seed}, flags={labels})"

    @property
    def channels(self) -> list[str]:
        """Fitted channels."""
        return list(self.by_channel)

    def without_run(self) -> Fit | None:
        """This fit without the run that disagrees with all others; None if there is none."""
        if self.without is None:
            return None
        others = self.without.by_channel
        flags = tuple(flag for flag in self.flags if flag.kind != RUN_OFF)
        n_draws = min(len(of.ranks) for of in others.values())
        return replace(self, by_channel=others, flags=flags, n_draws=n_draws, without=None)

    @property
    def general_channels(self) -> list[str]:
        """Fitted channels of the general side, without validation channels."""
        sides = {n: of.side for n, of in self.by_channel.items()}
        apart = self.validation_channels
        return [name for name, side in sides.items() if side == "general" and name not in apart]

    @property
    def phase_for_decisions(self) -> str:
        """``annealed`` if every fitted channel has annealed points, else ``constant``."""
        every = all("annealed" in fit.comparisons for fit in self.by_channel.values())
        return "annealed" if every else "constant"

    def central(self, channel: str, points: Points) -> Array:
        """Central prediction of a channel's loss: the weighted mean of its laws.

        Args:
            channel: A fitted channel.
            points: M points of that channel (:meth:`points`).

        Returns:
            Shape (M,), nats per token.

        Raises:
            InputError: If no law of the channel holds there, with each reason.
        """
        return self._channel(channel).central(points)

    def sample(self, channel: str, points: Points) -> Array:
        """Predictive draws of a channel's loss, pooled over its laws.

        Draw i uses the same resampled runs in every channel. It includes a law error for each
        channel, scaled by the held-out error of the split that resembles the question.

        Args:
            channel: A fitted channel.
            points: M points of that channel (:meth:`points`).

        Returns:
            Shape (n_draws, M), nats per token.

        Raises:
            InputError: If no law of the channel holds there, with each reason.
        """
        return self._channel(channel).sample(points)

    def predict(
        self,
        points: pd.DataFrame | None = None,
        level: float = 0.9,
        schedules: Mapping[str, Schedule] | None = None,
        **keywords: Any,
    ) -> pd.DataFrame:
        """Predict the losses of every fitted channel, with intervals.

        Args:
            points: A frame with table columns. They can also be given by keyword (``n_params=``,
                ``n_tokens=``, ``ratio=``, ``learning_rate=``, ``phase=``, ``base_loss_general=``,
                ...), numbers or arrays.
            level: Probability of the interval.
            schedules: The schedules named in the column ``schedule``.
            keywords: Columns.

        Returns:
            One row per channel and point with D > 0 (rows at D = 0 give a base's losses): the
            columns of the points, ``channel``, ``loss``, ``low``, ``high`` (nats per token).

        Raises:
            InputError: If a column is missing, unknown, breaks a rule of the runs table, or lies
                outside the range of every law.
        """
        if not 0 < level < 1:
            raise InputError(f"level {level} is not a probability; give a number such as 0.9")
        self._refuse_unread_shares(keywords)
        frame = frame_from_keywords(keywords) if points is None else points.reset_index(drop=True)
        check_question(frame)
        if "n_tokens" in frame.columns:
            at_base = frame["n_tokens"] == 0
        else:
            at_base = pd.Series(False, index=frame.index)
        tails = [0.5 - level / 2, 0.5 + level / 2]
        parts = []
        for channel in self.by_channel:
            asked = self.points(channel, frame, schedules).take(np.asarray(~at_base))
            low, high = np.quantile(self.sample(channel, asked), tails, axis=0)
            part = frame[~at_base].copy()
            part["channel"] = channel
            part["loss"], part["low"], part["high"] = self.central(channel, asked), low, high
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def points(
        self,
        channel: str,
        frame: pd.DataFrame,
        schedules: Mapping[str, Schedule] | None = None,
        shape: Schedule | None = None,
    ) -> Points:
        """The points of a channel at a frame's rows.

        Args:
            channel: A fitted channel.
            frame: Table columns. Warmup and batch default to those of the runs, the phase to that
                of decisions.
            schedules: The schedules named in the column ``schedule``.
            shape: The schedule that every row is at the end of, stretched to its tokens; None takes
                what the columns say.
        """
        laws = [member.law for member in self._channel(channel).members.values()]
        return ask_points(
            self._with_total(frame),
            channel,
            self._channel(channel).side,
            self.general_channel,
            {"warmup_tokens": self.warmup_tokens, "batch_tokens": self.batch_tokens},
            self.phase_for_decisions,
            schedules,
            with_history=any(not HISTORY.isdisjoint(law.needs) for law in laws),
            sources=next((law.sources for law in laws if law.sources), ()),
            shape=shape,
        )

    def _refuse_unread_shares(self, keywords: Mapping[str, Any]) -> None:
        """Refuse shares of channels that are asked for and that no law reads."""
        members = [m for fit in self.by_channel.values() for m in fit.members.values()]
        asked = [name for name, v in keywords.items() if name.startswith(SHARE) and v is not None]
        if asked and not any(member.law.sources for member in members):
            raise InputError(
                f"{', '.join(asked)}: no law of this fit reads the shares of channels, so they "
                "would change nothing: leave them out (--mix), or fit runs of several mixes"
            )

    def _with_total(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Add the base's loss on all general channels together, if it follows from theirs."""
        total, weights = f"base_loss_{GENERAL_TOTAL}", self.general_weights
        if not weights or total in frame or not all(f"base_loss_{n}" in frame for n in weights):
            return frame
        parts = {name: frame[f"base_loss_{name}"] for name in weights}
        return frame.assign(**{total: weighted_total(parts, weights)})

    @property
    def sha256(self) -> str:
        """Hash of the table, the number of draws, the seed, and each law's values and weights."""
        laws = [
            (law["channel"], law["law"], law["parameters"], law["weight"]) for law in self.records()
        ]
        content = json.dumps([self.table_sha256, self.n_draws, self.seed, laws], sort_keys=True)
        return hashlib.sha256(content.encode("utf-8")).hexdigest()

    def flags_at(self, channel: str, points: Points) -> tuple[Flag, ...]:
        """Warnings about points: axes outside the runs, and laws that do not hold there.

        Args:
            channel: A fitted channel.
            points: M points of that channel (:meth:`points`).
        """
        fit, outside, not_asked = self._channel(channel), [], []
        for phase, is_annealed in sorted(PHASES.items()):
            part = points.take((points.get("annealed") > 0) == is_annealed)
            if len(part) == 0:
                continue
            outside += flag_question(part, self.ranges_in(phase))
            not_asked += [
                make_flag("not_asked", {"channel": channel, "law": law})
                for law, weight in fit.comparisons[phase].weights.items()
                if weight > 0 and not fit.members[law].accepts(part).all()
            ]
        return distinct_flags([*outside, *not_asked])

    def ranges_in(self, phase: str) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of each axis among the points of a phase."""
        ranges: dict[str, tuple[float, float]] = {}
        for fit in self.by_channel.values():
            for name, (low, high) in fit.seen.ranges_in(phase).items():
                before = ranges.get(name, (low, high))
                ranges[name] = (min(low, before[0]), max(high, before[1]))
        return ranges

    def horizons(self, phase: str | None = None) -> dict[str, Horizon]:
        """Errors of rolling-origin tests by channel, in a phase (that of decisions by default).

        Channels without such tests are absent.
        """
        wanted = phase or self.phase_for_decisions
        return {
            name: fit.horizons[wanted]
            for name, fit in self.by_channel.items()
            if wanted in fit.horizons
        }

    def residuals(self) -> pd.DataFrame:
        """Measured and predicted loss and their difference, a row per point, law and channel."""
        parts = [pd.DataFrame(dict(fit.residuals)) for fit in self.by_channel.values()]
        frame = pd.concat(parts, ignore_index=True)
        return frame.assign(residual=frame["measured"] - frame["predicted"])

    def left_out(self) -> pd.DataFrame:
        """Rows that were not fitted: row (the header is row 1), channel, reason."""
        rows = [
            {"row": row, "channel": name, "reason": reason}
            for name, fit in self.by_channel.items()
            for row, reason in fit.left_out
        ]
        return pd.DataFrame(rows, columns=["row", "channel", "reason"])

    def weights(self, channel: str, phase: str | None = None) -> dict[str, float]:
        """Weights of a channel's laws in a phase (that of decisions by default)."""
        comparisons = self._channel(channel).comparisons
        wanted = phase or self.phase_for_decisions
        if wanted not in comparisons:
            raise InputError(
                f"channel {channel} has no {wanted} points; it has {', '.join(comparisons)}"
            )
        return dict(comparisons[wanted].weights)

    def weights_at(self, channel: str, points: Points) -> dict[str, float]:
        """Weights of the laws that predict these points; not every law holds everywhere.

        Args:
            channel: A fitted channel.
            points: M points of that channel (:meth:`points`).

        Returns:
            The mean weight over the points of each law of their phase; sum 1.

        Raises:
            InputError: If no law of the channel holds there, with each reason.
        """
        return self._channel(channel).weights_at(points)

    def records(self) -> list[dict[str, Any]]:
        """A record per (channel, law): parameters, objective, flags, held-out errors, weights."""
        result = []
        for channel, fit in self.by_channel.items():
            for name, member in fit.members.items():
                phases = {p: c for p, c in fit.comparisons.items() if name in c.weights}
                wanted = self.phase_for_decisions
                phase = wanted if wanted in phases else next(iter(phases))
                result.append(
                    {
                        "channel": channel,
                        "law": name,
                        "formula": member.law.formula,
                        "objective": member.objective,
                        "parameters": dict(
                            zip(member.law.names, map(float, member.values), strict=True)
                        ),
                        "units": {p.name: p.unit for p in member.law.parameters},
                        "meanings": {p.name: p.meaning for p in member.law.parameters},
                        "references": dict(member.references.__dict__),
                        "flags": [flag.as_dict() for flag in member.flags],
                        "n_points": member.n_points,
                        "n_fitted": member.n_fitted,
                        "held_out": dict(phases[phase].errors[name]),
                        "held_out_phase": phase,
                        "weight": {p: c.weights[name] for p, c in phases.items()},
                        "chosen": [p for p, c in phases.items() if c.choice == name],
                    }
                )
        return result

    def summary(self) -> Summary:
        """A line per (channel, law), and the warnings."""
        return summarise(self.records(), self.flags)

    def _channel(self, channel: str) -> ChannelFit:
        if channel not in self.by_channel:
            raise InputError(
                f"channel {channel!r} was not fitted; the fit has {', '.join(self.by_channel)}"
            )
        return self.by_channel[channel]
