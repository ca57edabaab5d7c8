"""The two-level model of a channel: conditioned on a table's points, it predicts losses jointly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from dcpt.errors import InputError
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.record import Points, distinct, known
from dcpt.laws.two_level.coordinates import (
    Coordinates,
    Scales,
    coordinates_of,
    scales_of,
    share_coordinate,
)
from dcpt.laws.two_level.joint import Joint, symmetric_root
from dcpt.laws.two_level.kernel import Prior
from dcpt.laws.two_level.lattice import (
    Lattice,
    groups,
    lattice_over,
)
from dcpt.laws.two_level.priors import shipped_prior
from dcpt.laws.two_level.scale import Scale

Array = NDArray[np.float64]

NEEDED = ("n_params", "n_tokens", "ratio")
"""Fields that the model needs at every point; a general channel needs its base loss too."""

LARGEST_RATIO = 0.98
"""Points above this share are not used: the loss of text that is hardly trained on is steep."""

EARLIEST = 1 / 16
"""Points before this part of the longest run are not used: what is learnt first, for example a
script that the base never saw, changes with size in a way of its own."""

POINTS_OF_A_RUN = 3
"""Most constant points of a run: its curve is smooth, and they cost most of the time."""

MOST_POINTS = 1_000
"""Most points of a channel; the solution takes time with their third power."""

RATES_AROUND = 0.5
"""How far the lattice of draws goes beyond the rates of the table, in ln of the rate."""

NOISE_FACTORS = (1.0, 1.4, 2.0, 2.8, 4.0)
"""Noise of a table in units of the prior's, of which the most likely is taken.

