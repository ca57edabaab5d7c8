"""Shares along a learning rate: which meet the limit, which of them is best.

The general loss normally rises with the share, so the shares within the limit are those below the
share at which it crosses the limit. Laws may bend: text repeated too often can raise the general
loss at the very smallest shares, and a poorly determined law may dip again near r = 1, where there
are no measurements. So only the *lowest stretch* counts: from the smallest share within the limit
up to the first share beyond it. A dip above it is never trusted, and an excess below it is ignored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def lowest_stretch(general: Array, limit: float) -> NDArray[np.bool_]:
    """Mark the shares of the lowest stretch within the limit.

    Args:
        general: General loss along ascending shares, shape (..., R).
        limit: Largest allowed general loss.

    Returns:
        Mask of shape (..., R); all False where no share meets the limit.
    """
    within = general <= limit
    begun = np.logical_or.accumulate(within, axis=-1)
    ended = np.logical_or.accumulate(begun & ~within, axis=-1)
    return within & ~ended


def _crossing(general: Array, limit: float) -> tuple[NDArray[np.intp], Array, NDArray[np.bool_]]:
    """Last feasible index, fraction of the step after it at the crossing, whether there is any."""
    stretch = lowest_stretch(general, limit)
    some = np.asarray(stretch.any(axis=-1))
    top = general.shape[-1] - 1
    last = np.where(some, top - np.argmax(stretch[..., ::-1], axis=-1), 0)
    following = np.minimum(last + 1, top)
    at_last = np.take_along_axis(general, last[..., None], -1)[..., 0]
    at_next = np.take_along_axis(general, following[..., None], -1)[..., 0]
    rises = some & (at_next > limit)
    fraction = np.where(rises, (limit - at_last) / np.where(rises, at_next - at_last, 1.0), 0.0)
    return last, fraction, some


def largest_share(ratio: Array, general: Array, limit: float) -> Array:
    """Find the upper end of the lowest stretch, interpolated at the crossing.

    Args:
        ratio: Ascending shares, shape (R,).
        general: General loss, shape (..., R).
        limit: Largest allowed general loss.

    Returns:
        Shares, shape (...,): the last of ``ratio`` where the limit does not bind, NaN where no
        share meets it.
    """
    last, fraction, some = _crossing(general, limit)
    following = np.minimum(last + 1, len(ratio) - 1)
    share = ratio[last] + fraction * (ratio[following] - ratio[last])
    return np.where(some, share, np.nan)


def best_share(ratio: Array, general: Array, domain: Array, limit: float) -> tuple[Array, Array]:
    """Find the share of the lowest stretch with the lowest domain loss.

    The crossing itself is a candidate, so the answer is not tied to the steps of the grid.

    Args:
        ratio: Ascending shares, shape (R,).
        general: General loss, shape (..., R).
        domain: Domain loss, same shape.
        limit: Largest allowed general loss.

    Returns:
        Shares and their domain losses, each of shape (...,); NaN and infinity where no share meets
        the limit.
    """
    last, fraction, some = _crossing(general, limit)
    following = np.minimum(last + 1, len(ratio) - 1)
    at_last = np.take_along_axis(domain, last[..., None], -1)[..., 0]
    at_next = np.take_along_axis(domain, following[..., None], -1)[..., 0]
    edge_loss = at_last + fraction * (at_next - at_last)
    edge = ratio[last] + fraction * (ratio[following] - ratio[last])
    inside = np.where(lowest_stretch(general, limit), domain, np.inf)
    inner = inside.argmin(axis=-1)
    inner_loss = np.take_along_axis(inside, inner[..., None], -1)[..., 0]
    at_edge = edge_loss <= inner_loss
    share = np.where(at_edge, edge, ratio[inner])
    loss = np.where(at_edge, edge_loss, inner_loss)
    return np.where(some, share, np.nan), np.where(some, loss, np.inf)
