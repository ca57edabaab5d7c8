"""Scaled coordinates of the points, and the parameters that several formulas share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.law import Parameter, Range, References
from dcpt.laws.points.record import Points

Array = NDArray[np.float64]
Values = Mapping[str, Array]

SMALL = 1e-12
"""Replaces a share of 0 inside a logarithm; the formula then sets its term to 0."""

NOTATION = {
    "N": "number of parameters, the column n_params of the runs table",
    "D": "CPT tokens so far, the column n_tokens",
    "LR": "peak learning rate of the trunk, absolute, the column learning_rate",
    "N_ref": "references.n_params (null: the terms in N drop out, n = 1)",
    "D_ref": "references.n_tokens",
    "LR_ref": "references.learning_rate",
    "S_ref": "references.lr_area",
    "n": "N / N_ref",
    "d": "D / D_ref",
    "lam": "LR / LR_ref",
    "R": "lam n^.4",
    "Rp": "LR / (peak learning rate of the base's pre-training)",
    "u": "d R^.75 unless the formula says otherwise",
    "D_w": "2 x warmup tokens",
    "d_u": "(D - D_w (1 - e^(-D/D_w))) / D_ref: tokens after the re-warming",
    "D_pt": "tokens that the base was pre-trained on",
    "r": "share of domain tokens, the column ratio",
    "r_j": "share of source j in training, the column share_<channel>",
    "s": "1 - r",
    "q": "x + k (1 - x)",
    "U": "unique tokens of the channel, the column unique_tokens_<channel>",
    "epochs": "x D / U",
    "e": "Euler's number",
    "x": "the channel's share: r for the domain, s for the general side",
    "rho": "r / (s + eps u^-.5)",
    "L0": "the channel's base loss, nats per token",
    "Lg0": "base loss of the general side, nats per token (L0 where there is no general side)",
    "annealed": "1 after a decay to zero, 0 at a constant learning rate",
    "S1": "sum of learning rates over the steps so far, the column lr_area",
    "S": "S1 / S_ref",
    "S2": "sum over steps i of sum over k <= i of drop_k .999^(i-k), the column anneal_area",
    "drop_k": "learning rate before step k minus that of step k (before step 1: 0)",
    "LR_k": "learning rate of step k",
    "S_k": "sum of learning rates from step k to the point, both included",
}
"""Meaning of the symbols in formulas; written into every ``fit.json``."""

SIZE_IN_RATE = 0.4
"""Exponent of n in R = lam n^.4."""

CLOCK_RATE = 0.75
"""Exponent of the learning rate in u = d R^.75."""

NOISE_RATE = 1.5
"""Exponent of R in the noise that the learning rate adds to the loss."""

FALL_TOKENS = 0.2
"""Exponent of D in the gain from general text."""

EDGE_TOKENS = -0.5
"""Exponent of D in the smallest effective general share, eps d^-.5."""


def power(points: Points, name: str, reference: float | None, exponent: Array) -> Array:
    """(field/reference)^exponent, computed once per distinct value of the field.

    Args:
        points: M points.
        name: Name of the field.
        reference: Reference scale of the field; None if the table has no values of it.
        exponent: Shape (K, 1).

    Returns:
        Shape (K, M), or 1 of shape (K, 1) if the reference is None.

    Raises:
        InputError: If there is a reference and the points lack the field.
    """
    if reference is None:
        return 1.0 + 0.0 * exponent
    values, index = points.levels(name)
    result: Array = np.exp(exponent * np.log(values / reference))[:, index]
    return result


def size_power(points: Points, ref: References, exponent: Array) -> Array:
    """n^exponent, shape (K, M); 1 where the table has no sizes."""
    return power(points, "n_params", ref.n_params, exponent)


def tokens_power(points: Points, ref: References, exponent: Array) -> Array:
    """d^exponent, shape (K, M)."""
    return power(points, "n_tokens", ref.n_tokens, exponent)


def of_share(points: Points, function: Callable[[Array], Array]) -> Array:
    """A function of the channel's share, computed once per distinct share, shape (K, M)."""
    values, index = points.levels("share")
    return function(values)[:, index]


def log_size(points: Points, ref: References) -> Array:
    """Log of N/N_ref, shape (M,); 0 where the table has no sizes."""
    if ref.n_params is None:
        return np.zeros(len(points))
    return np.log(points.get("n_params") / ref.n_params)


def log_tokens(points: Points, ref: References) -> Array:
    """Log of D/D_ref, shape (M,)."""
    return np.log(points.get("n_tokens") / ref.n_tokens)


def log_plain_rate(points: Points, ref: References) -> Array:
    """Log of lam = LR/LR_ref, shape (M,)."""
    assert ref.learning_rate is not None, "a law with a learning rate must say so in its needs"
    return np.log(points.get("learning_rate") / ref.learning_rate)


def log_sized_rate(points: Points, ref: References) -> Array:
    """Log of R = lam n^.4, the learning rate scaled by the model size, shape (M,)."""
    return log_plain_rate(points, ref) + SIZE_IN_RATE * log_size(points, ref)