None is below 1: the smooth curves of the model follow the noise of sparse runs, so a table always
seems to have less. The small sizes of all public ladders take 1. Synthetic tables with twice the
prior's noise take 1.4 to 2.8 (``experiments/calibration.md``)."""

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

    @property
    def negative_log_evidence(self) -> float:
        """Minus the log marginal likelihood of the measured losses, without its constant."""
        gaps = self.values - self.prior.mean(self.seen)
        return float(0.5 * gaps @ self._solved + np.log(np.diag(self.root)).sum())

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
        mean, covariance = self._posterior(self._coordinates(points))
        scale = _scale(points, self.side, self.prior.knee)
        return Joint(mean, covariance, scale, self.prior.noise)

    def accepts(self, points: Points) -> NDArray[np.bool_]:
        """Points at which the model predicts, shape (M,)."""
        return known(points, self._needs())

    def deviations(self, points: Points) -> Array:
        """Standard deviations of the losses at points without run noise, shape (M,), nats."""
        values, variances = self._interpolated(points, self._moments)
        scale = _scale(points, self.side, self.prior.knee)
        return np.sqrt(np.maximum(variances, 0.0)) * scale.slope(values)

    def predict(self, points: Points) -> Array:
        """Median losses at points, shape (M,), nats per token."""
        (values,) = self._interpolated(points, lambda asked: (self._mean(asked),))
        return _scale(points, self.side, self.prior.knee).to_losses(values)

    def sample(
        self, points: Points, rows: NDArray[np.intp], seed: Sequence[int], spread: float = 1.0
    ) -> Array:
        """Joint draws of the losses that new runs would measure.

        The noise of a run is the same at all points of a draw, as that of its order of texts.

        Args:
            points: M points of the channel.
            rows: Numbers of the draws. A draw is the same function in every call.
            seed: Seeds of the draws.
            spread: Factor of the model's own deviations from the mean.

        Returns:
            Shape (len(rows), M), nats per token.
        """
        asked, scale = self._coordinates(points), _scale(points, self.side, self.prior.knee)
        values, lattice = np.zeros((len(rows), len(asked))), self._lattice(asked)
        rng = np.random.default_rng([*seed, 5])
        drawn = rng.standard_normal((max(rows, default=-1) + 1, lattice.size + 1))[rows]
        normal, noise = spread * drawn[:, :-1], self.prior.noise * drawn[:, -1:]
        for (tokens, annealed, size), index in groups(asked):
            mean, covariance = self._posterior(lattice.at(tokens, annealed, size))
            at_nodes = mean + noise + normal @ symmetric_root(covariance)
            values[:, index] = at_nodes @ lattice.weights(asked.take(index)).T
        return scale.to_losses(values)

    def _needs(self) -> tuple[str, ...]:
        needed = ["n_tokens", "ratio", *([] if self.side == "domain" else ["base_loss"])]
        if self.scales.learning_rate is not None:
            needed.append("learning_rate")
        if self.scales.base_peak_learning_rate is not None and self.prior.rate_power > 0:
            needed.append("base_peak_learning_rate")
        return tuple(dict.fromkeys([*needed, self.scales.size_field]))

    def _coordinates(self, points: Points) -> Coordinates:
        return coordinates_of(points, self.side, self.scales, self.prior.rate_power)

    def _interpolated(
        self, points: Points, of: Callable[[Coordinates], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        """Smooth functions at points, from the nodes of lattices where there are more points.

        Args:
            points: M points.
            of: Computes the functions at coordinates of P points, shape (P,) each.

        Returns:
            Shape (M,) each.
        """
        asked = self._coordinates(points)
        lattice = self._lattice(asked)
        parts = []
        for (tokens, annealed, size), index in groups(asked):
            few = asked.take(index)
            if len(index) <= lattice.size:
                parts.append((index, of(few)))
            else:
                weights = lattice.weights(few)
                at_nodes = of(lattice.at(tokens, annealed, size))
                parts.append((index, tuple(weights @ values for values in at_nodes)))
        order = np.argsort(np.concatenate([index for index, _ in parts]))
        columns = zip(*(found for _, found in parts), strict=True)
        return tuple(np.concatenate(column)[order] for column in columns)

    def _mean(self, asked: Coordinates) -> Array:
        """Mean at points, on the scale of the model, shape (M,)."""
        return self.prior.mean(asked) + self.prior.covariance(asked, self.seen) @ self._solved

    def _moments(self, asked: Coordinates) -> tuple[Array, Array]:
        """Mean and variance at points, on the scale of the model, shape (M,) each."""
        mean, covariance = self._posterior(asked)
        return mean, np.diag(covariance)

    def _posterior(self, asked: Coordinates) -> tuple[Array, Array]:
        """Mean and covariance at points, on the scale of the model."""
        across = self.prior.covariance(asked, self.seen)
        explained = solve_triangular(self.root, across.T, lower=True)
        covariance = self.prior.covariance(asked, asked) - explained.T @ explained
        mean = self.prior.mean(asked) + across @ self._solved
        return mean, 0.5 * (covariance + covariance.T)

    def _lattice(self, asked: Coordinates) -> Lattice:
        """Nodes over all shares, and over rates up to a factor of 1.6 from those of the table."""
        shares = share_coordinate(np.array([0.0, 1.0]), self.side)
        low = min(self.seen.rate.min() - RATES_AROUND, asked.rate.min(initial=0.0))
        high = max(self.seen.rate.max() + RATES_AROUND, asked.rate.max(initial=0.0))
        return lattice_over((shares[0], shares[1]), (low, high))

    @cached_property
    def root(self) -> Array:
        """Lower Cholesky factor of the covariance of the measured losses, shape (M, M)."""
        covariance = self.prior.covariance(self.seen, self.seen)
        covariance += self.prior.run_noise**2 * np.equal.outer(self.runs, self.runs)
        covariance[np.diag_indices(len(self.seen))] += self.prior.point_noise**2 + JITTER**2
        return np.asarray(cholesky(covariance, lower=True, overwrite_a=True))

    @cached_property
    def _solved(self) -> Array:
        """Inverse covariance times the measured losses less the prior's mean, shape (M,)."""
        return np.asarray(cho_solve((self.root, True), self.values - self.prior.mean(self.seen)))


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
    """Condition the two-level model on the points of a channel; only the noise is fitted.

    Args:
        data: The channel's points. Of each run at most 3 constant points are used.
        prior: The prior; None takes the shipped one of the channel's side.

    Raises:
        InputError: If the table lacks a field that the model needs, or has a single size.
    """
    reason = refuse_table(data)
    if reason is not None:
        raise InputError(f"channel {data.channel}: the two-level model {reason}")
    return _with_likely_noise(condition(thin(data), prior or shipped_prior(data.side)))


def _with_likely_noise(model: TwoLevel) -> TwoLevel:
    """The model with the noise that its points show, at least that of its prior."""
    models = [replace(model, prior=model.prior.with_noise(factor)) for factor in NOISE_FACTORS]
    return min(models, key=lambda of: of.negative_log_evidence)


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
    constant = data.points.get("annealed") == 0
    tokens = data.points.get("n_tokens")
    mask = (data.points.get("ratio") <= LARGEST_RATIO) & (tokens >= EARLIEST * tokens.max())
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
