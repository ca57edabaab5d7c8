"""Bounds of a law's parameters, the box of a search, and the references of its quantities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.law import Law, References
from dcpt.laws.points.record import Points, distinct

Array = NDArray[np.float64]


def box(
    law: Law,
    points: Points,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> tuple[Array, Array]:
    """Bounds of a law's parameters for these points.

    A parameter whose axis has too few distinct values is fixed at its neutral value, unless
    ``bounds`` contains it.

    Args:
        law: The law, with P parameters.
        points: M points.
        fixed: Fixed values of parameters, natural units. They take precedence over bounds.
        bounds: Bounds (low, high) that replace the law's own, natural units.

    Returns:
        Lower and upper bounds in the law's order, shapes (P,), natural units; equal where a
        parameter is fixed.

    Raises:
        InputError: If a bound is not finite, low > high, or the bounds of a parameter with the
            scale ``log`` are not positive.
    """
    fixed, bounds = fixed or {}, bounds or {}
    lower, upper = [], []
    for parameter in law.parameters:
        name, axis = parameter.name, parameter.axis
        low, high = bounds.get(name, (parameter.lower, parameter.upper))
        if name in fixed:
            low = high = fixed[name]
        elif (
            axis is not None
            and name not in bounds
            and len(distinct(points, axis)) < parameter.fewest
        ):
            low = high = parameter.neutral
        rule = broken_bounds_rule(low, high, parameter.scale)
        if rule is not None:
            raise InputError(f"bounds of {law.name}.{name} are ({low:g}, {high:g}); {rule}")
        lower.append(low)
        upper.append(high)
    return np.array(lower, dtype=float), np.array(upper, dtype=float)


def broken_bounds_rule(low: float, high: float, scale: str) -> str | None:
    """The rule that a parameter's bounds break.

    Args:
        low: Lower bound, natural units.
        high: Upper bound.
        scale: ``log`` or ``linear``, the scale on which the parameter is fitted.

    Returns:
        What the bounds must be, as a clause; None if they are valid.
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        return "they must be finite"
    if low > high:
        return "they must satisfy low <= high"
    if scale == "log" and low <= 0:
        return "they must be above 0 because the parameter is fitted on a log scale"
    return None


def references_of(points: Points) -> References:
    """Reference scales of points: geometric medians over the positive values.

    Args:
        points: M points; they must have ``n_tokens``.

    Returns:
        The references; None for a quantity without positive values, but 1.0 for tokens.

    Raises:
        InputError: If the points have no ``n_tokens``.
    """
    return References(
        n_params=_geometric_median(points.n_params),
        n_tokens=_geometric_median(points.get("n_tokens")) or 1.0,
        learning_rate=_geometric_median(points.learning_rate),
        lr_area=_geometric_median(points.lr_area),
    )


def _geometric_median(values: Array | None) -> float | None:
    if values is None or not (values > 0).any():
        return None
    return float(np.exp(np.median(np.log(values[values > 0]))))


def check_names(fixed: Mapping[str, object], laws: list[Law]) -> None:
    """Check that every named parameter belongs to at least one law.

    Args:
        fixed: A mapping whose keys are parameter names (fixed values or bounds).
        laws: The laws to be fitted.

    Raises:
        InputError: If a name is in none of the laws.
    """
    available = sorted({name for law in laws for name in law.names})
    unknown = [name for name in fixed if name not in available]
    if unknown:
        raise InputError(
            f"parameter {', '.join(unknown)} is in none of the laws fitted "
            f"({', '.join(law.name for law in laws)}); their parameters are "
            f"{', '.join(available)}"
        )
