"""The rule LR(N) of runs in which each model size was trained at a single learning rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.points.record import SAME, Points, distinct

Array = NDArray[np.float64]

OFF_RULE = 1.5
"""A learning rate follows the rule if it differs from it by at most this factor. In the pilot runs
the rate of the largest size differs from the power law through the two smaller ones by 1.26."""


@dataclass(frozen=True)
class RateRule:
    """A learning rate that is a function of the model size.

    At the sizes of the runs it is their rate; at other sizes it is a power law fitted to them.

    Args:
        sizes: Parameter counts of the runs, ascending.
        rates: Learning rate of each size, absolute.
    """

    sizes: tuple[float, ...]
    rates: tuple[float, ...]

    def at(self, n_params: Array) -> Array:
        """Learning rates by the rule, shape (M,), for parameter counts of shape (M,)."""
        log_sizes, log_rates = np.log(self.sizes), np.log(self.rates)
        slope, start = np.polyfit(log_sizes, log_rates, 1)
        rate = np.exp(start + slope * np.log(n_params))
        for size, known in zip(self.sizes, self.rates, strict=True):
            rate = np.where(np.abs(n_params - size) <= SAME * size, known, rate)
        return np.asarray(rate, dtype=np.float64)

    def holds(self, n_params: Array, learning_rate: Array) -> NDArray[np.bool_]:
        """Which learning rates follow the rule.

        Args:
            n_params: Parameter counts, shape (M,).
            learning_rate: Absolute learning rates, shape (M,).

        Returns:
            Shape (M,). The tolerance is ``SAME`` at a size of the runs and the factor ``OFF_RULE``
            at other sizes.
        """
        log_distance = np.abs(np.log(learning_rate / self.at(n_params)))
        in_runs = np.isclose(n_params[:, None], self.sizes, rtol=SAME).any(axis=1)
        return np.asarray(log_distance <= np.where(in_runs, np.log1p(SAME), np.log(OFF_RULE)))


def rate_rule(sizes: Array, rates: Array) -> RateRule | None:
    """The rule of points whose learning rate depends only on their size.

    Args:
        sizes: Parameter counts, shape (M,).
        rates: Absolute learning rates, shape (M,).

    Returns:
        The rule; None if a size has several rates, or if all sizes have the same rate.
    """
    distinct_sizes = distinct(Points(n_params=sizes), "n_params")
    rates_by_size = [
        distinct(Points(learning_rate=rates[np.isclose(sizes, size, rtol=1e-6)]), "learning_rate")
        for size in distinct_sizes
    ]
    if any(len(size_rates) > 1 for size_rates in rates_by_size) or len(distinct_sizes) < 2:
        return None
    if len(distinct(Points(learning_rate=rates), "learning_rate")) == 1:
        return None
    return RateRule(
        sizes=tuple(map(float, distinct_sizes)),
        rates=tuple(float(size_rates[0]) for size_rates in rates_by_size),
    )


def rule_of(points: Points) -> RateRule | None:
    """The rule of points; None if sizes or rates are unknown or do not follow a rule."""
    sizes, rates = points.n_params, points.learning_rate
    if sizes is None or rates is None or not np.isfinite([sizes, rates]).all():
        return None
    return rate_rule(sizes, rates)
