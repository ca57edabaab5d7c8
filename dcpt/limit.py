"""The limit on the rise of the general loss."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dcpt.errors import InputError

NO_LIMIT = "none"
"""Written in place of a limit, it asks for the lowest domain loss alone."""

_MOST = {"percent": 100.0, "nats": 1.0}


@dataclass(frozen=True)
class Limit:
    """How much general loss may rise above the base's own: ``+3%`` or ``+0.05`` nats.

    A negative limit, such as ``-5%``, requires a fall, for general text that is new to the base.

    With several general channels, the limit applies to their weighted total, or, written as
    ``+3% each``, to every channel.

    Examples:
        >>> dcpt.Limit.parse("+0.05").on(base_loss=2.0)
        2.05
    """

    amount: float
    unit: Literal["percent", "nats"]
    each: bool = False

    @classmethod
    def parse(cls, text: object) -> Limit:
        """Read ``+3%``, ``3 %``, ``+0.05``, ``0.05 nats``, ``-5%``, ``+3% each``.

        Raises:
            InputError: If the text is not a limit.
        """
        match = re.fullmatch(r"\s*\+?\s*(-?[0-9]*\.?[0-9]+)\s*(%|nats)?\s*(each)?\s*", str(text))
        if match is None:
            raise InputError(
                f"limit {text!r} is not understood: write a share of the base's general loss such "
                "as +3%, or nats per token such as +0.05; +3% each is a limit on every general "
                "channel, none is no limit"
            )
        unit: Literal["percent", "nats"] = "percent" if match[2] == "%" else "nats"
        return cls(float(match[1]), unit, each=match[3] is not None)

    @classmethod
    def read(cls, text: object) -> Limit | None:
        """Read a limit as :meth:`parse` does, or ``none``.

        Raises:
            InputError: If the text is neither.
        """
        return None if str(text).strip() == NO_LIMIT else cls.parse(text)

    def problem(self) -> str | None:
        """A sentence on what is wrong with its size; None if it is valid."""
        most = _MOST[self.unit]
        if -most < self.amount <= most:
            return None
        beyond = "above" if self.amount > 0 else "not above minus"
        return (
            f"limit {self} is {beyond} {most:g} {self.unit}: it is the largest rise of the general "
            "loss above the base's, so write percent such as +3%, or nats per token such as "
            "+0.05"
        )

    def on(self, base_loss: float) -> float:
        """The largest allowed general loss, nats per token, given the base's own."""
        if self.unit == "percent":
            return base_loss * (1 + self.amount / 100)
        return base_loss + self.amount

    def __str__(self) -> str:
        amount = f"{self.amount:+g}%" if self.unit == "percent" else f"{self.amount:+g} nats"
        return f"{amount} each" if self.each else amount
