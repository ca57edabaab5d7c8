"""Laws that start from the base's own loss, at a constant learning rate or on both phases."""

from __future__ import annotations

import numpy as np

from dcpt.laws.formulas.coordinates import (
    BELOW_ONE,
    CLOCK_RATE,
    DOMAIN_PARAMETERS,
    EDGE_TOKENS,
    EPS,
    FALL,
    FALL_BY_CLOCK,
    FALL_TOKENS,
    LIFT,
    NOISE_RATE,
    SMALL,
    SOME_DOMAIN,
    SOME_TOKENS,
    Array,
    G,
    K,
    Values,
    amplitude,
    linear,
    log_plain_rate,
    log_size,
    log_sized_rate,
    log_tokens,
    relative_rate,
    rewarmed,
    tokens_power,
)
from dcpt.laws.law import Law, References
from dcpt.laws.points import Points


def _anchored_general(points: Points, p: Values, ref: References) -> Array:
    ratio, log_d = points.get("ratio"), log_tokens(points, ref)
    log_n = log_size(points, ref)
    growth = p["g"] * _log_rho(ratio, log_d, p) + p["h"] * log_d
    forgotten = (ratio > 0) * np.exp(growth * np.exp(p["m"] * log_n) - p["nu"] * log_n)
    fall = np.log1p((1.0 - ratio) * points.get("n_tokens") / points.get("base_n_tokens"))
    lift = p["H"] * rewarmed(points)
    return points.get("base_loss") + lift - p["F"] * fall + p["C"] * forgotten


def _log_rho(ratio: Array, log_clock: Array, p: Values) -> Array:
    """Log of r / (s + eps clock^-1/2); any number at r = 0, where the term is 0."""
    edge: Array = 1.0 - ratio + p["eps"] * np.exp(EDGE_TOKENS * log_clock)
    return np.log(np.maximum(ratio, SMALL)) - np.log(edge)


def _anchored_general_lr(points: Points, p: Values, ref: References) -> Array:
    ratio = points.get("ratio")
    log_rate = log_sized_rate(points, ref)
    log_u = log_tokens(points, ref) + CLOCK_RATE * log_rate
    growth = p["g"] * _log_rho(ratio, log_u, p) + p["h"] * log_u
    slower = log_size(points, ref) - log_plain_rate(points, ref)
    forgotten = (ratio > 0) * np.exp(growth * np.exp(p["m"] * slower) - p["a"] * slower)
    seen = (1.0 - ratio) * np.exp(log_u) * ref.n_tokens / points.get("base_n_tokens")
    lift = p["H"] * np.exp(NOISE_RATE * log_rate) * rewarmed(points)
    return points.get("base_loss") + lift - p["F"] * np.log1p(seen) + p["C"] * forgotten


def _joint_general(points: Points, p: Values, ref: References) -> Array:
    ratio, log_d = points.get("ratio"), log_tokens(points, ref)
    s = 1.0 - ratio
    lam = np.exp(log_plain_rate(points, ref))
    edge = np.log(s + p["eps"] * np.exp(EDGE_TOKENS * log_d))
    forgotten = np.log1p(p["k"] * lam * np.exp(p["h"] * log_d)) * ratio * np.exp(-p["g"] * edge)
    settled = rewarmed(points) - p["kappa"] * points.get("annealed")
    fall = p["F"] * s * np.exp(FALL_TOKENS * log_d)
    lift = p["H"] * relative_rate(points) * settled
    return points.get("base_loss") - fall + p["C"] * forgotten + lift


def _anchored_domain(points: Points, p: Values, ref: References) -> Array:
    share: Array = np.log(points.get("share")) * np.exp(-p["nu"] * log_size(points, ref))
    tokens = p["B"] * tokens_power(points, ref, -p["beta"])
    return p["E"] + p["w"] * points.get("base_loss") + tokens - p["C"] * share


def _anchored_domain_lr(points: Points, p: Values, ref: References) -> Array:
    log_rate = log_sized_rate(points, ref)
    log_u = log_tokens(points, ref) + CLOCK_RATE * log_rate
    base = p["E"] + p["w"] * points.get("base_loss_general")
    tokens = p["B"] * np.exp(-p["beta"] * log_u)
    share = p["C"] * np.log(points.get("share")) * np.exp(-p["nu"] * log_size(points, ref))
    lift = p["H"] * np.exp(NOISE_RATE * log_rate) * rewarmed(points)
    return base + tokens - share + lift


def _annealed_domain(points: Points, p: Values, ref: References) -> Array:
    gain = points.get("annealed") * np.exp(p["a"] * np.log(relative_rate(points)))
    return _anchored_domain_lr(points, p, ref) - p["c"] * gain


_SLOWER = "n_params/learning_rate"
_FORGETTING = amplitude("C", "forgetting at the references")

