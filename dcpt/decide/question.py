"""Turn a fit and a target into a question for the laws: checks, channels, rates, points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.decide.axes import measured_shares, rate_grid, ratio_grid, seen_rates
from dcpt.decide.checks import impossible, missing, named_losses, with_unique_tokens
from dcpt.decide.general_mix import check_mix, mix_columns
from dcpt.decide.limited_channels import find_limits, find_weights, mean_loss
from dcpt.decide.records import Target
from dcpt.decide.target_schedule import choose_schedule, missing_history, phase_of_target
from dcpt.decide.worst_channel import GENERAL_WORST, as_worst, limit_of_worst
from dcpt.errors import InputError
from dcpt.laws.fits.two_level_member import TWO_LEVEL
from dcpt.laws.points.record import SAME, Points
from dcpt.limit import Limit

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit
    from dcpt.laws.fits.stack import Comparison
    from dcpt.table.schedules import Schedule

Array = NDArray[np.float64]


RIVAL_ERROR = 2.0
"""A law is shown as an alternative if its held-out error is at most this many times the chosen
law's."""


@dataclass(frozen=True)
class Question:
    """What a decision predicts: channels, limit in nats, and the axes of its grid.

    Args:
        fit: The fitted laws.
        target: The target, checked; its base losses are keyed by the fit's channels.
        phase: ``annealed`` where the runs have such points, else ``constant``.
        general: Channel that the limit is on; ``general_worst`` if limits are on several; without
            a limit the general channel, None if the fit has none.
        limits: Limits by channel; empty without a limit.
        domain: The domain channel.
        minimized: Weights of the channels in the mean loss that is minimized. The domain alone,
            unless the target has weights.
        allowed: Largest allowed loss of ``general``, nats per token; infinite without a limit.
        ratio: Shares of domain text that are compared, ascending, shape (R,).
        rates: Learning rates of the grid, ascending, shape (L,); a NaN alone if the runs have none.
        seen: Those of ``rates`` that runs were trained at (or the NaN alone).
        choosable: The rates that the decision may choose; a single rate if it is fixed.
        texts_of_runs: Unique tokens by channel that the target lacks and the runs have.
        schedule: Name of the runs' schedule that the target follows; None where they name none.
    """

    fit: Fit
    target: Target
    phase: str
    general: str | None
    limits: Mapping[str, Limit]
    domain: str
    minimized: Mapping[str, float]
    allowed: float
    ratio: Array
    rates: Array
    seen: Array
    choosable: Array
    texts_of_runs: Mapping[str, float]
    schedule: str | None = None

    @property
    def base_loss(self) -> float:
        """The base's own loss of ``general``, nats per token; NaN where it is not known."""
        return self.target.base_losses.get(self.general or "", math.nan)

    @property
    def parts(self) -> tuple[str, ...]:
        """The limited channels if ``general`` is ``general_worst``, else empty."""
        return tuple(self.limits) if self.general == GENERAL_WORST else ()

    @property
    def decisive(self) -> list[str]:
        """The channels that decide the answer: the limited and the minimized ones."""
        return [*self.limits, *self.minimized]

    def points(self, channel: str, ratio: Array, rate: Array) -> Points:
        """Build the target's points at pairs of ratio and learning rate, for a channel's laws.

        Args:
            channel: The channel to predict.
            ratio: Shares of domain text, shape (M,).
            rate: Learning rates, shape (M,); NaN where the runs have none.
        """
        return self.points_at(channel, self.frame(ratio, rate))

    def points_at(self, channel: str, frame: pd.DataFrame) -> Points:
        """Build points for a channel's laws, each at the end of the target's schedule.

        Args:
            channel: The channel to predict.
            frame: Rows such as those of :meth:`frame`.
        """
        return self.fit.points(channel, frame, shape=self.shape)

    @property
    def shape(self) -> Schedule | None:
        """The schedule that the target follows, stretched to its length; None without one."""
        return None if self.schedule is None else self.fit.schedules[self.schedule]

    def frame(self, ratio: Array, rate: Array) -> pd.DataFrame:
        """The target at pairs of ratio and learning rate, with the table's columns.

        Args:
            ratio: Shares of domain text, shape (M,).
            rate: Learning rates, shape (M,); NaN where the runs have none.
        """
        target = self.target
        frame = pd.DataFrame({"ratio": ratio, "learning_rate": rate})
        known = {
            "n_params": target.n_params,
            "n_tokens": target.n_tokens,
            "base_peak_learning_rate": target.base_peak_learning_rate,
            "base_n_tokens": target.base_n_tokens,
            "warmup_tokens": target.warmup_tokens,
            **{
                f"base_loss_{name}": loss
                for name, loss in target.base_losses.items()
                if name != GENERAL_WORST
            },
            **{f"unique_tokens_{name}": n for name, n in target.unique_tokens.items()},
            **mix_columns(target.mix, ratio),
        }
        frame = frame.assign(**{n: v for n, v in known.items() if v is not None}, phase=self.phase)
        if np.isnan(rate).all():
            frame = frame.drop(columns="learning_rate")
        return frame

    def extrapolation(self, rate: float | None) -> dict[str, float]:
        """Factor by which the target lies outside the points of its phase, per axis; 1 inside."""
        asked = {
            "n_params": self.target.n_params,
            "n_tokens": self.target.n_tokens,
            "learning_rate": self.target.learning_rate or rate,
        }
        factors = {}
        for axis, value in asked.items():
            seen = self.ranges.get(axis)
            if value is not None and seen is not None:
                factor = max(value / seen[1], seen[0] / value)
                factors[axis] = factor if factor > 1 + SAME else 1.0
        return factors

    def outside_shares(self, ratio: float) -> float:
        """How far a share lies outside those that the runs were trained at; 0 inside."""
        if "ratio" not in self.ranges:
            return 0.0
        low, high = self.ranges["ratio"]
        away = max(low - ratio, ratio - high)
        return away if away > 1e-9 else 0.0

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of each axis among the points of the phase decided on."""
        return self.fit.ranges_in(self.phase)

    def weights(self, channel: str, rate: float) -> dict[str, float]:
        """Weights of the laws that predict the target at a learning rate."""
        points = self.points(channel, self.ratio, np.full(len(self.ratio), rate))
        return self.fit.weights_at(channel, points)

    @property
    def channels(self) -> list[str]:
        """The channels predicted: the fit's, and ``general_worst`` if several have limits."""
        return [*self.fit.channels, *([GENERAL_WORST] if self.parts else [])]

    def worst(self, losses: Mapping[str, Array]) -> Array:
        """Compute ``general_worst`` from the losses of the limited channels."""
        worst = [self.as_worst(part, losses[part]) for part in self.parts]
        return np.asarray(np.max(worst, axis=0), dtype=np.float64)

    def as_worst(self, part: str, losses: Array) -> Array:
        """The loss of a limited channel, expressed as ``general_worst``."""
        return as_worst(losses, part, self.limits, self.target.base_losses)

    def objective(self, losses: Mapping[str, Any]) -> Array:
        """The mean loss that is minimized, from the losses of its channels."""
        return mean_loss(self.minimized, losses)

    def central(self, channel: str, ratio: Array, rate: Array) -> Array:
        """Central predictions of a channel at pairs, nats per token, shape (M,)."""
        return self.central_at(channel, self.frame(ratio, rate))

    def central_at(self, channel: str, frame: pd.DataFrame) -> Array:
        """Central predictions of a channel at rows such as those of :meth:`frame`, shape (M,)."""
        if channel == GENERAL_WORST:
            return self.worst({part: self.central_at(part, frame) for part in self.parts})
        return self.fit.central(channel, self.points_at(channel, frame))

    def by_law(self, channel: str, ratio: Array, rate: Array) -> dict[str, Array]:
        """Predictions of each good law and of the two-level model alone, nats, shape (M,) each.

        Good are the laws of the phase whose held-out error is at most twice that of the chosen
        law: a law without weight in the stack may be nearly as good.
        """
        if channel == GENERAL_WORST:
            return {
                f"{law} ({part})": self.as_worst(part, losses)
                for part in self.parts
                for law, losses in self.by_law(part, ratio, rate).items()
            }
        points, channel_fit = self.points(channel, ratio, rate), self.fit.by_channel[channel]
        comparison = channel_fit.comparisons[self.phase]
        rivals = {
            law: channel_fit.members[law]
            for law in comparison.weights
            if _held_out_ratio(comparison, law) <= RIVAL_ERROR
            and channel_fit.members[law].refuse(points) is None
        }
        alone = {law: member.predict(points) for law, member in rivals.items()}
        model = channel_fit.two_level
        if model is not None and model.refuse(points) is None:
            alone[TWO_LEVEL] = model.predict(points)
        return alone

    def draws(self, channel: str, ratio: Array, rate: Array) -> Array:
        """Bootstrap draws of a channel's losses at pairs, nats per token, shape (n_draws, M)."""
        return self.draws_at(channel, self.frame(ratio, rate))

    def draws_at(self, channel: str, frame: pd.DataFrame) -> Array:
        """Bootstrap draws at rows such as those of :meth:`frame`, shape (n_draws, M)."""
        if channel == GENERAL_WORST:
            return self.worst({part: self.draws_at(part, frame) for part in self.parts})
        return self.fit.sample(channel, self.points_at(channel, frame))


