"""The price of a run, and a budget for several."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dcpt.decide.records import Target
from dcpt.errors import InputError

ROUNDING = 0.01
"""A run may cost this much more than the budget, as a share of it: tokens are whole steps."""


@dataclass(frozen=True)
class Price:
    """What training costs.

    Args:
        n_tokens: Tokens that are trained.
        flops: 6 per parameter and token.
        share: Part of the FLOPs of the target's run.
        gpu_hours: Hours of one device; None where no speed is known.
    """

    n_tokens: float
    flops: float
    share: float
    gpu_hours: float | None

    def __add__(self, other: Price) -> Price:
        """The price of both."""
        hours = None
        if self.gpu_hours is not None and other.gpu_hours is not None:
            hours = self.gpu_hours + other.gpu_hours
        return Price(
            self.n_tokens + other.n_tokens,
            self.flops + other.flops,
            self.share + other.share,
            hours,
        )


FREE = Price(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Budget:
    """What runs may cost: a share of the cost of the target's run, or hours of one device.

    Examples:
        >>> Budget.parse("50%")
        Budget(amount=0.5, unit='share')
    """

    amount: float
    unit: Literal["share", "hours"]

    @classmethod
    def parse(cls, text: object) -> Budget:
        """Read ``50%``, ``150 %``, ``20h``, ``0.5 hours``; a budget stays as it is.

        Raises:
            InputError: If the text is not a budget.
        """
        if isinstance(text, Budget):
            return text
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(%|h|hours?)\s*", str(text))
        if match is None or float(match[1]) == 0:
            raise InputError(
                f"budget {text!r} is not understood: write a share of the cost of the target's run "
                "such as 50%, or GPU-hours such as 20h"
            )
        if match[2] == "%":
            return cls(float(match[1]) / 100, "share")
        return cls(float(match[1]), "hours")

    def of(self, price: Price) -> float:
        """A price in the budget's unit.

        Raises:
            InputError: If the budget is in hours and no speed is known.
        """
        if self.unit == "share":
            return price.share
        if price.gpu_hours is None:
            raise InputError(
                f"budget {self}: no run has told its speed, so hours are not known; write the "
                "budget as a share of the cost of the target's run, such as 50%"
            )
        return price.gpu_hours

    def less(self, spent: Price) -> Budget:
        """What is left after some runs; 0 if they cost more."""
        return Budget(max(self.amount - self.of(spent), 0.0), self.unit)

    def allows(self, price: Price) -> bool:
        """Whether a price is within the budget; two runs of 25 % are within 50 %."""
        return self.of(price) <= self.amount * (1 + ROUNDING)

    def say(self, amount: float) -> str:
        """An amount in the budget's unit, for people."""
        if self.unit == "share":
            return f"{100 * amount:.3g}% of the cost of the target's run"
        return f"{amount:.3g} GPU-hours"

    def __str__(self) -> str:
        return f"{100 * self.amount:g}%" if self.unit == "share" else f"{self.amount:g}h"


def price_run(
    target: Target, n_params: float, n_tokens: float, speeds: Mapping[float, float]
) -> Price:
    """The price of a run.

    Args:
        target: The large run.
        n_params: Parameters of the run.
        n_tokens: Tokens that it trains, its decay included.
        speeds: Tokens per second by parameters. A size without one is as fast as the nearest,
            slower in proportion if it is larger.
    """
    hours = None
    if speeds:
        like = min(speeds, key=lambda seen: abs(seen - n_params))
        seconds = n_tokens / speeds[like] * max(1.0, n_params / like)
        hours = seconds / 3600
    share = n_params * n_tokens / (target.n_params * target.n_tokens)
    return Price(n_tokens, 6 * n_params * n_tokens, share, hours)
