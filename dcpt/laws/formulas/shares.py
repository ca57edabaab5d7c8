"""Laws of size, tokens and share, for tables with one phase and one learning rate per size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dcpt.laws.formulas.coordinates import (
    EPS,
    FLOOR,
    SIZE_TERM,
    SOME_SHARE,
    SOME_TOKENS,
    TOKENS_TERM,
    Array,
    Values,
    amplitude,
    exponent,
    linear,
    of_share,
    size_power,
    tokens_power,
)
from dcpt.laws.law import Law, Parameter, Range, References
from dcpt.laws.points.record import Points


def without_share(points: Points, p: Values, ref: References) -> Array:
    """E + A n^-alpha + B d^-beta (Hoffmann et al. 2022, arXiv 2203.15556).

    Args:
        points: M points.
        p: Parameters by name, each of shape (K, 1), natural units.
        ref: Reference scales of the formula.

    Returns:
        Losses in nats per token, shape (K, M).
    """
    size = p["A"] * size_power(points, ref, -p["alpha"])
    return p["E"] + size + p["B"] * tokens_power(points, ref, -p["beta"])


def _d_cpt(points: Points, p: Values, ref: References) -> Array:
    size = p["A"] * size_power(points, ref, -p["alpha"])
    learned = of_share(points, lambda x: np.exp(p["eta"] * np.log(x)))
    tokens = p["B"] * learned * tokens_power(points, ref, -p["beta"])
    return p["E"] + size + tokens + p["C"] * _cost_of_small_share(points, p)


def _d_cpt_d0(points: Points, p: Values, ref: References) -> Array:
    size = p["A"] * size_power(points, ref, -p["alpha"])
    learned = of_share(points, lambda x: np.exp(p["eta"] * np.log(x)))
    values, index = points.levels("n_tokens")
    tokens = np.exp(-p["beta"] * np.log(values / ref.n_tokens + p["d0"]))[:, index]
    return p["E"] + size + p["B"] * learned * tokens + p["C"] * _cost_of_small_share(points, p)


def _cost_of_small_share(points: Points, p: Values) -> Array:
    """(x + eps)^-gamma, shape (K, M)."""
    return of_share(points, lambda x: np.exp(-p["gamma"] * np.log(x + p["eps"])))


def _data_mixing(points: Points, p: Values, ref: References) -> Array:
    fading = tokens_power(points, ref, -p["ka"]) * size_power(points, ref, -p["nu"])
    share = of_share(points, lambda x: np.exp(-p["t"] * x))
    return without_share(points, p, ref) + p["C"] * share * fading


def _bimix(points: Points, p: Values, ref: References) -> Array:
    return of_share(points, lambda x: np.exp(-p["g"] * np.log(x))) * without_share(points, p, ref)


def mixed_share(points: Points, p: Values, power: Array) -> Array:
    """q^power with q = x + k (1 - x), where text of the other side counts by the factor k.

    Args:
        points: M points.
        p: Parameters by name, each of shape (K, 1); ``k`` is used.
        power: The exponent, shape (K, 1).

    Returns:
        Shape (K, M).
    """
    return of_share(points, lambda x: np.exp(power * np.log(x + p["k"] * (1.0 - x))))


def fx2(points: Points, p: Values, ref: References) -> Array:
    """E + A n^-alpha + B d^-beta + C q^-g d^-ka n^-nu.

    Args:
        points: M points.
        p: Parameters by name, each of shape (K, 1), natural units.
        ref: Reference scales of the formula.

    Returns:
        Losses in nats per token, shape (K, M).
    """
    fading = tokens_power(points, ref, -p["ka"]) * size_power(points, ref, -p["nu"])
    return without_share(points, p, ref) + p["C"] * mixed_share(points, p, -p["g"]) * fading


def _u10(points: Points, p: Values, ref: References) -> Array:
    size = p["A"] * size_power(points, ref, -p["alpha"])
    tokens = p["B"] * mixed_share(points, p, p["h"]) * tokens_power(points, ref, -p["beta"])
    share = p["C"] * mixed_share(points, p, -p["g"]) * tokens_power(points, ref, -p["ka"])
    return p["E"] + size + tokens + share


OF_SHARE = Parameter("g", "nonlinear", 0.02, 4.0, "1", "log", "exponent of the share")
BORROWED = Parameter(
    "k", "nonlinear", 1e-3, 0.9, "1", "log", "value of a token of the other side for this channel"
)
PRICE = amplitude("C", "cost of a small share of the channel")
FX2_PARAMETERS = (
    *(FLOOR, *SIZE_TERM, *TOKENS_TERM, PRICE, OF_SHARE, BORROWED),
    linear("ka", "exponent of D in that cost", 0.0, 0.8, axis="n_tokens"),
    linear("nu", "exponent of N in that cost", -0.8, 0.8, axis="n_params"),
)
PLAIN_AXES = {"n_params": 2, "n_tokens": 2, "ratio": 3}
ONE_RATE_AND_PHASE = ("learning_rate", "annealed")
_D_CPT_PARAMETERS = (
    FLOOR,
    *SIZE_TERM,
    *TOKENS_TERM,
    exponent("eta", "exponent of the share in the token term", 0.05, 3.0, axis="n_tokens"),
    PRICE,
    EPS,
    Parameter("gamma", "nonlinear", 0.02, 4.0, "1", "log", "exponent of that cost"),
)


def _of_shares(
    *,
    name: str,
    formula: str,
    source: str,
    parameters: tuple[Parameter, ...],
    loss: Callable[[Points, Values, References], Array],
    tokens: Range = SOME_TOKENS,
) -> Law:
    """A law of size, tokens and share for either side, at one phase and one rate per size."""
    return Law(
        name=name,
        formula=formula,
        source=source,
        side="any",
        phases=("constant", "annealed"),
        needs=("n_tokens", "share"),
        parameters=parameters,
        loss=loss,
        axes=PLAIN_AXES,
        one_value=ONE_RATE_AND_PHASE,
        holds_on=(tokens, SOME_SHARE),
    )


SHARE_LAWS = (
    Law(
        name="chinchilla",
        formula="E + A n^-alpha + B d^-beta",
        source="Hoffmann et al. 2022, arXiv 2203.15556",
        side="any",
        phases=("constant", "annealed"),
        needs=("n_tokens",),
        parameters=(FLOOR, *SIZE_TERM, *TOKENS_TERM),
        loss=without_share,
        axes={"n_params": 2, "n_tokens": 2},
        one_value=("ratio", *ONE_RATE_AND_PHASE),
        holds_on=(SOME_TOKENS,),
    ),
    _of_shares(
        name="d-cpt",
        formula="E + A n^-alpha + B x^eta d^-beta + C (x + eps)^-gamma",
        source="Que et al. 2024, arXiv 2406.01375 (L3)",
        parameters=_D_CPT_PARAMETERS,
        loss=_d_cpt,
    ),
    _of_shares(
        name="d-cpt-d0",
        formula="E + A n^-alpha + B x^eta (d + d0)^-beta + C (x + eps)^-gamma",
        source="dcpt: d-cpt, but finite at D = 0",
        parameters=(
            *_D_CPT_PARAMETERS,
            Parameter(
                "d0",
                "nonlinear",
                1e-4,
                1e3,
                "D_ref",
                "log",
                "tokens to which the base is equivalent",
                axis="n_tokens",
                neutral=1.0,
                fewest=3,
            ),
        ),
        loss=_d_cpt_d0,
        tokens=Range("n_tokens", 0.0, np.inf, True, False),
    ),
    _of_shares(
        name="data-mixing",
        formula="E + A n^-alpha + B d^-beta + C e^(-t x) d^-ka n^-nu",
        source="after data mixing laws, arXiv 2403.16952, with terms in N and D",
        parameters=(
            *(FLOOR, *SIZE_TERM, *TOKENS_TERM, PRICE),
            Parameter(
                "t",
                "nonlinear",
                0.2,
                60.0,
                "1",
                "log",
                "rate at which that cost decreases with the share",
            ),
            linear("ka", "exponent of D in that cost", -0.8, 0.8, axis="n_tokens"),
            linear("nu", "exponent of N in that cost", -0.8, 0.8, axis="n_params"),
        ),
        loss=_data_mixing,
    ),
    _of_shares(
        name="bimix",
        formula="x^-g (E + A n^-alpha + B d^-beta)",
        source="after BiMix, arXiv 2405.14908, with a term in N",
        parameters=(FLOOR, *SIZE_TERM, *TOKENS_TERM, OF_SHARE),
        loss=_bimix,
    ),
    _of_shares(
        name="fx2-mon",
        formula="E + A n^-alpha + B d^-beta + C q^-g d^-ka n^-nu",
        source="dcpt, selected on pre-training mixtures",
        parameters=FX2_PARAMETERS,
        loss=fx2,
    ),
    _of_shares(
        name="u10",
        formula="E + A n^-alpha + B q^h d^-beta + C q^-g d^-ka",
        source="dcpt, selected on pre-training mixtures",
        parameters=(
            *(FLOOR, *SIZE_TERM, *TOKENS_TERM, PRICE, OF_SHARE, BORROWED),
            linear("ka", "exponent of D in that cost", -0.8, 0.8, axis="n_tokens"),
            linear("h", "exponent of the share in the token term", 0.0, 2.0, axis="n_tokens"),
        ),
        loss=_u10,
    ),
)