def _held_out_ratio(comparison: Comparison, law: str) -> float:
    """Held-out error of a law over that of the chosen law, on the splits that both have."""
    own, best = comparison.errors[law], comparison.errors[comparison.choice]
    if law == comparison.choice:
        return 1.0
    shared = own.keys() & best.keys()
    if not shared:
        return math.inf
    return math.hypot(*(own[s] for s in shared)) / math.hypot(*(best[s] for s in shared))


def ask(fit: Fit, target: Target) -> Question:
    """Check a target against a fit and turn both into a question.

    Args:
        fit: The fit.
        target: The target.

    Raises:
        InputError: With all problems, one sentence each.
    """
    schedule, phase = choose_schedule(fit, target), phase_of_target(fit, target)
    general, domain = _channels(fit)
    limits = find_limits(fit, target, general)
    target = replace(target, weights=find_weights(fit, target, general))
    minimized = target.weights or {domain: 1.0}
    target = named_losses(fit, target, general)
    target, texts_of_runs, unknown_texts = with_unique_tokens(fit, target, general, phase)
    target, wrong_mix = check_mix(fit, target, phase)
    problems = [
        *impossible(target),
        *wrong_mix,
        *missing(fit, target, list(limits), list(minimized), phase),
        *missing_history(fit, target, phase),
        *unknown_texts,
    ]
    if problems:
        raise InputError(problems)
    general, allowed, target = _combine_limits(target, limits, general)
    seen = seen_rates(fit, target, phase)
    if target.warmup_tokens is None:
        target = replace(target, warmup_tokens=fit.warmup_tokens)
    rates, choosable = rate_grid(seen, target.learning_rate)
    return Question(
        fit=fit,
        target=target,
        phase=phase,
        general=general,
        limits=limits,
        domain=domain,
        minimized=minimized,
        allowed=allowed,
        ratio=ratio_grid() if limits else measured_shares(fit, phase),
        rates=rates,
        seen=seen,
        choosable=choosable,
        texts_of_runs=texts_of_runs,
        schedule=schedule,
    )


