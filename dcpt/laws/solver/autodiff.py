"""Forward-mode automatic differentiation of formulas written in numpy.

A law is an ordinary numpy function. Called with :class:`Dual` parameters it returns its value
together with its slopes, so that laws need no hand-written Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from dcpt.errors import InputError

Array = NDArray[np.float64]


def _power_slopes(a: Any, b: Any, y: Any) -> tuple[Any, Any]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return b * a ** (b - 1.0), np.where(np.asarray(a) > 0, y * np.log(a), 0.0)


# For each numpy function: derivatives of its result by each input, given the inputs and the result.
_SLOPES: dict[Any, Callable[..., tuple[Any, ...]]] = {
    np.add: lambda a, b, y: (1.0, 1.0),
    np.subtract: lambda a, b, y: (1.0, -1.0),
    np.multiply: lambda a, b, y: (b, a),
    np.true_divide: lambda a, b, y: (1.0 / b, -y / b),
    np.negative: lambda a, y: (-1.0,),
    np.power: _power_slopes,
    np.square: lambda a, y: (2.0 * a,),
    np.sqrt: lambda a, y: (0.5 / y,),
    np.exp: lambda a, y: (y,),
    np.expm1: lambda a, y: (y + 1.0,),
    np.log: lambda a, y: (1.0 / a,),
    np.log1p: lambda a, y: (1.0 / (1.0 + a),),
    np.tanh: lambda a, y: (1.0 - y**2,),
    np.minimum: lambda a, b, y: (np.asarray(a <= b, float), np.asarray(a > b, float)),
    np.maximum: lambda a, b, y: (np.asarray(a >= b, float), np.asarray(a < b, float)),
}
_WITHOUT_SLOPE = (
    *(np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal),
    *(np.isfinite, np.isnan, np.sign),
)


class Dual(NDArrayOperatorsMixin):
    """An array together with its derivatives (slopes) by named parameters.

    Args:
        value: The array, any shape.
        slopes: Derivative of ``value`` by each parameter, broadcastable to its shape. The number
            1.0 stands for an array of ones.
    """

    def __init__(self, value: Array, slopes: Mapping[str, Any]) -> None:
        self.value = value
        self.slopes = slopes

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        values = [value_of(operand) for operand in inputs]
        if method == "__call__" and not options and ufunc in _WITHOUT_SLOPE:
            return ufunc(*values)
        if method != "__call__" or options or ufunc not in _SLOPES:
            raise InputError(
                f"a law uses numpy.{ufunc.__name__} on its parameters"
                f"{'' if method == '__call__' else f' ({method})'}, whose slope is not known; use "
                + ", ".join(function.__name__ for function in _SLOPES)
            )
        result = ufunc(*values)
        slopes: dict[str, Any] = {}
        for operand, outer in zip(inputs, _SLOPES[ufunc](*values, result), strict=True):
            for name, inner in slopes_of(operand).items():
                step = _times(inner, outer)
                slopes[name] = slopes[name] + step if name in slopes else step
        return Dual(result, slopes)

    def __getitem__(self, index: Any) -> Dual:
        """The elements at an index, with their slopes."""
        shape = np.shape(self.value)
        return Dual(
            self.value[index],
            {name: np.broadcast_to(s, shape)[index] for name, s in self.slopes.items()},
        )

    def sum(self, axis: int) -> Dual:
        """The sum over an axis, with its slopes."""
        shape = np.shape(self.value)
        return Dual(
            np.sum(self.value, axis=axis),
            {name: np.broadcast_to(s, shape).sum(axis) for name, s in self.slopes.items()},
        )


def _times(inner: Any, outer: Any) -> Any:
    """The product of two slopes; free of charge if either is the number 1.0."""
    if isinstance(outer, float) and outer == 1.0:
        return inner
    if isinstance(inner, float) and inner == 1.0:
        return outer
    return inner * outer


def value_of(number: Any) -> Any:
    """The value of a dual number; any other number as it is."""
    return number.value if isinstance(number, Dual) else number


def slopes_of(number: Any) -> Mapping[str, Any]:
    """Derivatives of a dual number by parameter; empty for any other number."""
    return number.slopes if isinstance(number, Dual) else {}
