"""Members of a channel's stack: fitted laws, with draws, and where they predict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dcpt.flags import Flag
from dcpt.laws.law import Law, Range, References, evaluate
from dcpt.laws.points.rate_rule import RateRule
from dcpt.laws.points.record import SAME, Points, known

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Member:
    """A fitted law of a channel, ready to predict.

    Args:
        law: The law.
        values: Best parameters, shape (P,).
        draws: Parameters of each bootstrap draw, shape (n_draws, P). Draws that no stack takes from
            this law are not refitted and hold the best parameters.
        references: Scales of the formula.
        lower: Lower bounds used, shape (P,).
        upper: Upper bounds used, shape (P,).
        objective: Sum of Huber(delta) on log-loss residuals.
        n_points: Points it was fitted to.
        held_at: Fields with a single value in the runs, at which alone the law predicts.
        flags: Warnings about this law.
        rate_rule: The rule LR(N) that questions must follow, if the law ignores the learning rate
            and every size was trained at a rate of its own.
    """

    law: Law
    values: Array
    draws: Array
    references: References
    lower: Array
    upper: Array
    objective: float
    n_points: int
    held_at: Mapping[str, float]
    flags: tuple[Flag, ...]
    rate_rule: RateRule | None = None

    @property
    def n_fitted(self) -> int:
        """Number of fitted parameters; the others were fixed."""
        return int((self.upper > self.lower).sum())

    def predict(self, points: Points) -> Array:
        """Losses of the best fit, shape (M,), nats per token."""
        return evaluate(self.law, points, self.values, self.references)

    def sample(self, points: Points, rows: NDArray[np.intp]) -> Array:
        """Losses of bootstrap draws, shape (len(rows), M), nats per token.

        Args:
            points: M points.
            rows: Numbers of the draws.
        """
        return evaluate(self.law, points, self.draws[rows], self.references)

    def accepts(self, points: Points) -> NDArray[np.bool_]:
        """Points at which the law predicts, shape (M,)."""
        mask = np.ones(len(points), dtype=bool)
        for holds, _ in self._rules(points):
            mask &= holds
        return mask

    def refuse(self, points: Points) -> str | None:
        """Why the law does not predict all of these points; None if it does."""
        for holds, reason in self._rules(points):
            if not holds.all():
                return f"{self.law.name} {reason(points.take(~holds))}"
        return None

    def _rules(self, points: Points) -> Iterator[tuple[Mask, Callable[[Points], str]]]:
        """Each rule: points that follow it, shape (M,), and the words about points that do not."""
        for name in self.law.needs:
            yield known(points, (name,)), partial(_say_missing, name)
        if self.references.n_params is not None:
            named = np.full(len(points), points.n_params is not None)
            yield named, partial(_say_missing, "n_params")
        for valid in self.law.holds_on:
            values = getattr(points, valid.field)
            if values is not None:
                yield valid.holds(values), partial(_say_outside, valid)
        for name, value in self.held_at.items():
            values = getattr(points, name)
            if values is not None:
                there = np.isclose(values, value, rtol=SAME, atol=1e-12)
                yield there, partial(_say_held, name, value)
        rule, rates = self.rate_rule, points.learning_rate
        if rule is not None and points.n_params is not None and rates is not None:
            yield rule.holds(points.n_params, rates), partial(_say_off_rule, rule)


def _say_missing(name: str, points: Points) -> str:
    return f"needs {name}" + ("" if getattr(points, name) is None else " at every point")


def _say_outside(valid: Range, points: Points) -> str:
    return f"holds on {valid}, and {valid.field} is {points.get(valid.field)[0]:.6g}"


def _say_held(name: str, value: float, points: Points) -> str:
    return (
        f"was fitted at one {name} ({value:.4g}) and holds there only, not at "
        f"{points.get(name)[0]:.4g}; runs at other values of {name} are needed"
    )


def _say_off_rule(rule: RateRule, points: Points) -> str:
    size, rate = points.get("n_params"), points.get("learning_rate")
    return (
        "ignores the learning rate, which followed the size in the runs: at "
        f"{size[0]:.4g} parameters that rule gives {rule.at(size)[0]:.3g}, not {rate[0]:.3g}"
    )
