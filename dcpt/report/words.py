"""Numbers and findings as people read them."""

from __future__ import annotations

from dcpt.decide.records import Interval
from dcpt.decide.words import format_rate


def rate(value: float | None) -> str:
    """A learning rate: ``9e-4``, ``7.3e-4``; ``as in the runs`` where none is recorded."""
    if value is None:
        return "as in the runs"
    return format_rate(value)


def percent(value: float | None) -> str:
    """A share: ``52%``."""
    return "unknown" if value is None else f"{100 * value:.0f}%"


def nats(value: float | None, sign: bool = False) -> str:
    """A loss or a difference of losses to a thousandth: ``2.852``, ``+0.083``."""
    if value is None:
        return "unknown"
    text = f"{value:+.3f}" if sign else f"{value:.3f}"
    return text.replace("-", "−")


def span(interval: Interval, sign: bool = False) -> str:
    """The limits of an interval of losses: ``2.84 to 2.86``."""
    if interval.low is None or interval.high is None:
        return "no interval"
    return f"{nats(interval.low, sign)} to {nats(interval.high, sign)}"


def share_span(interval: Interval) -> str:
    """The limits of an interval of shares: ``44 to 58%``."""
    if interval.low is None or interval.high is None:
        return "no interval"
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f}%"


def probability(value: float) -> str:
    """A probability from draws, never rounded up to certainty."""
    if value > 0.99:
        return "over 99%"
    return "under 1%" if value < 0.01 else f"{100 * value:.0f}%"


def channel_name(name: str) -> str:
    """A channel as a word: ``general_total`` is the weighted general loss."""
    words = {
        "general_total": "general (weighted)",
        "general_worst": "general (as its worst channel)",
    }
    return words.get(name, name)
