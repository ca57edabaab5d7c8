"""Exact slopes of a formula: an array that carries its own derivatives through numpy's functions.

A law is written once, as plain numpy. Called with :class:`Dual` parameters it returns its slopes
beside its value (forward-mode differentiation), so no law carries a hand-written Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

Array = NDArray[np.float64]

# For each numpy function: slopes of the result by each input, from the inputs and the result.
_SLOPES: dict[Any, Callable[..., tuple[Any, ...]]] = {
    np.add: lambda a, b, y: (1.0, 1.0),
    np.subtract: lambda a, b, y: (1.0, -1.0),
    np.multiply: lambda a, b, y: (b, a),
    np.true_divide: lambda a, b, y: (1.0 / b, -y / b),
    np.negative: lambda a, y: (-1.0,),
    np.exp: lambda a, y: (y,),
    np.expm1: lambda a, y: (y + 1.0,),
    np.log: lambda a, y: (1.0 / a,),
    np.log1p: lambda a, y: (1.0 / (1.0 + a),),
    np.sqrt: lambda a, y: (0.5 / y,),
}


class Dual(NDArrayOperatorsMixin):
    """A value and its slopes by named parameters.

    Args:
        value: The numbers, any shape.
        slopes: Derivative of ``value`` by each parameter, broadcastable against it.
    """

    def __init__(self, value: Array, slopes: Mapping[str, Any]) -> None:
        self.value = value
        self.slopes = slopes

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options or ufunc not in _SLOPES:
            return NotImplemented
        values = [one.value if isinstance(one, Dual) else one for one in inputs]
        result = ufunc(*values)
        slopes: dict[str, Any] = {}
        for one, outer in zip(inputs, _SLOPES[ufunc](*values, result), strict=True):
            if not isinstance(one, Dual):
                continue
            for name, inner in one.slopes.items():
                step = inner * outer
                slopes[name] = slopes[name] + step if name in slopes else step
        return Dual(result, slopes)


def value_of(number: Any) -> Any:
    """The numbers without their slopes."""
    return number.value if isinstance(number, Dual) else number


def slopes_of(number: Any) -> Mapping[str, Any]:
    """The slopes of a number; none if it depends on no parameter."""
    return number.slopes if isinstance(number, Dual) else {}
