"""Numbers as people write them: ``10B``, ``350M``, ``1.5e9``."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BeforeValidator

from dcpt.names import shorten

_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_NUMBER = re.compile(r"\s*([0-9][0-9_]*\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+)\s*([kmbt]?)\s*", re.I)


def parse_count(value: object) -> int:
    """Read a count of tokens or parameters.

    Args:
        value: A number, or text such as ``10B``, ``1.5e9``, ``350M``, ``40_000``.

    Returns:
        The count, a whole number >= 0.

    Raises:
        ValueError: If the value is not a count.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a count; write a number such as 350M")
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:  # an int of more than 308 digits
            number = math.inf
    else:
        match = _NUMBER.fullmatch(str(value))
        if match is None:
            raise ValueError(
                f"{shorten(value)} is not a count; write a number such as 350M, 10B or 1.5e9"
            )
        number = float(match[1].replace("_", "")) * _SCALE[match[2].lower()]
    if not 0 <= number < 1e18 or abs(number - round(number)) > 1e-6 * max(number, 1.0):
        raise ValueError(
            f"{shorten(value)} is not a whole count >= 0; write a number such as 350M or 10B"
        )
    return round(number)


def format_count(value: float) -> str:
    """Write a count for people: ``1.8M``, ``44M``, ``10B``."""
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale * 0.9995:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.0f}"


Count = Annotated[int, BeforeValidator(parse_count)]
"""A pydantic field that accepts human numbers."""
