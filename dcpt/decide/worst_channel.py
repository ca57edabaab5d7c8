"""A limit on every general channel, as a limit on one number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcpt.limit import Limit

Array = NDArray[np.float64]

GENERAL_WORST = "general_worst"
"""Stands where a channel does: the general loss if all channels rose as much as the one that rises
most. It is within the limit if and only if every channel is within its own."""


def risen_as(losses: Array, base_loss: float, base: float, limit: Limit) -> Array:
    """Put one channel's rise upon the base's general loss.

    Args:
        losses: The channel's, nats per token, any shape.
        base_loss: The base's own loss of it.
        base: The base's general loss, of all channels together.
        limit: In percent the rise is relative to the channel's own loss, else it is in nats.

    Returns:
        Nats per token, the shape of the losses.
    """
    if limit.unit == "percent":
        return np.asarray(base * losses / base_loss, dtype=np.float64)
    return np.asarray(base + losses - base_loss, dtype=np.float64)
