"""Laws of both phases: points at a constant rate and points after a decay, fitted together.

``saturating-general``, ``sized-general``, ``plateau-domain``, ``paced-domain`` and
``trained-domain`` were selected on the code and the verse runs together, among about 650 formulas
for the general side and 550 for the domain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from dcpt.laws.formulas.anchored import anchored_domain_lr
from dcpt.laws.formulas.coordinates import (
    BELOW_ONE,
    CLOCK_RATE,
    DOMAIN_PARAMETERS,
    EDGE_TOKENS,
    EPS,
    FALL,
    FALL_TOKENS,
    LIFT,
    SMALL,
    SOME_DOMAIN,
    SOME_TOKENS,
    Array,
    G,
    K,
    Values,
    amplitude,
    exponent,
    linear,
    log_plain_rate,
    log_rho,
    log_size,
    log_sized_rate,
    log_tokens,
    log_trained_tokens,
    relative_rate,
    rewarmed,
)
from dcpt.laws.law import Law, Parameter, References
from dcpt.laws.points.record import Points

FORGETTING_TOKENS = 0.5
"""Exponent of D in forgetting and in the gain from general text."""


def _noise_shape(points: Points, p: Values) -> Array:
    """Noise of the learning rate, (K, M): it rises with the warmup, and a decay removes a part."""
    return rewarmed(points) - p["kappa"] * points.get("annealed")


def _saturating_general(points: Points, p: Values, ref: References) -> Array:
    ratio, base, log_d = points.get("ratio"), points.get("base_loss"), log_tokens(points, ref)
    s = 1.0 - ratio
    path = np.exp(log_plain_rate(points, ref) + FORGETTING_TOKENS * log_d)
    steep = (ratio > 0) * np.exp(p["g"] * log_rho(ratio, log_d, p["eps"]))
    noise = p["H"] * relative_rate(points) * _noise_shape(points, p) - p["G"] * rewarmed(points)
    fall = p["F"] * s * np.exp(FORGETTING_TOKENS * log_d)
    return base + noise - fall - p["C"] * base * np.expm1(-p["k"] * path) * steep


def _sized_general(points: Points, p: Values, ref: References) -> Array:
    ratio, base = points.get("ratio"), points.get("base_loss")
    log_d, log_n = log_tokens(points, ref), log_size(points, ref)
    log_u = log_d + CLOCK_RATE * log_sized_rate(points, ref)
    log_path = log_plain_rate(points, ref) - p["m"] * log_n + FORGETTING_TOKENS * log_d
    edge = np.log(1.0 - ratio + p["eps"] * np.exp(EDGE_TOKENS * log_d))
    log_shape = (np.log(np.maximum(ratio, SMALL)) - p["g"] * edge) * np.exp(p["nu"] * log_n)
    forgotten = np.log1p(p["k"] * np.exp(log_path)) * np.exp(log_shape) * (ratio > 0)
    noise = p["H"] * relative_rate(points) * _noise_shape(points, p)
    fall = p["F"] * (1.0 - ratio) * np.exp(FALL_TOKENS * log_u)
    result: Array = base + noise - fall + p["C"] * base**2 * forgotten
    return result


def _joint_general(points: Points, p: Values, ref: References) -> Array:
    ratio, log_d = points.get("ratio"), log_tokens(points, ref)
    s = 1.0 - ratio
    lam = np.exp(log_plain_rate(points, ref))
    edge = np.log(s + p["eps"] * np.exp(EDGE_TOKENS * log_d))
    forgotten = np.log1p(p["k"] * lam * np.exp(p["h"] * log_d)) * ratio * np.exp(-p["g"] * edge)
    fall = p["F"] * s * np.exp(FALL_TOKENS * log_d)
    noise = p["H"] * relative_rate(points) * _noise_shape(points, p)
    return points.get("base_loss") - fall + p["C"] * forgotten + noise


def _approach_plateau(points: Points, p: Values, log_clock: Array) -> Array:
    """Domain loss, (K, M), from B before training to a plateau set by share and base, plus noise.

    ``log_clock`` is the log of v, the measure of training, shape (K, M).
    """
    base = points.get("base_loss_general")
    unlearnt = 1.0 / (1.0 + p["k"] * np.exp(p["beta"] * log_clock))
    end = p["E"] + p["w"] * base - p["C"] * base * np.log(points.get("share"))
    noise = p["H"] * relative_rate(points) * _noise_shape(points, p)
    result: Array = p["B"] * unlearnt + end * (1.0 - unlearnt) + noise
    return result


def _plateau_domain(points: Points, p: Values, ref: References) -> Array:
    rate = relative_rate(points)
    pace = np.log(rate) - np.log1p(p["l"] * rate)
    return _approach_plateau(points, p, log_trained_tokens(points, ref) + pace)


def _paced_domain(points: Points, p: Values, ref: References) -> Array:
    pace = p["a"] * log_plain_rate(points, ref) + p["b"] * log_size(points, ref)
    return _approach_plateau(points, p, log_trained_tokens(points, ref) + pace)


def _trained_domain(points: Points, p: Values, ref: References) -> Array:
    base = points.get("base_loss_general")
    log_u = log_trained_tokens(points, ref) + p["p"] * log_sized_rate(points, ref)
    share = p["C"] * base * np.log(points.get("share"))
    noise = p["H"] * relative_rate(points) * _noise_shape(points, p)
    return p["E"] + p["w"] * base + p["B"] * np.exp(-p["beta"] * log_u) - share + noise


def _annealed_domain(points: Points, p: Values, ref: References) -> Array:
    gain = points.get("annealed") * np.exp(p["a"] * np.log(relative_rate(points)))
    return anchored_domain_lr(points, p, ref) - p["c"] * gain


Formula = Callable[[Points, Values, References], Array]
BOTH = ("constant", "annealed")
_GENERAL_NEEDS = (
    *("n_tokens", "ratio", "learning_rate", "annealed", "base_loss"),
    *("base_peak_learning_rate", "warmup_tokens"),
)
_DOMAIN_NEEDS = (
    *("n_tokens", "share", "learning_rate", "annealed", "base_loss_general"),
    *("base_peak_learning_rate", "warmup_tokens"),
)
_KAPPA = linear("kappa", "fraction of the noise that a decay removes", 0.0, 2.0, "annealed")
_E, _W = DOMAIN_PARAMETERS[:2]
_SHARE_PRICE = amplitude("C", "cost of a smaller domain share, in base losses", unit="1")

_PLATEAU = (
    *(_E, _W),
    amplitude("B", "loss before training"),
    exponent("beta", "exponent of v"),
    Parameter("k", "nonlinear", 1e-3, 1e4, "1", "log", "pace of learning"),
    *(_SHARE_PRICE, LIFT, _KAPPA),
)


def _law(
    side: Literal["general", "domain"],
    name: str,
    formula: str,
    parameters: tuple[Parameter, ...],
    loss: Formula,
) -> Law:
    general = side == "general"
    return Law(
        name=name,
        formula=formula,
        source="dcpt, selected on code, annealed verse and small annealed ladders together",
        side=side,
        phases=BOTH,
        needs=_GENERAL_NEEDS if general else _DOMAIN_NEEDS,
        parameters=parameters,
        loss=loss,
        axes={"ratio": 3} if general else {"n_params": 2, "ratio": 2, "n_tokens": 3},
        holds_on=(SOME_TOKENS, BELOW_ONE if general else SOME_DOMAIN),
    )


PHASE_LAWS = (
    _law(
        "general",
        name="saturating-general",
        formula=(
            "L0 + H Rp [(1 - e^(-D/D_w)) - kappa annealed] - G (1 - e^(-D/D_w)) - F s d^.5"
            " + C L0 (1 - e^(-k lam d^.5)) [r/(s + eps d^-.5)]^g"
        ),
        parameters=(
            LIFT,
            amplitude("G", "noise in the base loss"),
            FALL,
            amplitude("C", "forgetting in the limit of long training, in base losses", unit="1"),
            _KAPPA,
            K,
            EPS,
            G,
        ),
        loss=_saturating_general,
    ),
    _law(
        "general",
        name="sized-general",
        formula=(
            "u = d R^.75; L0 + H Rp [(1 - e^(-D/D_w)) - kappa annealed] - F s u^.2"
            " + C L0^2 ln(1 + k lam n^-m d^.5) [r/(s + eps d^-.5)^g]^(n^nu)"
        ),
        parameters=(
            LIFT,
            FALL,
            amplitude("C", "forgetting at the references", unit="token/nats"),
            _KAPPA,
            K,
            linear("m", "exponent of N in the pace of forgetting", -0.8, 0.8, axis="n_params"),
            EPS,
            G,
            linear("nu", "exponent of N in the steepness in r", -0.8, 0.8, axis="n_params"),
        ),
        loss=_sized_general,
    ),
    _law(
        "domain",
        name="plateau-domain",
        formula=(
            "v = d_u Rp/(1 + l Rp); f = 1/(1 + k v^beta);"
            " B f + (1 - f) (E + w Lg0 - C Lg0 ln r) + H Rp [(1 - e^(-D/D_w)) - kappa annealed]"
        ),
        parameters=(
            *_PLATEAU,
            Parameter(
                "l", "nonlinear", 1e-3, 1e2, "1", "log", "rate at which the pace saturates in LR"
            ),
        ),
        loss=_plateau_domain,
    ),
    _law(
        "domain",
        name="paced-domain",
        formula=(
            "v = d_u lam^a n^b; f = 1/(1 + k v^beta);"
            " B f + (1 - f) (E + w Lg0 - C Lg0 ln r) + H Rp [(1 - e^(-D/D_w)) - kappa annealed]"
        ),
        parameters=(
            *_PLATEAU,
            linear("a", "exponent of LR in the pace of learning", -0.1, 2.0, axis="learning_rate"),
            linear("b", "exponent of N in that pace", -0.5, 2.0, axis="n_params"),
        ),
        loss=_paced_domain,
    ),
    _law(
        "domain",
        name="trained-domain",
        formula=(
            "u = d_u R^p; E + w Lg0 + B u^-beta - C Lg0 ln r"
            " + H Rp [(1 - e^(-D/D_w)) - kappa annealed]"
        ),
        parameters=(
            *DOMAIN_PARAMETERS[:4],
            linear("p", "exponent of R in u", -0.1, 2.0, axis="learning_rate"),
            *(_SHARE_PRICE, LIFT, _KAPPA),
        ),
        loss=_trained_domain,
    ),
    Law(
        name="joint-general",
        formula=(
            "L0 - F s d^.2 + C ln(1 + k lam d^h) r / (s + eps d^-.5)^g"
            " + H Rp [(1 - e^(-D/D_w)) - kappa annealed]"
        ),
        source="dcpt, selected on annealed runs",
        side="general",
        phases=BOTH,
        needs=_GENERAL_NEEDS,
        parameters=(
            FALL,
            amplitude("C", "forgetting at the references"),
            K,
            linear("h", "exponent of D in forgetting", -0.1, 1.0, axis="n_tokens"),
            EPS,
            G,
            LIFT,
            _KAPPA,
        ),
        loss=_joint_general,
        axes={"ratio": 3},
        holds_on=(SOME_TOKENS, BELOW_ONE),
    ),
    Law(
        name="annealed-domain",
        formula=(
            "u = d R^.75; E + w Lg0 + B u^-beta - C n^-nu ln r + H R^1.5 (1 - e^(-D/D_w))"
            " - c Rp^a on annealed points"
        ),
        source="dcpt, selected on annealed runs",
        side="domain",
        phases=BOTH,
        needs=_DOMAIN_NEEDS,
        parameters=(
            *DOMAIN_PARAMETERS,
            amplitude("c", "gain from a decay, at the base's peak LR", axis="annealed"),
            linear("a", "exponent of LR in that gain", -0.5, 1.5, axis="annealed"),
        ),
        loss=_annealed_domain,
        axes={"n_params": 2, "ratio": 2, "n_tokens": 3, "annealed": 2},
        holds_on=(SOME_TOKENS, SOME_DOMAIN),
    ),
)
