"""The covariance of the two-level model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.two_level.coordinates import Coordinates

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """Prior of a surface over share, rate, tokens and phase: linear terms and a smooth rest.

    Args:
        linear: Standard deviation of each linear feature's coefficient, shape (12,).
        smooth: Standard deviation of the smooth rest.
        decay: Standard deviation of the smooth difference of annealed from constant points.
    """

    linear: Array
    smooth: float
    decay: float

    def covariance(self, a: Coordinates, b: Coordinates, smooth: Array) -> Array:
        """Covariance of the surface at M and M' points, given the smooth kernel there."""
        linear = (a.features() * self.linear**2) @ b.features().T
        return linear + (self.smooth**2 + self.decay**2 * np.outer(a.annealed, b.annealed)) * smooth


@dataclass(frozen=True)
class Prior:
    """Prior of the two-level model of one side; learnt from public tables.

    With n the size coordinate (0 at the smallest size), the loss on the scale of the model is

        level(x) + n drift(x) + walk(x, n)

    where x are share, rate, tokens and phase, and ``walk`` is a random walk in n whose increments
    are surfaces. ``drift`` continues a change with size that several sizes show; ``walk`` is what
    changes between sizes in no lasting direction.

    Args:
        rate_power: Power of the base's peak rate that learning rates are divided by.
        knee: Rise in nats at which the scale of general losses turns from linear to logarithmic.
        lengths: Length scales of share, rate and tokens of the level.
        growth_lengths: The same for drift and walk.
        centre: Mean of each linear feature's coefficient at the smallest size, shape (12,): what a
            decay changes in all domains.
        level: The surface at the smallest size, around that mean.
        drift: The change per unit of n.
        walk: The increments of the random walk per unit of n.
        run_noise: Standard deviation between runs that differ in their seed alone.
        point_noise: Standard deviation between points of a run.
    """

    rate_power: float
    knee: float
    lengths: tuple[float, float, float]
    growth_lengths: tuple[float, float, float]
    centre: Array
    level: Surface
    drift: Surface
    walk: Surface
    run_noise: float
    point_noise: float

    @property
    def noise(self) -> float:
        """Standard deviation of the end of a run on the scale of the model."""
        return float(np.hypot(self.run_noise, self.point_noise))

    def with_noise(self, factor: float) -> Prior:
        """The same prior with this many times the noise."""
        return replace(
            self, run_noise=factor * self.run_noise, point_noise=factor * self.point_noise
        )

    def mean(self, at: Coordinates) -> Array:
        """Mean of the loss at M points, shape (M,)."""
        return at.features() @ self.centre

    def covariance(self, a: Coordinates, b: Coordinates) -> Array:
        """Covariance of the loss without noise at M and M' points, shape (M, M')."""
        result = self.level.covariance(a, b, _smooth(a, b, self.lengths))
        wide = _smooth(a, b, self.growth_lengths)
        result += np.outer(a.size, b.size) * self.drift.covariance(a, b, wide)
        # A random walk starts anew on either side of the smallest size.
        shared = np.minimum.outer(np.abs(a.size), np.abs(b.size))
        same_side = np.equal.outer(a.size > 0, b.size > 0)
        result += shared * same_side * self.walk.covariance(a, b, wide)
        return result


def _smooth(a: Coordinates, b: Coordinates, lengths: tuple[float, float, float]) -> Array:
    """Squared-exponential kernel over share, rate and tokens, shape (M, M')."""
    square = np.zeros((len(a), len(b)))
    for name, length in zip(("share", "rate", "tokens"), lengths, strict=True):
        square += ((getattr(a, name)[:, None] - getattr(b, name)) / length) ** 2
    return np.exp(-0.5 * square)
