"""The record that describes a law, and the function that evaluates it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.points.record import Points

Array = NDArray[np.float64]


@dataclass(frozen=True)
class References:
    """Reference scales that make a formula's inputs of order one.

    They are geometric medians over the fitted points and are stored with the fit. Other references
    change the values of the parameters but not the curves that a law can describe.

    Args:
        n_params: Number of parameters; None if the table has no sizes (terms in N drop out).
        n_tokens: Tokens of continual pre-training (CPT).
        learning_rate: Peak learning rate, absolute; None if the table has none.
        lr_area: S1, the sum of learning rates over steps; None if the table has none.
    """

    n_params: float | None
    n_tokens: float
    learning_rate: float | None
    lr_area: float | None = None


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law.

    Args:
        name: Name of the parameter, such as ``gamma``.
        role: ``amplitude`` (the loss is linear in it) or ``nonlinear``.
        lower: Lower bound, natural units.
        upper: Upper bound, natural units.
        unit: Unit of the value. An amplitude is in nats per token at the references, or 1 where it
            multiplies a loss.
        scale: ``log`` fits the logarithm of the parameter, ``linear`` the parameter itself.
        meaning: What the parameter means, as a phrase.
        axis: Field of the points, or a quotient ``a/b`` of two, whose distinct values identify the
            parameter.
        neutral: Value at which the parameter is fixed where the axis has fewer than ``fewest``
            distinct values.
        fewest: Number of distinct values of the axis that identify the parameter.
    """

    name: str
    role: Literal["amplitude", "nonlinear"]
    lower: float
    upper: float
    unit: str
    scale: Literal["linear", "log"]
    meaning: str
    axis: str | None = None
    neutral: float = 0.0
    fewest: int = 2


@dataclass(frozen=True)
class Range:
    """Range of one field of the points in which a law is valid.

    Args:
        field: Name of the field.
        low: Lower limit, in the unit of the field.
        high: Upper limit.
        low_included: Whether the lower limit itself is valid.
        high_included: Whether the upper limit itself is valid.
    """

    field: str
    low: float
    high: float
    low_included: bool = False
    high_included: bool = True

    def holds(self, values: Array) -> NDArray[np.bool_]:
        """Which values lie in the range, same shape as ``values``."""
        above = values >= self.low if self.low_included else values > self.low
        return above & (values <= self.high if self.high_included else values < self.high)

    def __str__(self) -> str:
        left = f"{self.low:g} {'<=' if self.low_included else '<'} "
        right = f" {'<=' if self.high_included else '<'} {self.high:g}"
        below = left if self.low > -np.inf else ""
        return f"{below}{self.field}{right if self.high < np.inf else ''}"


@dataclass(frozen=True)
class Law:
    """A named formula for one channel's loss.

    Args:
        name: Stable name in kebab case.
        formula: The formula as text.
        source: The paper or the data from which the formula comes.
        side: Channels that the law describes: ``general``, ``domain`` or ``any``.
        phases: Phases that the law describes: ``constant``, ``annealed`` or both. A law of both is
            fitted to the points of both phases together.
        needs: Fields of the points that the formula requires.
        parameters: The P parameters, in the order of the vector of values.
        loss: The formula as a numpy function ``loss(points, p, references)``. For M points, ``p``
            maps each parameter's name to values of shape (K, 1). The result is in nats per token
            and broadcasts to (K, M). It must be linear in every amplitude.
        axes: For each axis, the smallest number of distinct values with which its terms can be
            fitted. With a single size the terms in N drop out instead, and predictions are valid
            for that size only. So do the terms in D with a single D, if an amplitude has the axis
            ``n_tokens``.
        one_value: Fields that must have the same value in all points because the formula ignores
            them.
        holds_on: Ranges outside which points are not fitted and predictions are refused.
        sources: Names of the sources whose shares the formula reads, in the order of the columns of
            ``source_shares``; empty for a law of the share of domain text.

    Examples:
        >>> irreducible = dcpt.Parameter("E", "amplitude", 0.5, 5.0, "nats", "log", "floor")
        >>> gain = dcpt.Parameter("A", "amplitude", 0.0, 10.0, "nats", "linear", "gain from tokens")
        >>> law = dcpt.Law(
        ...     name="square-root",
        ...     formula="E + A / sqrt(D / 1e6)",
        ...     source="an example",
        ...     side="any",
        ...     phases=("constant",),
        ...     needs=("n_tokens",),
        ...     parameters=(irreducible, gain),
        ...     loss=lambda points, p, _: p["E"] + p["A"] / (points.n_tokens / 1e6) ** 0.5,
        ... )
        >>> constant = runs.query("phase != 'annealed'")
        >>> dcpt.fit(constant, law=law, channels=["domain"], n_draws=20).channels
        ['domain']
    """

    name: str
    formula: str
    source: str
    side: Literal["general", "domain", "any"]
    phases: tuple[str, ...]
    needs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    loss: Callable[[Points, Mapping[str, Array], References], Array]
    axes: Mapping[str, int] = field(default_factory=dict)
    one_value: tuple[str, ...] = ()
    holds_on: tuple[Range, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def amplitudes(self) -> tuple[str, ...]:
        """Names of the parameters in which the loss is linear."""
        return tuple(p.name for p in self.parameters if p.role == "amplitude")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters, in order."""
        return tuple(p.name for p in self.parameters)

    @property
    def axes_that_drop_out(self) -> tuple[str, ...]:
        """Which of ``axes`` need not vary: with a single value their terms drop out."""
        terms = {p.axis for p in self.parameters if p.role == "amplitude"}
        without_d = ("n_tokens",) if "n_tokens" in terms else ()
        return tuple(axis for axis in ("n_params", *without_d) if axis in self.axes)


def evaluate(law: Law, points: Points, values: Array, references: References) -> Array:
    """Evaluate a law.

    Args:
        law: The law, with P parameters.
        points: M points.
        values: Parameters in the law's order, natural units, shape (P,) or (K, P).
        references: Reference scales for which the values hold.

    Returns:
        Losses in nats per token, shape (M,) or (K, M).

    Raises:
        InputError: If the points lack a field that the law needs.
    """
    batch = np.atleast_2d(values)
    p = {name: batch[:, i : i + 1] for i, name in enumerate(law.names)}
    loss = np.broadcast_to(law.loss(points, p, references), (len(batch), len(points)))
    return loss if np.ndim(values) == 2 else loss[0]
