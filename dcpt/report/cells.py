"""Numbers and names of the page, formatted by ``dcpt.quantities``.

The page differs from the terminal only in its minus sign (U+2212).
"""

from __future__ import annotations

from dcpt.decide.records import Interval
from dcpt.quantities import (
    format_chance,
    format_difference,
    format_differences,
    format_loss,
    format_losses,
    format_rate,
    format_share,
    format_shares,
)


def rate(value: float | None) -> str:
    """A learning rate: ``9e-4``, ``7.3e-4``; ``as in the runs`` where none is recorded."""
    return "as in the runs" if value is None else format_rate(value)


def percent(value: float | None) -> str:
    """A share: ``52 %``, ``57.3 %``."""
    return "unknown" if value is None else format_share(value)


def nats(value: float | None, sign: bool = False) -> str:
    """A loss or a difference of losses to a thousandth: ``2.852``, ``+0.083``."""
    text = format_difference(value) if sign else format_loss(value)
    return text.replace("-", "−")


def span(interval: Interval, sign: bool = False) -> str:
    """The limits of an interval of losses: ``2.840 to 2.860``."""
    write = format_differences if sign else format_losses
    return write(interval.low, interval.high).replace("-", "−")


def share_span(interval: Interval) -> str:
    """The limits of an interval of shares: ``44 to 58 %``."""
    return format_shares(interval.low, interval.high)


def probability(value: float) -> str:
    """A probability from draws, never rounded to certainty."""
    return format_chance(value)


def channel_name(name: str) -> str:
    """The name of a channel on the page: ``general_total`` is the weighted general loss."""
    words = {
        "general_total": "general (weighted)",
        "general_worst": "general (worst channel)",
    }
    return words.get(name, name)