def rewarmed(points: Points) -> Array:
    """Fraction of the re-warming that is complete: 1 - e^(-D/D_w), shape (M,); 1 without warmup."""
    length = 2.0 * points.get("warmup_tokens")
    tokens = points.get("n_tokens")
    return -np.expm1(-tokens / np.where(length > 0, length, tokens * SMALL))


def log_trained_tokens(points: Points, ref: References) -> Array:
    """Log of d_u, the tokens after the re-warming over D_ref, shape (M,).

    Without warmup it is the log of d.
    """
    tokens = points.get("n_tokens")
    trained = tokens - 2.0 * points.get("warmup_tokens") * rewarmed(points)
    return np.log(trained / ref.n_tokens)


def log_rho(ratio: Array, log_clock: Array, eps: Array) -> Array:
    """Log of rho = r / (s + eps u^-.5).

    Args:
        ratio: r, shape (M,). At r = 0 the result is finite but arbitrary, and the formula must set
            its term to 0.
        log_clock: Log of u, or of d in its place, shape (M,).
        eps: Shape (K, 1).

    Returns:
        Shape (K, M).
    """
    edge: Array = 1.0 - ratio + eps * np.exp(EDGE_TOKENS * log_clock)
    return np.log(np.maximum(ratio, SMALL)) - np.log(edge)


def relative_rate(points: Points) -> Array:
    """Rp, the learning rate over the peak rate of the base's pre-training, shape (M,)."""
    return points.get("learning_rate") / points.get("base_peak_learning_rate")


def amplitude(
    name: str,
    meaning: str,
    upper: float = 60.0,
    lower: float = 0.0,
    axis: str | None = None,
    unit: str = "nats/token",
) -> Parameter:
    """A parameter in which the loss is linear.

    Args:
        name: Name of the parameter.
        meaning: What it means, as a phrase.
        upper: Upper bound.
        lower: Lower bound.
        axis: Axis that identifies it, see ``Parameter``.
        unit: ``nats/token``, or ``1`` where it multiplies a loss.
    """
    return Parameter(name, "amplitude", lower, upper, unit, "linear", meaning, axis)


def exponent(
    name: str, meaning: str, lower: float = 0.03, upper: float = 2.5, axis: str | None = None
) -> Parameter:
    """A positive exponent, fitted on a log scale; arguments as in ``amplitude``."""
    return Parameter(name, "nonlinear", lower, upper, "1", "log", meaning, axis, neutral=1.0)


def exponent_of_term(name: str, meaning: str, axis: str, published: float) -> Parameter:
    """The exponent of a term A x^-alpha beside a floor.

    Two values of x identify the term but not its exponent, which is then the published one.

    Args:
        name: Name of the parameter.
        meaning: What it means, as a phrase.
        axis: The field x.
        published: The exponent of that field in arXiv 2203.15556.
    """
    return replace(exponent(name, meaning, axis=axis), neutral=published, fewest=3)


def linear(
    name: str, meaning: str, lower: float, upper: float, axis: str | None = None
) -> Parameter:
    """An exponent or fraction of either sign, fitted on a linear scale; see ``amplitude``."""
    return Parameter(name, "nonlinear", lower, upper, "1", "linear", meaning, axis)


FLOOR = amplitude("E", "irreducible loss")
SIZE_TERM = (
    amplitude("A", "loss due to limited model size, at N_ref", axis="n_params"),
    exponent_of_term("alpha", "exponent of N", "n_params", 0.34),
)
TOKENS_TERM = (
    amplitude("B", "loss due to limited training tokens, at D_ref", axis="n_tokens"),
    exponent_of_term("beta", "exponent of D", "n_tokens", 0.28),
)
G = Parameter("g", "nonlinear", 0.02, 4.0, "1", "log", "exponent of the general share")
EPS = Parameter(
    "eps", "nonlinear", 1e-4, 2.0, "1", "log", "general share at which forgetting levels off"
)
K = Parameter("k", "nonlinear", 1e-4, 1e4, "1", "log", "rate at which forgetting saturates in LR")
LIFT = amplitude("H", "rise due to re-warming, from the noise of the learning rate")
FALL = amplitude("F", "gain from general text")
FALL_BY_CLOCK = amplitude(
    "F", "gain from general text, relative to the pre-training tokens", upper=1e4
)
"""While D is small relative to D_pt only F/D_pt matters, so F itself may be large."""
BELOW_ONE = Range("ratio", 0.0, 1.0, low_included=True, high_included=False)
SOME_DOMAIN = Range("ratio", 0.0, 1.0)
SOME_SHARE = Range("share", 0.0, 1.0)
SOME_TOKENS = Range("n_tokens", 0.0, np.inf, high_included=False)
DOMAIN_PARAMETERS = (
    amplitude("E", "irreducible domain loss", lower=-9.0, upper=9.0),
    amplitude("w", "weight of the base loss", 1.2, axis="base_loss_general", unit="1"),
    amplitude("B", "loss due to limited training tokens, at the references"),
    exponent("beta", "exponent of the training tokens"),
    amplitude("C", "cost of a smaller domain share, at N_ref"),
    linear("nu", "exponent of N in that cost", -0.8, 0.8, axis="n_params"),
    LIFT,
)
