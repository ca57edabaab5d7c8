"""Where the labels of lines stand, so that each is beside its own line and on no other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

Array = NDArray[np.float64]

WIDTH = 0.14
"""About the width of a label, as a part of the axes; its height is a third of that."""


def place_labels(ax: Axes, lines: Sequence[tuple[Array, Array]]) -> list[tuple[float, float]]:
    """Choose a point of each line that is far from the other lines and the labels before.

    Args:
        ax: The axes, with their limits set.
        lines: x and y of each line.

    Returns:
        The points, in data; NaN for a line outside the axes.
    """
    shown = [_inside(ax, *line) for line in lines]
    placed: list[tuple[float, float]] = []
    taken: list[Array] = []
    for i, own in enumerate(shown):
        if not len(own):
            placed.append((np.nan, np.nan))
            continue
        others = [points for j, points in enumerate(shown) if j != i and len(points)]
        obstacles = np.concatenate([*others, *taken]) if others or taken else own[:0]
        best = own[_room(own, obstacles).argmax()]
        taken.append(_box(best))
        placed.append(tuple(_to_data(ax, best)))
    return placed


def _inside(ax: Axes, x: Array, y: Array) -> Array:
    """Points of a line within the axes and not at their edge, as fractions, shape (P, 2)."""
    along = np.linspace(0, len(x) - 1, 8 * len(x))
    dense = [np.interp(along, np.arange(len(x)), values) for values in (x, y)]
    limits = zip(dense, (ax.get_xlim(), ax.get_ylim()), strict=True)
    points = np.stack([(values - low) / (high - low) for values, (low, high) in limits], axis=1)
    kept: Array = points[((points > 0.03) & (points < [1 - WIDTH / 2, 0.95])).all(axis=1)]
    return kept


def _to_data(ax: Axes, point: Array) -> Array:
    limits = np.array([ax.get_xlim(), ax.get_ylim()])
    found: Array = limits[:, 0] + point * (limits[:, 1] - limits[:, 0])
    return found


def _room(points: Array, obstacles: Array) -> Array:
    """Distance of each point to the nearest obstacle, in units of a label's size, at most 1."""
    if not len(obstacles):
        return np.ones(len(points))
    scale = np.array([WIDTH, WIDTH / 3])
    apart = np.linalg.norm((points[:, None] - obstacles[None]) / scale, axis=2)
    room: Array = np.minimum(apart.min(axis=1), 1.0)
    return room


def _box(point: Array) -> Array:
    """Points over the area of a label, shape (15, 2)."""
    steps = np.meshgrid(np.linspace(-0.5, 0.5, 5), np.linspace(-0.5, 0.5, 3))
    offsets = np.stack([step.ravel() for step in steps], axis=1)
    box: Array = point + offsets * [WIDTH, WIDTH / 3]
    return box
