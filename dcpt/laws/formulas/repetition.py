"""Laws of repeated text.

The cost of repetition grows with the size and falls with the amount of text: a large model learns a
small text by heart. Of five forms of that cost, the one of ``repetition-penalty`` had the lowest
error on all 182 runs of arXiv 2305.16264 and on six of seven held-out parts of them, 0.18 nats at
the runs of 400M unique tokens where the forms without the size had 0.33
(``tests/published/test_published_laws.py``).
"""

from __future__ import annotations

import numpy as np

from dcpt.laws.formulas.coordinates import (
    FLOOR,
    SMALL,
    SOME_SHARE,
    SOME_TOKENS,
    Array,
    Values,
    amplitude,
    exponent,
    linear,
    log_size,
    power,
    size_power,
)
from dcpt.laws.formulas.shares import FX2_PARAMETERS, ONE_RATE_AND_PHASE, PLAIN_AXES, fx2
from dcpt.laws.law import Law, Parameter, References
from dcpt.laws.points.record import Points


def _repetition_penalty(points: Points, p: Values, ref: References) -> Array:
    repeats = np.maximum(points.get("epochs") - 1.0, 0.0)
    repeated = (repeats > 0) * np.exp(p["de"] * np.log(np.maximum(repeats, SMALL)))
    text = power(points, "unique_tokens", ref.n_tokens, -p["kp"])
    return fx2(points, p, ref) + p["P"] * repeated * size_power(points, ref, p["kn"]) * text


def _saturated(unique: Array, amount: Array, rate: Array) -> Array:
    """Effective amount when everything beyond ``unique`` has exponentially decreasing value."""
    repeats = np.maximum(amount / unique - 1.0, 0.0)
    return unique * (1.0 - rate * np.expm1(-repeats / rate))


def _muennighoff(points: Points, p: Values, ref: References) -> Array:
    unique = points.get("unique_tokens") / ref.n_tokens
    tokens = points.get("epochs") * unique
    unique = np.minimum(unique, tokens)
    size = np.exp(log_size(points, ref))
    best_size = np.exp((np.log(p["A"]) - np.log(p["B"])) / p["alpha"]) * unique
    n_used = _saturated(np.minimum(size, best_size), size, p["R_n"])
    d_used = _saturated(unique, tokens, p["R_d"])
    lacking = p["A"] * np.exp(-p["alpha"] * np.log(n_used))
    return p["E"] + lacking + p["B"] * np.exp(-p["alpha"] * np.log(d_used))


REPETITION_LAWS = (
    Law(
        name="repetition-penalty",
        formula=(
            "E + A n^-alpha + B d^-beta + C q^-g d^-ka n^-nu"
            " + P max(epochs - 1, 0)^de n^kn (U/D_ref)^-kp"
        ),
        source="dcpt: fx2-mon with a cost of repetition, selected on the runs of arXiv 2305.16264",
        side="any",
        phases=("constant", "annealed"),
        needs=("n_tokens", "share", "unique_tokens"),
        parameters=(
            *FX2_PARAMETERS,
            amplitude("P", "cost of the second epoch, at N_ref and D_ref unique tokens"),
            exponent("de", "exponent of the number of epochs after the first", 0.03, 4.0),
            linear("kn", "exponent of N in that cost", -0.8, 2.0, axis="n_params"),
            linear("kp", "exponent of U in that cost", -0.8, 2.0, axis="unique_tokens"),
        ),
        loss=_repetition_penalty,
        axes={**PLAIN_AXES, "epochs": 3},
        one_value=ONE_RATE_AND_PHASE,
        holds_on=(SOME_TOKENS, SOME_SHARE),
    ),
    Law(
        name="muennighoff",
        formula=(
            "d_1 = min(U / D_ref, x d); d_w = d_1 (1 + R_d (1 - e^(-(x d/d_1 - 1)/R_d)));"
            " n_1 = min(n, (A/B)^(1/alpha) d_1); n_w = n_1 (1 + R_n (1 - e^(-(n/n_1 - 1)/R_n)));"
            " E + A n_w^-alpha + B d_w^-alpha"
        ),
        source="Muennighoff et al. 2023, arXiv 2305.16264",
        side="any",
        phases=("constant", "annealed"),
        needs=("n_params", "n_tokens", "unique_tokens"),
        parameters=(
            FLOOR,
            Parameter(
                "A", "nonlinear", 1e-4, 60.0, "nats/token", "log", "loss due to limited size"
            ),
            Parameter(
                "B", "nonlinear", 1e-4, 60.0, "nats/token", "log", "loss due to limited tokens"
            ),
            exponent("alpha", "exponent of size and tokens"),
            Parameter(
                *("R_d", "nonlinear", 0.1, 1e3, "epochs", "log"),
                "number of repetitions after which their value has decayed to 1/e",
            ),
            Parameter(
                *("R_n", "nonlinear", 0.1, 1e3, "1", "log"),
                "the same for excess parameters",
            ),
        ),
        loss=_muennighoff,
        axes={"n_params": 3, "n_tokens": 3, "epochs": 3},
        one_value=("ratio", *ONE_RATE_AND_PHASE),
        holds_on=(SOME_TOKENS,),
    ),
)
