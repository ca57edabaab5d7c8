"""Coordinates of the two-level model: functions of share, rate, tokens, size and phase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.points.record import Points, distinct

Array = NDArray[np.float64]

GENERAL_END = 1.03
"""The general loss is smooth in -ln(1.03 - share of domain text), also in the steep rise near 1."""

DOMAIN_START = 0.05
"""The domain loss is smooth in ln(share of domain text + 0.05)."""

BASE_LOSS_PER_SIZE = 0.08
"""Decrease of ln of the base's general loss per unit of ln of its size: 0.04 to 0.09 in the public
ladders. It brings both size coordinates to the same unit."""

MIDDLE_RATE = 0.3
"""The rate at which the rate coordinate is 0, in units of the base's peak learning rate."""


@dataclass(frozen=True)
class Scales:
    """The values of a table that coordinates are relative to.

    Args:
        size_field: What the size coordinate is the log of: ``base_loss_general``, ``base_loss`` or
            ``n_params``.
        size_value: Its value at the smallest size.
        n_tokens: Largest number of CPT tokens.
        learning_rate: The rate at which the rate coordinate of the smallest size is 0.
        base_peak_learning_rate: Peak learning rate of the smallest base; None if unknown.
    """

    size_field: str
    size_value: float
    n_tokens: float
    learning_rate: float | None
    base_peak_learning_rate: float | None


@dataclass(frozen=True)
class Coordinates:
    """Coordinates of M points, each of shape (M,).

    Args:
        share: Grows with the share of domain text.
        rate: ln of the learning rate, partly relative to the base's peak rate.
        tokens: ln of the tokens over the largest number of the table; 0 there, else below.
        annealed: 1 after the decay, else 0.
        size: ln of the size over the smallest size, or what the base's loss says about it; 0 at the
            smallest size, and higher for larger sizes.
    """

    share: Array
    rate: Array
    tokens: Array
    annealed: Array
    size: Array

    def __len__(self) -> int:
        return len(self.share)

    def features(self) -> Array:
        """Linear features 1, z, l, d, zl, zd, ld, p, pl, pz, pd, pld, shape (M, 12)."""
        z, l_, d, p = self.share, self.rate, self.tokens, self.annealed
        smooth = [np.ones_like(z), z, l_, d, z * l_, z * d, l_ * d]
        return np.stack([*smooth, p, p * l_, p * z, p * d, p * l_ * d], 1)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Coordinates:
        """Select points by index or by a mask of shape (M,)."""
        return Coordinates(
            self.share[index],
            self.rate[index],
            self.tokens[index],
            self.annealed[index],
            self.size[index],
        )


def scales_of(points: Points) -> Scales:
    """The scales of a table's points, which have sizes, tokens and ratios."""
    sizes = points.get("n_params")
    at_smallest = sizes <= sizes.min() * (1 + 1e-6)
    everywhere = np.ones(len(points), dtype=bool)
    peak = _middle(points.base_peak_learning_rate, at_smallest)
    rate = _middle(points.learning_rate, everywhere) if peak is None else MIDDLE_RATE * peak
    if points.learning_rate is None:
        rate = None
    field = _size_field(points)
    size = _middle(getattr(points, field), at_smallest)
    assert size is not None, "the size field is known at every point"
    return Scales(field, size, float(points.get("n_tokens").max()), rate, peak)


def _size_field(points: Points) -> str:
    """The base's loss where it falls with every step in size, else the number of parameters.

    With ln of the general channel's base loss the change from 1.8M and 6.6M to 29M is met within
    0.03 nats for the domain, with ln of the number of parameters within 0.13 (code, zh).
    """
    sizes = distinct(points, "n_params")
    for field in ("base_loss_general", "base_loss"):
        values = getattr(points, field)
        if values is None or not np.isfinite(values).all():
            continue
        by_size = [values[np.isclose(points.get("n_params"), n, rtol=1e-6)].mean() for n in sizes]
        if (np.diff(by_size) < 0).all():
            return field
    return "n_params"


def _middle(values: Array | None, there: NDArray[np.bool_]) -> float | None:
    """Geometric mean of the values at some points; None if any value of the table is unknown."""
    if values is None or not np.isfinite(values).all():
        return None
    return float(np.exp(np.log(values[there]).mean()))


def share_coordinate(ratio: Array, side: str) -> Array:
    """The share coordinate of shares of domain text, same shape."""
    return np.log(ratio + DOMAIN_START) if side == "domain" else -np.log(GENERAL_END - ratio)


def coordinates_of(points: Points, side: str, scales: Scales, rate_power: float) -> Coordinates:
    """Coordinates of points.

    Args:
        points: M points of a channel with sizes, tokens and ratios.
        side: ``general`` or ``domain``.
        scales: The scales of the fitted table.
        rate_power: Power of the base's peak rate that learning rates are divided by: 0 compares
            sizes at the same rate, 1 at the same multiple of their base's peak rate.
    """
    ratio = points.get("ratio")
    share = share_coordinate(ratio, side)
    rate = np.zeros(len(points))
    if scales.learning_rate is not None:
        rate = np.log(points.get("learning_rate") / scales.learning_rate)
        if scales.base_peak_learning_rate is not None:
            peaks = points.get("base_peak_learning_rate")
            rate = rate - rate_power * np.log(peaks / scales.base_peak_learning_rate)
    annealed = np.zeros(len(points)) if points.annealed is None else points.annealed
    size = np.log(points.get(scales.size_field) / scales.size_value)
    if scales.size_field != "n_params":
        size = -size / BASE_LOSS_PER_SIZE
    return Coordinates(
        share=share,
        rate=rate,
        tokens=np.log(points.get("n_tokens") / scales.n_tokens),
        annealed=annealed,
        size=size,
    )
