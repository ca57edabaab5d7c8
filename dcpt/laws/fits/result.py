"""A fit: every channel's laws with their draws; what decisions, reports and people ask."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.fits.channel_fit import ChannelFit
from dcpt.laws.fits.coverage import PHASES, flag_question
from dcpt.laws.fits.summary import Summary, summarise
from dcpt.laws.points.questions import ask_points, check_question, frame_from_keywords
from dcpt.laws.points.record import Points
from dcpt.table.channels import GENERAL_TOTAL, weighted_total
from dcpt.table.schedules import Schedule

Array = NDArray[np.float64]

HISTORY = frozenset({"lr_area", "anneal_area", "drop_sizes", "drop_rates", "drop_areas"})
"""Fields of the points that come from the learning rate's whole history."""


@dataclass(frozen=True, repr=False)
class Fit:
    """Laws fitted to a runs table.

    Args:
        by_channel: One record per channel, in the table's order.
        general_channel: The channel that stands for the general side (it may not be among those
            fitted); None if there is none, or several and no total.
        domain_channel: The domain's channel; None if the table has none.
        seen_rates: Every (n_params or None, learning_rate, phase) that was fitted; empty where the
            table names no learning rate.
        flags: Warnings: of the design as they are, of a law as ``<channel>/<law>/<name>``.
        warmup_tokens: The runs' warmup, where it is one.
        batch_tokens: The runs' batch, where it is one.
        n_draws: Draws per channel.
        seed: Of starts and draws.
        table_sha256: Of the runs table's content.
        delta: Huber's threshold, in log loss.
        general_weights: Of several general channels, what each counts in their total; else empty.
    """

    by_channel: Mapping[str, ChannelFit]
    general_channel: str | None
    domain_channel: str | None
    seen_rates: tuple[tuple[float | None, float, str], ...]
    flags: tuple[str, ...]
    warmup_tokens: float | None
    batch_tokens: float | None
    n_draws: int
    seed: int
    table_sha256: str
    delta: float
    general_weights: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        laws = {name: list(one.members) for name, one in self.by_channel.items()}
        return f"Fit(laws={laws}, n_draws={self.n_draws}, seed={self.seed}, flags={self.flags})"

    @property
    def channels(self) -> list[str]:
        """Fitted channels."""
        return list(self.by_channel)

    @property
    def general_channels(self) -> list[str]:
        """Fitted channels of the general side."""
        return [name for name, one in self.by_channel.items() if one.side == "general"]

    @property
    def phase_for_decisions(self) -> str:
        """``annealed`` if every fitted channel has annealed points, else ``constant``."""
        every = all("annealed" in one.comparisons for one in self.by_channel.values())
        return "annealed" if every else "constant"

    def central(self, channel: str, points: Points) -> Array:
        """Best prediction of one channel's loss: stack-weighted mean of the laws.

        Args:
            channel: A fitted channel.
            points: M points as that channel sees them.

        Returns:
            Shape (M,), nats per token.

        Raises:
            InputError: If no law of the channel holds there, with each reason.
        """
        return self._channel(channel).central(points)

    def sample(self, channel: str, points: Points) -> Array:
        """Predictive draws of one channel's loss, pooled over its laws.

        Draw i is the same resampled runs in every channel. It carries one own error of the law per
        channel, as large as the held-out error of the split shaped like the question.

        Args:
            channel: A fitted channel.
            points: M points as that channel sees them.

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
        """Losses of every fitted channel, with intervals.

        Args:
            points: A frame with table columns; or give them by keyword (``n_params=``,
                ``n_tokens=``, ``ratio=``, ``learning_rate=``, ``phase=``, ``base_loss_general=``,
                ...), numbers or arrays.
            level: Probability of the interval.
            schedules: Those that the column ``schedule`` names.
            keywords: Columns.

        Returns:
            One row per point with D > 0 and channel (rows at D = 0 give a base's losses): the
            question's columns, ``channel``, ``loss``, ``low``, ``high`` (nats per token).

        Raises:
            InputError: If a column is missing, unknown, breaks a rule of the runs table, or lies
                out of a law's range.
        """
        if not 0 < level < 1:
            raise InputError(f"level {level} is not a probability; give a number such as 0.9")
        frame = frame_from_keywords(keywords) if points is None else points.reset_index(drop=True)
        check_question(frame)
        if "n_tokens" in frame.columns:
            at_base = frame["n_tokens"] == 0
        else:
            at_base = pd.Series(False, index=frame.index)
        tails = [0.5 - level / 2, 0.5 + level / 2]
        parts = []
        for channel, one in self.by_channel.items():
            asked = self.points(channel, frame, schedules).take(np.asarray(~at_base))
            low, high = np.quantile(self.sample(channel, asked), tails, axis=0)
            part = frame[~at_base].copy()
            part["channel"] = one.channel
            part["loss"], part["low"], part["high"] = self.central(channel, asked), low, high
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def points(
        self,
        channel: str,
        frame: pd.DataFrame,
        schedules: Mapping[str, Schedule] | None = None,
    ) -> Points:
        """A frame's rows as one channel sees them.

        Where the frame has no warmup or batch it is that of the runs, where it has no phase that
        of decisions.
        """
        return ask_points(
            self._with_total(frame),
            channel,
            self._channel(channel).side,
            self.general_channel,
            {"warmup_tokens": self.warmup_tokens, "batch_tokens": self.batch_tokens},
            self.phase_for_decisions,
            schedules,
            with_history=any(
                not HISTORY.isdisjoint(one.law.needs)
                for one in self._channel(channel).members.values()
            ),
        )

    def _with_total(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The base's loss on all general channels together, where it follows from their own."""
        total, weights = f"base_loss_{GENERAL_TOTAL}", self.general_weights
        if not weights or total in frame or not all(f"base_loss_{n}" in frame for n in weights):
            return frame
        parts = {name: frame[f"base_loss_{name}"] for name in weights}
        return frame.assign(**{total: weighted_total(parts, weights)})

    @property
    def sha256(self) -> str:
        """Of what the fit says: its table, channels, laws with their values, draws and seed."""
        said = [
            (one["channel"], one["law"], one["parameters"], one["weight"]) for one in self.records()
        ]
        content = json.dumps([self.table_sha256, self.n_draws, self.seed, said], sort_keys=True)
        return hashlib.sha256(content.encode("utf-8")).hexdigest()

    def not_asked(self, channel: str, points: Points) -> list[str]:
        """Flags ``<channel>/<law>/not_asked`` of laws that weigh and do not hold at every point."""
        one, flags = self._channel(channel), []
        for phase, is_annealed in PHASES.items():
            part = points.take((points.get("annealed") > 0) == is_annealed)
            for law, weight in one.comparisons[phase].weights.items() if len(part) else ():
                if weight > 0 and not one.members[law].accepts(part).all():
                    flags.append(f"{channel}/{law}/not_asked")
        return list(dict.fromkeys(flags))

    def flags_at(self, points: Points) -> tuple[str, ...]:
        """Warnings about a question: ``extrapolates:<field>`` for each field outside the runs."""
        phases = {"annealed" if one > 0 else "constant" for one in points.get("annealed")}
        flags = [
            flag_question(
                points.take((points.get("annealed") > 0) == (phase == "annealed")),
                self.ranges_in(phase),
            )
            for phase in sorted(phases)
        ]
        return tuple(dict.fromkeys(flag for some in flags for flag in some))

    def ranges_in(self, phase: str) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of each field among the points of a phase."""
        ranges: dict[str, tuple[float, float]] = {}
        for one in self.by_channel.values():
            for name, (low, high) in one.seen.ranges_in(phase).items():
                before = ranges.get(name, (low, high))
                ranges[name] = (min(low, before[0]), max(high, before[1]))
        return ranges

    def residuals(self) -> pd.DataFrame:
        """One row per fitted point, law and channel: measured, predicted, and their difference."""
        parts = [pd.DataFrame(dict(one.residuals)) for one in self.by_channel.values()]
        frame = pd.concat(parts, ignore_index=True)
        return frame.assign(residual=frame["measured"] - frame["predicted"])

    def left_out(self) -> pd.DataFrame:
        """Rows that were not fitted: row (the header is row 1), channel, reason."""
        rows = [
            {"row": row, "channel": name, "reason": reason}
            for name, one in self.by_channel.items()
            for row, reason in one.left_out
        ]
        return pd.DataFrame(rows, columns=["row", "channel", "reason"])

    def weights(self, channel: str, phase: str | None = None) -> dict[str, float]:
        """Stack weights of a channel's laws in a phase (that of decisions by default)."""
        one = self._channel(channel)
        wanted = phase or self.phase_for_decisions
        if wanted not in one.comparisons:
            raise InputError(
                f"channel {channel} has no {wanted} points; it has {', '.join(one.comparisons)}"
            )
        return dict(one.comparisons[wanted].weights)

    def weights_at(self, channel: str, points: Points) -> dict[str, float]:
        """Weights of the laws really asked about these points: some may not hold there.

        Args:
            channel: A fitted channel.
            points: M points as that channel sees them.

        Returns:
            By law of the points' phase, the mean over the points; sum 1.

        Raises:
            InputError: If no law of the channel holds there, with each reason.
        """
        return self._channel(channel).weights_at(points)

    def records(self) -> list[dict[str, Any]]:
        """One record per (channel, law): parameters, objective, flags, held-out errors, weights."""
        result = []
        for channel, one in self.by_channel.items():
            for name, member in one.members.items():
                phases = {p: c for p, c in one.comparisons.items() if name in c.weights}
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
                        "units": {one.name: one.unit for one in member.law.parameters},
                        "meanings": {one.name: one.meaning for one in member.law.parameters},
                        "references": dict(member.references.__dict__),
                        "flags": list(member.flags),
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
        """A line per (channel, law), and the flags in words."""
        return summarise(self.records(), self.flags)

    def _channel(self, channel: str) -> ChannelFit:
        if channel not in self.by_channel:
            raise InputError(
                f"channel {channel!r} was not fitted; the fit has {', '.join(self.by_channel)}"
            )
        return self.by_channel[channel]
