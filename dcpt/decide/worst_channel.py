"""Limits on several channels, expressed as a limit on a single number."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dcpt.limit import Limit

Array = NDArray[np.float64]

GENERAL_WORST = "general_worst"
"""Pseudo-channel: the loss of the channel that is nearest to its limit or exceeds it most,
expressed as a general loss. It is within its limit if and only if every channel is within its
own."""


def limit_of_worst(limits: Mapping[str, Limit], losses: Mapping[str, float], base: float) -> float:
    """The largest allowed ``general_worst``: the base's general loss, raised by the tightest limit.

    Args:
        limits: Limits by channel.
        losses: Losses of the base by channel, nats per token.
        base: The base's own general loss.
    """
    if _in_nats(limits):
        return base + min(limit.amount for limit in limits.values())
    return base * min(limit.on(losses[name]) / losses[name] for name, limit in limits.items())


def as_worst(
    losses: Array, channel: str, limits: Mapping[str, Limit], base: Mapping[str, float]
) -> Array:
    """Express the loss of a channel as ``general_worst``: as far from the limit as it is.

    Args:
        losses: Losses of the channel, nats per token, any shape.
        channel: The channel.
        limits: Limits by channel. Limits in nats compare differences, others compare factors.
        base: Losses of the base by channel, that of ``general_worst`` included.

    Returns:
        Nats per token, the shape of the losses.
    """
    allowed, whole = (
        limits[channel].on(base[channel]),
        limit_of_worst(limits, base, base[GENERAL_WORST]),
    )
    if _in_nats(limits):
        return np.asarray(whole + losses - allowed, dtype=np.float64)
    return np.asarray(whole * losses / allowed, dtype=np.float64)


def _in_nats(limits: Mapping[str, Limit]) -> bool:
    return all(limit.unit == "nats" for limit in limits.values())
