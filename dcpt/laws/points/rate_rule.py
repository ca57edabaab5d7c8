"""The rule LR(N) of a ladder in which every size was trained at one learning rate of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.points.record import SAME, Points, distinct

Array = NDArray[np.float64]

OFF_RULE = 1.5
"""A learning rate this many times off the rule is another experiment: in the pilot's ladder the
rate of its largest size lies 1.26 times off the power law through the two smaller ones."""


@dataclass(frozen=True)
class RateRule:
    """Learning rates that follow the size: those of the runs' sizes, a power law at others.

    Args:
        sizes: Ascending parameter counts.
        rates: The learning rate of each.
    """

    sizes: tuple[float, ...]
    rates: tuple[float, ...]

    def at(self, n_params: Array) -> Array:
        """The rule's learning rate at sizes, shape (M,)."""
        log_sizes, log_rates = np.log(self.sizes), np.log(self.rates)
        slope, start = np.polyfit(log_sizes, log_rates, 1)
        rate = np.exp(start + slope * np.log(n_params))
        for size, known in zip(self.sizes, self.rates, strict=True):
            rate = np.where(np.abs(n_params - size) <= SAME * size, known, rate)
        return np.asarray(rate, dtype=np.float64)

    def holds(self, n_params: Array, learning_rate: Array) -> NDArray[np.bool_]:
        """Learning rates that follow the rule: exactly at a size of the runs, nearly at another."""
        log_off = np.abs(np.log(learning_rate / self.at(n_params)))
        trained = np.isclose(n_params[:, None], self.sizes, rtol=SAME).any(axis=1)
        return np.asarray(log_off <= np.where(trained, np.log1p(SAME), np.log(OFF_RULE)))


def rate_rule(sizes: Array, rates: Array) -> RateRule | None:
    """The rule of points whose learning rate changes with their size alone.

    Args:
        sizes: Shape (M,).
        rates: Shape (M,).

    Returns:
        None where one size has several rates, or all sizes the same one.
    """
    there = distinct(Points(n_params=sizes), "n_params")
    found = [
        distinct(Points(learning_rate=rates[np.isclose(sizes, size, rtol=1e-6)]), "learning_rate")
        for size in there
    ]
    if any(len(rates_of_size) > 1 for rates_of_size in found) or len(there) < 2:
        return None
    values = tuple(float(rates_of_size[0]) for rates_of_size in found)
    alike = len(distinct(Points(learning_rate=rates), "learning_rate")) == 1
    return None if alike else RateRule(tuple(map(float, there)), values)


def rule_of(points: Points) -> RateRule | None:
    """The rule of these points; None where sizes or rates are unknown, or there is no rule."""
    sizes, rates = points.n_params, points.learning_rate
    if sizes is None or rates is None or not np.isfinite([sizes, rates]).all():
        return None
    return rate_rule(sizes, rates)
