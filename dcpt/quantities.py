"""Read and format numbers for people: counts, shares, rates, losses, intervals.

The terminal, the page and its Markdown format their numbers with these functions, so that a number
is rounded in the same way wherever it appears.
"""

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


def count_things(n: int, noun: str) -> str:
    """Write a number of things: ``1 run``, ``1,200 runs``.

    Args:
        n: Their number.
        noun: A single one of them, whose plural ends in s.
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def format_share(share: float) -> str:
    """Write a share to a tenth of a percent: ``57.3 %``, ``95 %``.

    Recommended shares are already rounded down to this number of digits.
    """
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def format_shares(low: float | None, high: float | None) -> str:
    """Write an interval of shares in whole percent: ``38 to 67 %``."""
    if low is None or high is None:
        return "no interval"
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def format_percent(value: float) -> str:
    """Write a probability level or a fraction in whole percent: ``90 %``."""
    return f"{100 * value:.0f} %"


def format_chance(probability: float) -> str:
    """Write a probability estimated from draws: ``50 %``; never rounded to 0 or 100 %.

    It is rounded first, since the page holds whole percent and follows the same rule.
    """
    percent = round(100 * probability)
    if percent > 99:
        return "over 99 %"
    return "under 1 %" if percent < 1 else f"{percent} %"


def format_rate(rate: float) -> str:
    """Write a learning rate: ``9e-4``, ``7.22e-4``."""
    digits, exponent = f"{rate:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def format_loss(loss: float | None) -> str:
    """Write a loss to a thousandth of a nat: ``2.852``; ``unknown`` for None."""
    return "unknown" if loss is None else f"{loss:.3f}"


def format_difference(difference: float | None) -> str:
    """Write a difference of losses with its sign: ``+0.083``; ``unknown`` for None."""
    if difference is None:
        return "unknown"
    return f"{difference + 0.0:+.3f}".replace("-0.000", "+0.000")


def format_losses(low: float | None, high: float | None) -> str:
    """Write an interval of losses: ``2.840 to 2.860``."""
    if low is None or high is None:
        return "no interval"
    return f"{format_loss(low)} to {format_loss(high)}"


def format_differences(low: float | None, high: float | None) -> str:
    """Write an interval of differences: ``+0.050 to +0.117``."""
    if low is None or high is None:
        return "no interval"
    return f"{format_difference(low)} to {format_difference(high)}"


def format_factor(factor: float) -> str:
    """Write a factor to three digits: ``4.39``, ``227``, ``1.5e6``."""
    return f"{factor:.3g}".replace("e+0", "e").replace("e+", "e")


def format_seconds(seconds: float) -> str:
    """Time for people: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


Count = Annotated[int, BeforeValidator(parse_count)]
"""A pydantic field that accepts numbers such as ``10B``."""