ANCHORED_LAWS = (
    Law(
        name="anchored-general",
        formula=(
            "L0 + H (1 - e^(-D/D_w)) - F ln(1 + s D/D_pt) + C n^-nu [rho^g d^h]^(n^m),"
            " rho = r / (s + eps d^-.5)"
        ),
        source="own, chosen on code runs at one rule LR(N)",
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
            linear("m", "exponent of N in its steepness", -0.8, 0.8, axis="n_params"),
        ),
        loss=_anchored_general,
        axes={"ratio": 3, "n_tokens": 3},
        one_value=("learning_rate",),
        holds_on=(SOME_TOKENS, BELOW_ONE),
    ),
    Law(
        name="anchored-domain",
        formula="E + w L0 + B d^-beta - C n^-nu ln r",
        source="own, chosen on code runs at one rule LR(N)",
        side="domain",
        phases=("constant",),
        needs=("n_tokens", "share", "base_loss"),
        parameters=(
            *DOMAIN_PARAMETERS[:1],
            amplitude("w", "weight of the base's loss", 1.2, axis="base_loss", unit="1"),
            *DOMAIN_PARAMETERS[2:-1],
        ),
        loss=_anchored_domain,
        axes={"n_params": 2, "ratio": 2, "n_tokens": 3},
        one_value=("learning_rate",),
        holds_on=(SOME_TOKENS, SOME_DOMAIN),
    ),
    Law(
        name="joint-general",
        formula=(
            "L0 - F s d^.2 + C ln(1 + k lam d^h) r / (s + eps d^-.5)^g"
            " + H Rp [(1 - e^(-D/D_w)) - kappa annealed]"
        ),
        source="own, chosen on annealed runs",
        side="general",
        phases=("constant", "annealed"),
        needs=(
            *("n_tokens", "ratio", "learning_rate", "annealed", "base_loss"),
            *("base_peak_learning_rate", "warmup_tokens"),
        ),
        parameters=(
            FALL,
            _FORGETTING,
            K,
            linear("h", "exponent of D in forgetting", -0.1, 1.0, axis="n_tokens"),
            EPS,
            G,
            LIFT,
            linear("kappa", "share of the noise that a decay takes back", 0.0, 2.0, "annealed"),
        ),
        loss=_joint_general,
        axes={"ratio": 3},
        holds_on=(SOME_TOKENS, BELOW_ONE),
    ),
    Law(
        name="anchored-general-lr",
        formula=(
            "u = d R^.75; L0 + H R^1.5 (1 - e^(-D/D_w)) - F ln(1 + s u D_ref/D_pt)"
            " + C (lam/n)^a [(r/(s + eps u^-.5))^g u^h]^((n/lam)^m)"
        ),
        source="own, chosen on code runs at constant rate",
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
            linear("a", "exponent of LR/N in forgetting", -0.5, 1.5, axis=_SLOWER),
            G,
            EPS,
            linear("h", "exponent of the clock in forgetting", -0.1, 1.0),
            linear("m", "exponent of N/LR in its steepness", -0.8, 0.8, axis=_SLOWER),
        ),
        loss=_anchored_general_lr,
        axes={"ratio": 3, "n_tokens": 3},
        holds_on=(SOME_TOKENS, BELOW_ONE),
    ),
    Law(
        name="anchored-domain-lr",
        formula="u = d R^.75; E + w Lg0 + B u^-beta - C n^-nu ln r + H R^1.5 (1 - e^(-D/D_w))",
        source="own, chosen on code runs at constant rate",
        side="domain",
        phases=("constant",),
        needs=("n_tokens", "share", "learning_rate", "base_loss_general", "warmup_tokens"),
        parameters=DOMAIN_PARAMETERS,
        loss=_anchored_domain_lr,
        axes={"n_params": 2, "ratio": 2, "n_tokens": 3},
        holds_on=(SOME_TOKENS, SOME_DOMAIN),
    ),
    Law(
        name="annealed-domain",
        formula=(
            "u = d R^.75; E + w Lg0 + B u^-beta - C n^-nu ln r + H R^1.5 (1 - e^(-D/D_w))"
            " - c Rp^a on annealed points"
        ),
        source="own, chosen on annealed runs",
        side="domain",
        phases=("constant", "annealed"),
        needs=(
            *("n_tokens", "share", "learning_rate", "annealed", "base_loss_general"),
            *("base_peak_learning_rate", "warmup_tokens"),
        ),
        parameters=(
            *DOMAIN_PARAMETERS,
            amplitude("c", "what a decay takes off, at the base's own peak LR", axis="annealed"),
            linear("a", "exponent of LR in that gain", -0.5, 1.5, axis="annealed"),
        ),
        loss=_annealed_domain,
        axes={"n_params": 2, "ratio": 2, "n_tokens": 3, "annealed": 2},
        holds_on=(SOME_TOKENS, SOME_DOMAIN),
    ),
)
