"""The menu of laws. Adding one is a function and a record; nothing else knows a law by name.

Notation: n = N/N_ref, d = D/D_ref, lam = LR/LR_ref, x the channel's own share, r the ratio,
s = 1 - r, L0 the channel's own base loss, Lg0 the general one, R = lam n^.4, u = d R^.75,
Rp = LR/(the base's peak LR), D_w = 2 x warmup tokens, D_pt the base's own tokens. Numbers in a
formula are exponents only.
"""

from __future__ import annotations

import numpy as np

from dcpt.laws.annealed_formulas import ANNEALED_LAWS
from dcpt.laws.coordinates import (
    BELOW_ONE,
    CLOCK_RATE,
    DOMAIN_PARAMETERS,
    EDGE_TOKENS,
    EPS,
    FALL,
    FALL_BY_CLOCK,
    FALL_TOKENS,
    FLOOR,
    LIFT,
    NOISE_RATE,
    SIZE_TERM,
    SMALL,
    SOME_DOMAIN,
    SOME_TOKENS,
    TOKENS_TERM,
    G,
    K,
    Values,
    amplitude,
    exponent,
    linear,
    log_plain_rate,
    log_size,
    log_sized_rate,
    log_tokens,
    relative_rate,
    rewarmed,
)
from dcpt.laws.law import Law, Parameter, Range, References, Terms
from dcpt.laws.points import Points


def _chinchilla(points: Points, p: Values, ref: References) -> Terms:
    return Terms(
        0.0,
        {
            "E": np.ones(len(points)),
            "A": np.exp(-p["alpha"] * log_size(points, ref)),
            "B": np.exp(-p["beta"] * log_tokens(points, ref)),
        },
    )


def _d_cpt(points: Points, p: Values, ref: References) -> Terms:
    share = points.get("share")
    log_share = np.log(share)
    return Terms(
        0.0,
        {
            "E": np.ones(len(points)),
            "A": np.exp(-p["alpha"] * log_size(points, ref)),
            "B": np.exp(p["eta"] * log_share - p["beta"] * log_tokens(points, ref)),
            "C": np.exp(-p["gamma"] * np.log(share + p["eps"])),
        },
    )


def _joint_general(points: Points, p: Values, ref: References) -> Terms:
    ratio, log_d = points.get("ratio"), log_tokens(points, ref)
    s = 1.0 - ratio
    lam = np.exp(log_plain_rate(points, ref))
    forgetting = np.log1p(p["k"] * lam * np.exp(p["h"] * log_d))
    edge = np.log(s + p["eps"] * np.exp(EDGE_TOKENS * log_d))
    settled = rewarmed(points) - p["kappa"] * points.get("annealed")
    return Terms(
        points.get("base_loss"),
        {
            "F": -s * np.exp(FALL_TOKENS * log_d),
            "C": forgetting * ratio * np.exp(-p["g"] * edge),
            "H": relative_rate(points) * settled,
        },
    )


def _anchored_general_lr(points: Points, p: Values, ref: References) -> Terms:
    ratio = points.get("ratio")
    s = 1.0 - ratio
    log_rate, log_n = log_sized_rate(points, ref), log_size(points, ref)
    log_u = log_tokens(points, ref) + CLOCK_RATE * log_rate
    log_rho = np.log(np.maximum(ratio, SMALL)) - np.log(s + p["eps"] * np.exp(EDGE_TOKENS * log_u))
    growth = p["g"] * log_rho + p["h"] * log_u
    slower = log_n - log_plain_rate(points, ref)
    seen = s * np.exp(log_u) * ref.n_tokens / points.get("base_n_tokens")
    return Terms(
        points.get("base_loss"),
        {
            "H": np.exp(NOISE_RATE * log_rate) * rewarmed(points),
            "F": -np.log1p(seen),
            "C": (ratio > 0) * np.exp(growth * np.exp(p["m"] * slower) - p["a"] * slower),
        },
    )


def _anchored_domain_lr(points: Points, p: Values, ref: References) -> Terms:
    log_rate = log_sized_rate(points, ref)
    log_u = log_tokens(points, ref) + CLOCK_RATE * log_rate
    log_share = np.log(points.get("share"))
    return Terms(
        0.0,
        {
            "E": np.ones(len(points)),
            "w": points.get("base_loss_general"),
            "B": np.exp(-p["beta"] * log_u),
            "C": -log_share * np.exp(-p["nu"] * log_size(points, ref)),
            "H": np.exp(NOISE_RATE * log_rate) * rewarmed(points),
        },
    )


def _annealed_domain(points: Points, p: Values, ref: References) -> Terms:
    terms = _anchored_domain_lr(points, p, ref)
    gain = -points.get("annealed") * np.exp(p["a"] * np.log(relative_rate(points)))
    return Terms(terms.offset, {**terms.factors, "c": gain})


_SLOWER = "n_params/learning_rate"

_MENU = (
    Law(
        name="chinchilla",
        formula="E + A n^-alpha + B d^-beta",
        source="Hoffmann et al. 2022, arXiv 2203.15556",
        side="any",
        phases=("constant", "annealed"),
        needs=("n_tokens",),
        parameters=(FLOOR, *SIZE_TERM, *TOKENS_TERM),
        terms=_chinchilla,
        axes={"n_params": 3, "n_tokens": 3},
        one_value=("ratio", "learning_rate", "annealed"),
        holds_on=(SOME_TOKENS,),
    ),
    Law(
        name="d-cpt",
        formula="E + A n^-alpha + B x^eta d^-beta + C (x + eps)^-gamma",
        source="Que et al. 2024, arXiv 2406.01375 (L3)",
        side="any",
        phases=("constant", "annealed"),
        needs=("n_tokens", "share"),
        parameters=(
            FLOOR,
            *SIZE_TERM,
            *TOKENS_TERM,
            exponent("eta", "exponent of the share in the token term", 0.05, 3.0),
            amplitude("C", "what a small share of the channel costs"),
            EPS,
            Parameter("gamma", "nonlinear", 0.02, 4.0, "1", "log", "exponent of that cost"),
        ),
        terms=_d_cpt,
        axes={"n_params": 3, "n_tokens": 3, "ratio": 3},
        one_value=("learning_rate", "annealed"),
        holds_on=(SOME_TOKENS, Range("share", 0.0, 1.0)),
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
            amplitude("C", "forgetting at the references"),
            K,
            linear("h", "exponent of D in forgetting", -0.1, 1.0, axis="n_tokens"),
            EPS,
            G,
            LIFT,
            linear("kappa", "share of the noise that a decay takes back", 0.0, 2.0, "annealed"),
        ),
        terms=_joint_general,
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
            amplitude("C", "forgetting at the references"),
            linear("a", "exponent of LR/N in forgetting", -0.5, 1.5, axis=_SLOWER),
            G,
            EPS,
            linear("h", "exponent of the clock in forgetting", -0.1, 1.0),
            linear("m", "exponent of N/LR in its steepness", -0.8, 0.8, axis=_SLOWER),
        ),
        terms=_anchored_general_lr,
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
        terms=_anchored_domain_lr,
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
        terms=_annealed_domain,
        axes={"n_params": 2, "ratio": 2, "n_tokens": 3, "annealed": 2},
        holds_on=(SOME_TOKENS, SOME_DOMAIN),
    ),
    *ANNEALED_LAWS,
)

LAWS: dict[str, Law] = {law.name: law for law in _MENU}
"""All laws by name."""
