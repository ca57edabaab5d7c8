"""The two-level model of a channel: conditioned on a table's points, it predicts losses jointly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from dcpt.errors import InputError
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.record import Points, distinct, known
from dcpt.laws.two_level.coordinates import Coordinates, Scales, coordinates_of, scales_of
from dcpt.laws.two_level.joint import Joint
from dcpt.laws.two_level.kernel import Prior
from dcpt.laws.two_level.priors import shipped_prior
from dcpt.laws.two_level.scale import Scale

Array = NDArray[np.float64]

NEEDED = ("n_params", "n_tokens", "ratio")
"""Fields that the model needs at every point; a general channel needs its base loss too."""

LARGEST_RATIO = 0.98
"""Points above this share are not used: the loss of text that is hardly trained on is steep."""

POINTS_OF_A_RUN = 5
"""Most constant points of a run: its curve is smooth, and they cost most of the time."""

MOST_POINTS = 1_000
"""Most points of a channel; the solution takes time with their third power."""

JITTER = 1e-6
"""Added to the diagonal, in standard deviations of the model's scale: for rounding errors."""


@dataclass(frozen=True)
class TwoLevel:
    """The two-level model of a channel, conditioned on the points of a table.

    Args:
        channel: Its name.
        side: ``general`` or ``domain``.
        prior: The prior, learnt from public tables.
        scales: The scales of the table.
        seen: Coordinates of the M points that it is conditioned on.
        values: Their losses on the scale of the model, shape (M,).
        runs: Number of each point's run, shape (M,).
    """

    channel: str
    side: str
    prior: Prior
    scales: Scales
    seen: Coordinates
    values: Array
    runs: NDArray[np.intp]

    def refuse(self, points: Points) -> str | None:
        """Why the model does not predict all of these points; None if it does."""
        missing = [name for name in self._needs() if not known(points, (name,)).all()]
        return f"two-level needs {', '.join(missing)} at every point" if missing else None

    def joint(self, points: Points) -> Joint:
        """The joint distribution of the losses at points.

        Args:
            points: M points of the channel, at any sizes and in any phases. Time and memory grow
                with M squared; for a large grid use :meth:`sample`.

        Raises:
            InputError: If a field that the model needs is missing.
        """
        reason = self.refuse(points)
        if reason is not None:
            raise InputError(f"channel {self.channel} cannot be predicted: {reason}")
        asked = self._coordinates(points)
        across = self.prior.covariance(asked, self.seen)
        explained = solve_triangular(self.root, across.T, lower=True)
        covariance = self.prior.covariance(asked, asked) - explained.T @ explained
        return Joint(
            mean=across @ self._solved,
            covariance=0.5 * (covariance + covariance.T),
            scale=_scale(points, self.side, self.prior.knee),
            noise=self.prior.noise,
        )

    def central(self, points: Points) -> Array:
        """Median losses at points, shape (M,), nats per token."""
        across = self.prior.covariance(self._coordinates(points), self.seen)
        return _scale(points, self.side, self.prior.knee).to_losses(across @ self._solved)

    def _needs(self) -> tuple[str, ...]:
        needed = ["n_tokens", "ratio", *([] if self.side == "domain" else ["base_loss"])]
        if self.scales.learning_rate is not None:
            needed.append("learning_rate")
        if self.scales.base_peak_learning_rate is not None and self.prior.rate_power > 0:
            needed.append("base_peak_learning_rate")
        return tuple(dict.fromkeys([*needed, self.scales.size_field]))

    def _coordinates(self, points: Points) -> Coordinates:
        return coordinates_of(points, self.side, self.scales, self.prior.rate_power)

    @cached_property
    def root(self) -> Array:
        """Lower Cholesky factor of the covariance of the measured losses, shape (M, M)."""
        covariance = self.prior.covariance(self.seen, self.seen)
        covariance += self.prior.run_noise**2 * np.equal.outer(self.runs, self.runs)
        covariance[np.diag_indices(len(self.seen))] += self.prior.point_noise**2 + JITTER**2
        return np.asarray(cholesky(covariance, lower=True, overwrite_a=True))

    @cached_property
    def _solved(self) -> Array:
        """Inverse covariance times the measured losses, shape (M,)."""
        return np.asarray(cho_solve((self.root, True), self.values))


def refuse_table(data: ChannelData) -> str | None:
    """Why the two-level model does not suit the points of a channel; None if it does."""
    needed = NEEDED if data.side == "domain" else (*NEEDED, "base_loss")
    missing = [name for name in needed if not known(data.points, (name,)).all()]
    if missing:
        return f"needs {', '.join(missing)} at every point"
    if len(distinct(data.points, "n_params")) < 2:
        return "needs runs of at least two sizes"
    return None


def fit_two_level(data: ChannelData, prior: Prior | None = None) -> TwoLevel:
    """Condition the two-level model on the points of a channel; no parameter is fitted.

    Args:
        data: The channel's points. Of each run at most 5 constant points are used.
        prior: The prior; None takes the shipped one of the channel's side.

    Raises:
        InputError: If the table lacks a field that the model needs, or has a single size.
    """
    reason = refuse_table(data)
    if reason is not None:
        raise InputError(f"channel {data.channel}: the two-level model {reason}")
    return condition(thin(data), shipped_prior(data.side) if prior is None else prior)


def condition(data: ChannelData, prior: Prior) -> TwoLevel:
    """Condition a prior on all points of a channel, which may have a single size."""
    scales = scales_of(data.points)
    return TwoLevel(
        channel=data.channel,
        side=data.side,
        prior=prior,
        scales=scales,
        seen=coordinates_of(data.points, data.side, scales, prior.rate_power),
        values=_scale(data.points, data.side, prior.knee).to_model(data.losses),
        runs=data.runs,
    )


def thin(data: ChannelData) -> ChannelData:
    """The points to condition on: all annealed ones and a few constant ones of each run."""
    mask = data.points.get("ratio") <= LARGEST_RATIO
    constant = data.points.get("annealed") == 0
    tokens = data.points.get("n_tokens")
    for most in range(POINTS_OF_A_RUN, 0, -1):
        used = mask & ~constant
        for run in np.unique(data.runs):
            index = np.flatnonzero(mask & constant & (data.runs == run))
            index = index[np.argsort(tokens[index])]
            chosen = np.unique(np.linspace(len(index) - 1, 0, most).round().astype(int))
            used[index[chosen] if len(index) else []] = True
        if used.sum() <= MOST_POINTS:
            break
    return data.take(used)


def _scale(points: Points, side: str, knee: float) -> Scale:
    return Scale(None if side == "domain" else points.get("base_loss"), knee)
