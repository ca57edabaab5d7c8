"""What formulas are written in: scaled coordinates of the points, and the parameters they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.law import Parameter, Range, References
from dcpt.laws.points.record import Points

Array = NDArray[np.float64]
Values = Mapping[str, Array]

SMALL = 1e-12
"""Stands for a share of 0 inside a logarithm, whose term a law then sets to 0 itself."""

NOTATION = {
    "N": "parameters in all, the column n_params of the runs table",
    "D": "CPT tokens so far, the column n_tokens",
    "LR": "the trunk's peak learning rate, absolute, the column learning_rate",
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
    "d_u": "(D - D_w (1 - e^(-D/D_w))) / D_ref: tokens since the learning rate is back",
    "D_pt": "tokens that the base was pre-trained on",
    "r": "share of domain tokens, the column ratio",
    "s": "1 - r",
    "q": "x + k (1 - x)",
    "U": "unique tokens of the channel, the column unique_tokens_<channel>",
    "epochs": "x D / U",
    "e": "Euler's number",
    "x": "the channel's own share: r for the domain, s for the general side",
    "rho": "r / (s + eps u^-.5)",
    "L0": "the channel's own base loss, nats per token",
    "Lg0": "the general side's base loss, nats per token",
    "annealed": "1 after a decay to zero, 0 at constant rate",
    "S1": "sum of learning rates over the steps so far, the column lr_area",
    "S": "S1 / S_ref",
    "S2": "sum over steps i of sum over k <= i of drop_k .999^(i-k), the column anneal_area",
    "drop_k": "learning rate before step k minus that of step k (before step 1: 0)",
    "LR_k": "learning rate of step k",
    "S_k": "sum of learning rates from step k to the point, both included",
}
"""What the letters of a formula stand for; written into every ``fit.json``."""

SIZE_IN_RATE = 0.4
CLOCK_RATE = 0.75
NOISE_RATE = 1.5
FALL_TOKENS = 0.2
EDGE_TOKENS = -0.5


def power(points: Points, name: str, reference: float | None, exponent: Array) -> Array:
    """(field/reference)^exponent, computed once per distinct value of the field, shape (K, M).

    Args:
        points: M points.
        name: The field.
        reference: Its scale; None where the table has none of it, and the power is 1.
        exponent: Shape (K, 1).
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
    """A function of the channel's own share, computed once per distinct share, shape (K, M)."""
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
    """Log of R = lam n^.4, the learning rate that matters at this size, shape (M,)."""
    return log_plain_rate(points, ref) + SIZE_IN_RATE * log_size(points, ref)


def rewarmed(points: Points) -> Array:
    """How far the re-warm rise is complete: 1 - e^(-D/D_w); 1 where nothing was warmed up."""
    length = 2.0 * points.get("warmup_tokens")
    tokens = points.get("n_tokens")
    return -np.expm1(-tokens / np.where(length > 0, length, tokens * SMALL))


def log_trained_tokens(points: Points, ref: References) -> Array:
    """Log of d_u: tokens since the learning rate is back, over D_ref, shape (M,).

    Where nothing was warmed up it is the log of d.
    """
    tokens = points.get("n_tokens")
    trained = tokens - 2.0 * points.get("warmup_tokens") * rewarmed(points)
    return np.log(trained / ref.n_tokens)


def log_rho(ratio: Array, log_clock: Array, eps: Array) -> Array:
    """Log of r / (s + eps clock^-1/2); any number at r = 0, where a law sets the term to 0."""
    edge: Array = 1.0 - ratio + eps * np.exp(EDGE_TOKENS * log_clock)
    return np.log(np.maximum(ratio, SMALL)) - np.log(edge)


def relative_rate(points: Points) -> Array:
    """Rp: the learning rate in units of the peak of the base's pre-training, shape (M,)."""
    return points.get("learning_rate") / points.get("base_peak_learning_rate")


def amplitude(
    name: str,
    meaning: str,
    upper: float = 60.0,
    lower: float = 0.0,
    axis: str | None = None,
    unit: str = "nats/token",
) -> Parameter:
    """A parameter that the loss is linear in; nats per token, or 1 where it scales a loss."""
    return Parameter(name, "amplitude", lower, upper, unit, "linear", meaning, axis)


def exponent(
    name: str, meaning: str, lower: float = 0.03, upper: float = 2.5, axis: str | None = None
) -> Parameter:
    """A positive exponent, fitted as its logarithm."""
    return Parameter(name, "nonlinear", lower, upper, "1", "log", meaning, axis, neutral=1.0)


def linear(
    name: str, meaning: str, lower: float, upper: float, axis: str | None = None
) -> Parameter:
    """An exponent or share of either sign, fitted as it is."""
    return Parameter(name, "nonlinear", lower, upper, "1", "linear", meaning, axis)


FLOOR = amplitude("E", "loss that no tokens remove")
SIZE_TERM = (
    amplitude("A", "what a small model lacks, at N_ref", axis="n_params"),
    exponent("alpha", "exponent of N", axis="n_params"),
)
TOKENS_TERM = (
    amplitude("B", "what training still lacks, at D_ref"),
    exponent("beta", "exponent of D"),
)
G = Parameter("g", "nonlinear", 0.02, 4.0, "1", "log", "exponent of the general share")
EPS = Parameter("eps", "nonlinear", 1e-4, 2.0, "1", "log", "share at which the cliff bends")
K = Parameter("k", "nonlinear", 1e-4, 1e4, "1", "log", "how soon forgetting saturates in LR")
LIFT = amplitude("H", "re-warm rise, the noise of the learning rate")
FALL = amplitude("F", "what more general text gains")
FALL_BY_CLOCK = amplitude("F", "what more general text gains, by the base's own tokens", upper=1e4)
"""Only F/D_pt matters while D is small compared with the base's own tokens, so F may be large."""
BELOW_ONE = Range("ratio", 0.0, 1.0, low_included=True, high_included=False)
SOME_DOMAIN = Range("ratio", 0.0, 1.0)
SOME_SHARE = Range("share", 0.0, 1.0)
SOME_TOKENS = Range("n_tokens", 0.0, np.inf, high_included=False)
DOMAIN_PARAMETERS = (
    amplitude("E", "floor of the domain loss", lower=-9.0, upper=9.0),
    amplitude("w", "weight of the base's loss", 1.2, axis="base_loss_general", unit="1"),
    *TOKENS_TERM,
    amplitude("C", "price of a smaller domain share, at N_ref"),
    linear("nu", "exponent of N in that price", -0.8, 0.8, axis="n_params"),
    LIFT,
)
