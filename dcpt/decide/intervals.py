"""Intervals from bootstrap draws, and which predictions are losses that a model can have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcpt.decide.records import Interval
from dcpt.table.study_rows import LARGEST_LOSS

Array = NDArray[np.float64]


def limits_of(draws: Array, level: float) -> Array:
    """Both ends of the interval of draws, shape (n_draws, ...); the result has shape (2, ...)."""
    limits: Array = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return limits


def interval_of(value: float | None, draws: Array, level: float) -> Interval:
    """A value with the interval of its bootstrap draws, shape (n_draws,)."""
    low, high = limits_of(draws, level)
    return Interval(None if value is None else float(value), float(low), float(high))


def possible_interval(
    loss: float, draws: Array, level: float, less: float = 0.0, less_draws: Array | float = 0.0
) -> Interval:
    """A loss, or its difference to another; None where it is beyond what laws can predict.

    Args:
        loss: The central prediction, nats per token.
        draws: Its bootstrap draws, shape (n_draws,).
        level: Interval probability.
        less: What is subtracted from the central prediction.
        less_draws: What is subtracted from the draws.
    """
    low, high = limits_of(draws, level)
    is_shift = np.ndim(less_draws) == 0
    ends = np.array([low, high]) - less_draws if is_shift else limits_of(draws - less_draws, level)
    return Interval(
        float(loss - less) if is_possible(loss) else None,
        float(ends[0]) if is_possible(low) else None,
        float(ends[1]) if is_possible(high) else None,
    )


def is_possible(loss: float) -> bool:
    """Whether a prediction is a loss that a model can have, nats per token."""
    return bool(np.isfinite(loss) and loss <= LARGEST_LOSS)


def possible_losses(losses: Array, is_known: bool = True) -> list[float | None]:
    """Losses for a record: None where they are not known or beyond what the laws can predict."""
    return [float(loss) if is_known and is_possible(loss) else None for loss in losses]


def known_or_none(value: float) -> float | None:
    """A number for a record: None where it is NaN."""
    return None if np.isnan(value) else float(value)
