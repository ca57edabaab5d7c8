"""The joint distribution of losses at several points, and what more measurements would tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from dcpt.laws.two_level.scale import Scale

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Joint:
    """A joint normal distribution of a channel's loss at M points, on the scale of the model.

    Args:
        mean: Shape (M,), on the scale of the model (:class:`Scale`).
        covariance: Shape (M, M), of the loss without the noise of a run.
        scale: Converts losses in nats per token to the scale of the model and back.
        noise: Standard deviation of a single measured run, on the scale of the model.
    """

    mean: Array
    covariance: Array
    scale: Scale
    noise: float

    @property
    def losses(self) -> Array:
        """Median loss, shape (M,), nats per token."""
        return self.scale.to_losses(self.mean)

    @property
    def deviations(self) -> Array:
        """Standard deviation on the scale of the model, shape (M,)."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))

    def given(
        self,
        index: NDArray[np.intp] | list[int],
        losses: Array | None = None,
        noise: float | None = None,
    ) -> Joint:
        """The distribution after runs at some of the points are measured; nothing is fitted again.

        Args:
            index: Points that are measured, each by a run of its own; a point may be repeated.
            losses: What they measure, nats per token. None asks for the covariance before
                anything is measured: the mean stays.
            noise: Standard deviation of a measured run on the scale of the model; None takes the
                noise of the runs that the model was fitted to.

        Returns:
            The distribution at the same M points.
        """
        rows = np.asarray(index, dtype=np.intp)
        if len(rows) == 0:
            return self
        noise = self.noise if noise is None else noise
        across = self.covariance[:, rows]
        measured = self.covariance[np.ix_(rows, rows)] + noise**2 * np.eye(len(rows))
        gain = cho_solve(cho_factor(measured, lower=True), across.T).T
        mean = self.mean
        if losses is not None:
            mean = mean + gain @ (self.scale.take(rows).to_model(losses) - mean[rows])
        return Joint(mean, self.covariance - gain @ across.T, self.scale, self.noise)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_] | list[int]) -> Joint:
        """The distribution at some of the points, by index or by a mask of shape (M,)."""
        rows = np.arange(len(self.mean))[index]
        part = self.covariance[np.ix_(rows, rows)]
        return Joint(self.mean[rows], part, self.scale.take(rows), self.noise)

    def draws(self, n_draws: int, seed: int) -> Array:
        """Joint draws of the losses without the noise of a run, shape (n_draws, M), nats."""
        normal = np.random.default_rng([seed, 5]).standard_normal((n_draws, len(self.mean)))
        return self.scale.to_losses(self.mean + normal @ symmetric_root(self.covariance))


def symmetric_root(covariance: Array) -> Array:
    """The symmetric square root of a covariance, shape (M, M)."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
