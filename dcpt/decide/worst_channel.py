"""A limit on every general channel, expressed as a limit on a single number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcpt.limit import Limit

Array = NDArray[np.float64]

GENERAL_WORST = "general_worst"
"""Pseudo-channel: the worst relative rise of any general channel, expressed as a general loss. It
is within the limit if and only if every channel is within its own."""


def risen_as(losses: Array, base_loss: float, base: float, limit: Limit) -> Array:
    """Express the rise of a channel as a general loss.

    Args:
        losses: Losses of the channel, nats per token, any shape.
        base_loss: The base's loss on the channel, nats per token.
        base: The base's general loss over all channels, nats per token.
        limit: A limit in percent makes the rise relative to ``base_loss``, otherwise it is in nats.

    Returns:
        Nats per token, the shape of the losses.
    """
    if limit.unit == "percent":
        return np.asarray(base * losses / base_loss, dtype=np.float64)
    return np.asarray(base + losses - base_loss, dtype=np.float64)
