"""The history of a learning-rate curve at a step: its areas, and its drops with their ages.

Steps count from 1, and the rate before the first step is 0: a warmup is a series of negative drops.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Steps = NDArray[np.intp]

FADE = 0.999
"""Factor by which a drop in ``anneal_area`` fades per step (arXiv 2408.11029)."""

MOST_DROPS = 128
"""Most drops that a point keeps; drops of neighbouring steps are summed."""

FINEST = 8
"""Number of steps before a point that are kept as separate drops."""

GROWTH = 1.2
"""Farther back, the steps between a distance and this many times that distance form a drop."""

MEAN_POWER = 0.4
"""Exponent of the power mean over rates: that of a rate in the multi-power law (gamma times beta as
published). The law's loss is then within 3e-5 nats of its loss on all drops; the arithmetic mean
has five times that error, mostly from the rates near 0 in a warmup."""

BLOCK = 2048
"""Steps whose fading is computed at once; ``FADE ** -BLOCK`` must not overflow."""


@dataclass(frozen=True)
class Curve:
    """A learning rate step by step.

    Args:
        rates: Learning rate of steps 1 to T, shape (T,).
        ends: Steps that divide the curve into pieces that only rise, only fall or are constant;
            drops in different pieces are never summed.
    """

    rates: Array
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class History:
    """The curve before each of M points, in the unit of its rates: J >= 1 drops, zero-padded.

    Args:
        lr_area: S1, sum of the rates so far, shape (M,).
        anneal_area: S2, sum over the drops so far and all steps since each, fading, shape (M,).
        drop_sizes: Rate before minus rate after, shape (M, J).
        drop_rates: Rate after the drop (the highest of the curve as padding), shape (M, J).
        drop_areas: Sum of the rates from the drop to the point, both included, shape (M, J).
    """

    lr_area: Array
    anneal_area: Array
    drop_sizes: Array
    drop_rates: Array
    drop_areas: Array

    def take(self, index: Steps, unit: Array) -> History:
        """The points at an index, shape (I,), in another unit of the rates for each, shape (I,)."""
        values = {
            column.name: getattr(self, column.name)[index].T * unit for column in fields(self)
        }
        return History(**{name: rows.T for name, rows in values.items()})


def history_at(curve: Curve, steps: Steps, most: int = MOST_DROPS) -> History:
    """Compute the history before some steps of a curve.

    If a curve changes at many steps, changes at about the same distance from the point are merged
    into a drop: its size is exactly their sum, its rate and area are their means.

    Args:
        curve: A learning rate step by step.
        steps: Steps from 0 to T, shape (M,).
        most: Most drops per point; more than twice the number of ends of the curve.
    """
    rates = np.concatenate([[0.0], curve.rates])
    areas = np.cumsum(rates)
    drops = np.concatenate([[0.0], -np.diff(rates)])
    # A drop counts at its own step and, fading, at every step since: a sum of geometric series.
    anneal = (-rates - FADE * _faded(drops)) / (1.0 - FADE)

    edges = _edges(steps, curve.ends, most)
    weight = np.abs(drops)
    total = _between(weight, edges)
    there = total > 0
    share = 1.0 / np.where(there, total, 1.0)
    sizes = rates[edges[:, :-1]] - rates[edges[:, 1:]]
    after = (_between(weight * rates**MEAN_POWER, edges) * share) ** (1.0 / MEAN_POWER)
    before = _between(weight * (areas - rates), edges) * share
    kept = np.argsort(~there, axis=1, kind="stable")[:, : max(1, int(there.sum(axis=1).max()))]

    def packed(values: Array, padding: float) -> Array:
        return np.take_along_axis(np.where(there, values, padding), kept, axis=1)

    return History(
        lr_area=areas[steps],
        anneal_area=anneal[steps],
        drop_sizes=packed(sizes, 0.0),
        drop_rates=packed(after, float(rates.max())),
        drop_areas=packed(areas[steps][:, None] - before, 0.0),
    )


def _faded(drops: Array) -> Array:
    """At each step the sum of drops so far, each times ``FADE`` to the power of its age."""
    blocks = np.zeros((-(-len(drops) // BLOCK), BLOCK))
    blocks.ravel()[: len(drops)] = drops
    powers = FADE ** np.arange(BLOCK)
    faded = np.cumsum(blocks / powers, axis=1) * powers
    for block, following in pairwise(faded):
        following += block[-1] * FADE * powers
    whole: Array = faded.ravel()[: len(drops)]
    return whole


def _edges(steps: Steps, ends: tuple[int, ...], most: int) -> Steps:
    """Steps after which a drop ends, from 0 to the point itself, shape (M, at most ``most`` + 1).

    They lie at distances 0, 1, 2 ... FINEST from the point, then at distances that grow by the
    factor GROWTH, or by a larger one if ``most`` is too small for that.
    """
    farthest = int(steps.max())
    distances = np.arange(min(farthest, FINEST) + 1)
    if farthest > FINEST:
        wanted = int(np.ceil(np.log(farthest / FINEST) / np.log(GROWTH)))
        room = most - len(ends) - len(distances)
        longer = np.geomspace(FINEST, farthest, min(wanted, room) + 1)[1:]
        distances = np.concatenate([distances, np.rint(longer).astype(np.intp)])
    back = np.maximum(steps[:, None] - distances, 0)
    cuts = np.minimum(steps[:, None], np.array((0, *ends), dtype=np.intp))
    return np.sort(np.concatenate([back, cuts], axis=1), axis=1)


def _between(values: Array, edges: Steps) -> Array:
    """Sums of the values between consecutive edges, shape (M, groups)."""
    return np.diff(np.cumsum(values)[edges], axis=1)
