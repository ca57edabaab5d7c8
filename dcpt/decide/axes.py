"""The axes of a decision's grid: the shares and the learning rates that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dcpt.decide.records import LARGEST_RATIO, Target
from dcpt.errors import InputError
from dcpt.laws.points.rate_rule import RateRule, rate_rule

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

Array = NDArray[np.float64]

SMALLEST_RATIO = 0.01
RATIO_STEP = 0.005
N_LEARNING_RATES = 41
"""Log-spaced rates from the lowest to the highest of the runs; the runs' other rates are added."""


def ratio_grid() -> Array:
    """The shares that a decision compares: 0.01 to 0.97 in steps of 0.005."""
    steps = round((LARGEST_RATIO - SMALLEST_RATIO) / RATIO_STEP)
    return np.round(SMALLEST_RATIO + RATIO_STEP * np.arange(steps + 1), 6)


def measured_shares(fit: Fit, phase: str) -> Array:
    """The shares up to the largest of a phase's runs, which are compared without a limit."""
    grid = ratio_grid()
    _, highest = fit.ranges_in(phase).get("ratio", (0.0, LARGEST_RATIO))
    top = min(max(highest, SMALLEST_RATIO), LARGEST_RATIO)
    return np.unique([*grid[grid < top], top])


def seen_rates(fit: Fit, target: Target, phase: str) -> Array:
    """Learning rates of the runs in a phase, at sizes as near as possible to the target's.

    Sizes are taken from the nearest outwards until they have two rates, since rates are often
    swept at one size only. Where the rate changed with the size alone, no run shows the effect of
    another rate: the rule's own rate at the target's size is returned. A single NaN where the runs
    have no learning rates.

    Returns:
        Ascending rates, shape (L,).

    Raises:
        InputError: If the target fixes a rate and the runs have none.
    """
    if not fit.seen_rates:
        if target.learning_rate is not None:
            raise InputError(
                f"target learning_rate {target.learning_rate:g} cannot be used: the runs have no "
                "learning rate; leave it out, or add the column learning_rate to the table"
            )
        return np.array([np.nan])
    seen = [(size, rate) for size, rate, of_phase in fit.seen_rates if of_phase == phase]
    rule = _rule(seen)
    if rule is not None:
        by_rule = float(f"{rule.at(np.array([target.n_params]))[0]:.3g}")
        return np.array([target.learning_rate or by_rule])
    away = [0.0 if size is None else abs(np.log(size / target.n_params)) for size, _ in seen]
    for distance in sorted(set(away)):
        near = {rate for (_, rate), far in zip(seen, away, strict=True) if far <= distance}
        if len(near) > 1:
            return np.array(sorted(near))
    return np.array(sorted({rate for _, rate in seen}))


def rate_grid(seen: Array, fixed: float | None) -> tuple[Array, Array]:
    """Learning rates that are compared, and those of them that may be chosen.

    Args:
        seen: Ascending rates of the runs, shape (L,); a NaN alone if they have none.
        fixed: The rate that the target fixes; None leaves it free.

    Returns:
        Ascending rates, and those that the decision may choose.
    """
    low, high = seen[0], seen[-1]
    between = [float(f"{rate:.3g}") for rate in np.geomspace(low, high, N_LEARNING_RATES)[1:-1]]
    inner = [rate for rate in between if low < rate < high]
    rates = np.unique([*seen, *inner]) if low < high else seen
    if fixed is None:
        return rates, rates
    return np.unique([*rates, fixed]), np.array([fixed])


def _rule(seen: Sequence[tuple[float | None, float]]) -> RateRule | None:
    """The rule LR(N), if the learning rate of the runs changed with their size alone."""
    sizes = [size for size, _ in seen if size is not None]
    if len(sizes) < len(seen):
        return None
    return rate_rule(np.array(sizes), np.array([rate for _, rate in seen]))
