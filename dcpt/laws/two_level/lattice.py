"""Interpolation of smooth functions of share and rate from a lattice of nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.two_level.coordinates import Coordinates

Array = NDArray[np.float64]

SHARE_NODES, RATE_NODES = 12, 12
"""Nodes of the lattice along share and rate; interpolated losses are within 1e-4 nats."""


@dataclass(frozen=True)
class Lattice:
    """Chebyshev nodes over share and rate, at fixed tokens, phase and size.

    The posterior of the two-level model is smooth, so a joint draw at these nodes gives the loss
    at any number of shares and rates. Equal tokens, phases and sizes have equal lattices, so the
    draws of separate calls are the same functions.

    Args:
        shares: Nodes of the share coordinate, shape (S,).
        rates: Nodes of the rate coordinate, shape (R,).
    """

    shares: Array
    rates: Array

    @property
    def size(self) -> int:
        """Number of nodes."""
        return len(self.shares) * len(self.rates)

    def at(self, tokens: float, annealed: float, size: float) -> Coordinates:
        """Coordinates of the nodes, S x R points."""
        share = np.repeat(self.shares, len(self.rates))
        like = np.ones_like(share)
        return Coordinates(
            share=share,
            rate=np.tile(self.rates, len(self.shares)),
            tokens=tokens * like,
            annealed=annealed * like,
            size=size * like,
        )

    def weights(self, points: Coordinates) -> Array:
        """Weights of the nodes at M points, shape (M, S x R)."""
        along_share = _lagrange(self.shares, points.share)
        along_rate = _lagrange(self.rates, points.rate)
        product = along_share[:, :, None] * along_rate[:, None]
        return np.asarray(product.reshape(len(points), -1))


def lattice_over(shares: tuple[float, float], rates: tuple[float, float]) -> Lattice:
    """The lattice over two ranges."""
    return Lattice(_nodes(*shares, SHARE_NODES), _nodes(*rates, RATE_NODES))


def _nodes(low: float, high: float, number: int) -> Array:
    """Chebyshev nodes of the second kind, ascending; they include both ends."""
    unit = -np.cos(np.pi * np.arange(number) / (number - 1))
    return low + (high - low) * 0.5 * (unit + 1.0)


def _lagrange(nodes: Array, at: Array) -> Array:
    """Lagrange polynomials of Chebyshev nodes, in barycentric form, shape (M, number of nodes)."""
    signs = (-1.0) ** np.arange(len(nodes))
    signs[[0, -1]] *= 0.5
    away = at[:, None] - nodes
    on_node = away == 0
    terms = signs / np.where(on_node, 1.0, away)
    weights = terms / terms.sum(axis=1, keepdims=True)
    hit = on_node.any(axis=1)
    weights[hit] = on_node[hit]
    return np.asarray(weights)


def groups(points: Coordinates) -> list[tuple[tuple[float, float, float], NDArray[np.intp]]]:
    """Points with equal tokens, phase and size: these three, and the index of the points."""
    three = np.stack([points.tokens, points.annealed, points.size], axis=1)
    if (three == three[:1]).all():  # sorting the 9,000 points of a decision takes 5 ms
        return [((float(t), float(a), float(n)), np.arange(len(three))) for t, a, n in three[:1]]
    distinct, of_point = np.unique(three, axis=0, return_inverse=True)
    return [
        ((float(row[0]), float(row[1]), float(row[2])), np.flatnonzero(of_point.ravel() == i))
        for i, row in enumerate(distinct)
    ]