def _combine_limits(
    target: Target, limits: Mapping[str, Limit], general: str | None
) -> tuple[str | None, float, Target]:
    """Express the limits as one, on a channel or on ``general_worst``.

    Returns:
        That channel, its largest allowed loss, and the target with the base's loss of it.
    """
    losses = target.base_losses
    if not limits:
        return general, math.inf, target
    if len(limits) == 1:
        ((channel, limit),) = limits.items()
        return channel, limit.on(losses[channel]), target
    base = losses.get(general or "", float(np.mean([losses[name] for name in limits])))
    target = replace(target, base_losses={**losses, GENERAL_WORST: base})
    return GENERAL_WORST, limit_of_worst(limits, losses, base), target


def _channels(fit: Fit) -> tuple[str | None, str]:
    """The fitted channel of the general side, None if there is none, and the domain's."""
    if any(flag.kind == "mixtures_without_ratio" for flag in fit.flags):
        raise InputError(
            "the runs have mixtures of their own and no share of domain text, so no mixture can be "
            "recommended: fit a table in which the domain's share and loss are share_domain and "
            "loss_domain (--column share_domain=NAME --column loss_domain=NAME), or ask the losses "
            "of a mixture with fit.predict(share_<channel>=...)"
        )
    if fit.domain_channel is None:
        raise InputError(
            f"the fit has no domain channel (channels: {', '.join(fit.channels)}): a share is "
            "chosen for its domain loss; fit a table with a column loss_domain"
        )
    fitted = fit.general_channel in fit.general_channels
    return fit.general_channel if fitted else None, fit.domain_channel
