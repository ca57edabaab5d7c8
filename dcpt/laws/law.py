"""What a law is: a plain function of points and parameters, and the record that describes it."""

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
    """Scales that make inputs of order one: geometric medians of the points that a fit saw.

    They are stored with the fit. Changing them changes the parameters, not the family of curves.

    Args:
        n_params: Parameters in all; None where the table has no sizes (terms in N drop out).
        n_tokens: CPT tokens.
        learning_rate: Absolute peak learning rate; None where the table has none.
        lr_area: S1, learning rate x steps; None where the table has none.
    """

    n_params: float | None
    n_tokens: float
    learning_rate: float | None
    lr_area: float | None = None


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law.

    Args:
        name: Plain name, such as ``gamma``.
        role: ``amplitude`` (the loss is linear in it) or ``nonlinear``.
        lower: Lower bound.
        upper: Upper bound.
        unit: Unit of the value; amplitudes are in nats at the references.
        scale: ``log`` fits the logarithm of the parameter, ``linear`` the parameter itself.
        meaning: One phrase.
        axis: Field of the points (or ``a/b``, a quotient of two) that must have two values or
            more; with one value the parameter has no effect of its own and is held at ``neutral``.
        neutral: The value held then.
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


@dataclass(frozen=True)
class Range:
    """Where a law holds along one field of the points."""

    field: str
    low: float
    high: float
    low_included: bool = False
    high_included: bool = True

    def holds(self, values: Array) -> NDArray[np.bool_]:
        """Which values lie inside, same shape."""
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
        name: Kebab-case and stable.
        formula: As a person writes it.
        source: Where the form comes from.
        side: Channels it is for.
        phases: Phases it can describe; a law with both is fitted to both at once.
        needs: Fields of the points that it cannot do without.
        parameters: In the order of the vector of values.
        loss: The formula, a plain function ``loss(points, p, references)`` in numpy: ``p`` maps a
            parameter's name to values of shape (K, 1), and the result is (K, M) nats per token,
            or what broadcasts to it. It is linear in every amplitude.
        axes: Fewest distinct values of an axis that its terms need. With a single size the
            terms in N drop out instead, and predictions hold at that size only.
        one_value: Fields that must have one value in all points, because the formula ignores them.
        holds_on: Ranges outside which a prediction is refused.

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

    @property
    def amplitudes(self) -> tuple[str, ...]:
        """Names of the parameters in which the loss is linear."""
        return tuple(p.name for p in self.parameters if p.role == "amplitude")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters, in order."""
        return tuple(p.name for p in self.parameters)

    @property
    def sizes_needed(self) -> int:
        """Distinct sizes without which no other size can be predicted."""
        return self.axes.get("n_params", 1)


def evaluate(law: Law, points: Points, values: Array, references: References) -> Array:
    """Losses of a law.

    Args:
        law: The law.
        points: M points.
        values: Parameters in the law's order, shape (P,) or (K, P).
        references: Those of the fit.

    Returns:
        Nats per token, shape (M,) or (K, M).
    """
    batch = np.atleast_2d(values)
    p = {name: batch[:, i : i + 1] for i, name in enumerate(law.names)}
    loss = np.broadcast_to(law.loss(points, p, references), (len(batch), len(points)))
    return loss if np.ndim(values) == 2 else loss[0]
