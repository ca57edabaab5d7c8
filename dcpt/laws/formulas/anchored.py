"""Laws that start from the base model's loss, at a constant learning rate."""

from __future__ import annotations

import numpy as np

from dcpt.laws.formulas.coordinates import (
    BELOW_ONE,
    CLOCK_RATE,
    DOMAIN_PARAMETERS,
    EPS,
    FALL_BY_CLOCK,
    LIFT,
    NOISE_RATE,
    SOME_DOMAIN,
    SOME_TOKENS,
    Array,
    G,
    Values,
    amplitude,
    linear,
    log_plain_rate,
    log_rho,
    log_size,
    log_sized_rate,
    log_tokens,
    rewarmed,
    tokens_power,
)
from dcpt.laws.law import Law, References
from dcpt.laws.points.record import Points


def _anchored_general(points: Points, p: Values, ref: References) -> Array:
    ratio, log_d = points.get("ratio"), log_tokens(points, ref)
    log_n = log_size(points, ref)
    growth = p["g"] * log_rho(ratio, log_d, p["eps"]) + p["h"] * log_d
    forgotten = (ratio > 0) * np.exp(growth * np.exp(p["m"] * log_n) - p["nu"] * log_n)
    fall = np.log1p((1.0 - ratio) * points.get("n_tokens") / points.get("base_n_tokens"))
    lift = p["H"] * rewarmed(points)
    return points.get("base_loss") + lift - p["F"] * fall + p["C"] * forgotten


def _anchored_general_lr(points: Points, p: Values, ref: References) -> Array:
    ratio = points.get("ratio")
    log_rate = log_sized_rate(points, ref)
    log_u = log_tokens(points, ref) + CLOCK_RATE * log_rate
    growth = p["g"] * log_rho(ratio, log_u, p["eps"]) + p["h"] * log_u
    log_n_by_lam = log_size(points, ref) - log_plain_rate(points, ref)
    forgotten = (ratio > 0) * np.exp(growth * np.exp(p["m"] * log_n_by_lam) - p["a"] * log_n_by_lam)
    general_text = (1.0 - ratio) * np.exp(log_u) * ref.n_tokens / points.get("base_n_tokens")
    lift = p["H"] * np.exp(NOISE_RATE * log_rate) * rewarmed(points)
    return points.get("base_loss") + lift - p["F"] * np.log1p(general_text) + p["C"] * forgotten


def _anchored_domain(points: Points, p: Values, ref: References) -> Array:
    share: Array = np.log(points.get("share")) * np.exp(-p["nu"] * log_size(points, ref))
    tokens = p["B"] * tokens_power(points, ref, -p["beta"])
    return p["E"] + p["w"] * points.get("base_loss") + tokens - p["C"] * share


def anchored_domain_lr(points: Points, p: Values, ref: References) -> Array:
    """E + w Lg0 + B u^-beta - C n^-nu ln r + H R^1.5 (1 - e^(-D/D_w)) with u = d R^.75.

    Args:
        points: M points.
        p: Parameters by name, each of shape (K, 1), natural units.
        ref: Reference scales of the formula.

    Returns:
        Losses in nats per token, shape (K, M).
    """
    log_rate = log_sized_rate(points, ref)
    log_u = log_tokens(points, ref) + CLOCK_RATE * log_rate
    base = p["E"] + p["w"] * points.get("base_loss_general")
    tokens = p["B"] * np.exp(-p["beta"] * log_u)
    share = p["C"] * np.log(points.get("share")) * np.exp(-p["nu"] * log_size(points, ref))
    lift = p["H"] * np.exp(NOISE_RATE * log_rate) * rewarmed(points)
    return base + tokens - share + lift


_SIZE_BY_RATE = "n_params/learning_rate"
_FORGETTING = amplitude("C", "forgetting at the references")

ANCHORED_LAWS = (
    Law(
        name="anchored-general",
        formula=(
            "L0 + H (1 - e^(-D/D_w)) - F ln(1 + s D/D_pt) + C n^-nu [rho^g d^h]^(n^m),"
            " rho = r / (s + eps d^-.5)"
        ),
        source="dcpt, selected on code runs with one learning rate per size",
        side="general",
        phases=("constant",),
        needs=("n_tokens", "ratio", "base_loss", "base_n_tokens", "warmup_tokens"),
        parameters=(
            LIFT,
            FALL_BY_CLOCK,
            _FORGETTING,
            linear("nu", "exponent of N in forgetting", -0.5, 1.5, axis="n_params"),
            G,
            EPS,
            linear("h", "exponent of D in forgetting", -0.1, 1.0),
            linear("m", "exponent of N in the steepness in r", -0.8, 0.8, axis="n_params"),
        ),
        loss=_anchored_general,
        axes={"ratio": 3, "n_tokens": 3},
        one_value=("learning_rate",),
        holds_on=(SOME_TOKENS, BELOW_ONE),
    ),
    Law(
        name="anchored-domain",
        formula="E + w L0 + B d^-beta - C n^-nu ln r",
        source="dcpt, selected on code runs with one learning rate per size",
        side="domain",
        phases=("constant",),
        needs=("n_tokens", "share", "base_loss"),
        parameters=(
            *DOMAIN_PARAMETERS[:1],
            amplitude("w", "weight of the base loss", 1.2, axis="base_loss", unit="1"),
            *DOMAIN_PARAMETERS[2:-1],
        ),
        loss=_anchored_domain,
        axes={"n_params": 2, "ratio": 2, "n_tokens": 3},
        one_value=("learning_rate",),
        holds_on=(SOME_TOKENS, SOME_DOMAIN),
    ),
    Law(
        name="anchored-general-lr",
        formula=(
            "u = d R^.75; L0 + H R^1.5 (1 - e^(-D/D_w)) - F ln(1 + s u D_ref/D_pt)"
            " + C (lam/n)^a [(r/(s + eps u^-.5))^g u^h]^((n/lam)^m)"
        ),
        source="dcpt, selected on code runs at a constant learning rate",
        side="general",
        phases=("constant",),
        needs=(
            *("n_tokens", "ratio", "learning_rate", "base_loss", "base_n_tokens"),
            "warmup_tokens",
        ),
        parameters=(
            LIFT,
            FALL_BY_CLOCK,
            _FORGETTING,
            linear("a", "exponent of LR/N in forgetting", -0.5, 1.5, axis=_SIZE_BY_RATE),
            G,
            EPS,
            linear("h", "exponent of u in forgetting", -0.1, 1.0),
            linear("m", "exponent of N/LR in the steepness in r", -0.8, 0.8, axis=_SIZE_BY_RATE),
        ),
        loss=_anchored_general_lr,
        axes={"ratio": 3, "n_tokens": 3},
        holds_on=(SOME_TOKENS, BELOW_ONE),
    ),
    Law(
        name="anchored-domain-lr",
        formula="u = d R^.75; E + w Lg0 + B u^-beta - C n^-nu ln r + H R^1.5 (1 - e^(-D/D_w))",
        source="dcpt, selected on code runs at a constant learning rate",
        side="domain",
        phases=("constant",),
        needs=("n_tokens", "share", "learning_rate", "base_loss_general", "warmup_tokens"),
        parameters=DOMAIN_PARAMETERS,
        loss=anchored_domain_lr,
        axes={"n_params": 2, "ratio": 2, "n_tokens": 3},
        holds_on=(SOME_TOKENS, SOME_DOMAIN),
    ),
)
