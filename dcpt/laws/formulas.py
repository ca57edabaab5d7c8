"""The menu of laws. Adding one is a function and a record; nothing else knows a law by name.

Notation: n = N/N_ref, d = D/D_ref, lam = LR/LR_ref, x the channel's own share, r the ratio,
s = 1 - r, L0 the channel's own base loss, Lg0 the general one, R = lam n^.4, u = d R^.75,
Rp = LR/(the base's peak LR), D_w = 2 x warmup tokens, D_pt the base's own tokens. Numbers in a
formula are exponents only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.law import Law, Parameter, Range, References, Terms
from dcpt.laws.points import Points

Array = NDArray[np.float64]
Values = Mapping[str, Array]

SMALL = 1e-12
"""Stands for a share of 0 inside a logarithm; its power is 0 for every exponent in the menu."""

SIZE_IN_RATE = 0.4
CLOCK_RATE = 0.75
NOISE_RATE = 1.5
FALL_TOKENS = 0.2
EDGE_TOKENS = -0.5


def _log_n(points: Points, ref: References) -> Array:
    """Log of N/N_ref; 0 where the table has no sizes."""
    if points.n_params is None:
        return np.zeros(len(points))
    return np.log(points.n_params / ref.n_params)


def _log_d(points: Points, ref: References) -> Array:
    return np.log(points.get("n_tokens") / ref.n_tokens)


def _log_lam(points: Points, ref: References) -> Array:
    return np.log(points.get("learning_rate") / ref.learning_rate)


def _log_rate(points: Points, ref: References) -> Array:
    """Log of R, the learning rate that matters at this size."""
    return _log_lam(points, ref) + SIZE_IN_RATE * _log_n(points, ref)


def _rewarmed(points: Points) -> Array:
    """How far the re-warm rise is complete: 1 - e^(-D/D_w)."""
    return -np.expm1(-points.get("n_tokens") / (2.0 * points.get("warmup_tokens")))


def _relative_rate(points: Points) -> Array:
    return points.get("learning_rate") / points.get("base_peak_learning_rate")


def _chinchilla(points: Points, p: Values, ref: References) -> Terms:
    return Terms(
        0.0,
        {
            "E": np.ones(len(points)),
            "A": np.exp(-p["alpha"] * _log_n(points, ref)),
            "B": np.exp(-p["beta"] * _log_d(points, ref)),
        },
    )


def _d_cpt(points: Points, p: Values, ref: References) -> Terms:
    share = points.get("share")
    log_share = np.log(np.maximum(share, SMALL))
    return Terms(
        0.0,
        {
            "E": np.ones(len(points)),
            "A": np.exp(-p["alpha"] * _log_n(points, ref)),
            "B": np.exp(p["eta"] * log_share - p["beta"] * _log_d(points, ref)),
            "C": np.exp(-p["gamma"] * np.log(share + p["eps"])),
        },
    )


def _joint_general(points: Points, p: Values, ref: References) -> Terms:
    ratio, log_d = points.get("ratio"), _log_d(points, ref)
    s = 1.0 - ratio
    lam = np.exp(_log_lam(points, ref))
    forgetting = np.log1p(p["k"] * lam * np.exp(p["h"] * log_d))
    edge = np.log(s + p["eps"] * np.exp(EDGE_TOKENS * log_d))
    settled = _rewarmed(points) - p["kappa"] * points.get("annealed")
    return Terms(
        points.get("base_loss"),
        {
            "F": -s * np.exp(FALL_TOKENS * log_d),
            "C": forgetting * ratio * np.exp(-p["g"] * edge),
            "H": _relative_rate(points) * settled,
        },
    )


def _annealed_general(points: Points, p: Values, ref: References) -> Terms:
    ratio = points.get("ratio")
    s = 1.0 - ratio
    lam = np.exp(_log_lam(points, ref))
    return Terms(
        points.get("base_loss"),
        {
            "F": -s,
            "C": np.log1p(p["k"] * lam) * ratio * np.exp(-p["g"] * np.log(s + p["eps"])),
            "H": _relative_rate(points),
        },
    )


def _anchored_general_lr(points: Points, p: Values, ref: References) -> Terms:
    ratio = points.get("ratio")
    s = 1.0 - ratio
    log_rate, log_n = _log_rate(points, ref), _log_n(points, ref)
    log_u = _log_d(points, ref) + CLOCK_RATE * log_rate
    log_rho = np.log(np.maximum(ratio, SMALL)) - np.log(s + p["eps"] * np.exp(EDGE_TOKENS * log_u))
    growth = p["g"] * log_rho + p["h"] * log_u
    slower = log_n - _log_lam(points, ref)
    seen = s * np.exp(log_u) * ref.n_tokens / points.get("base_n_tokens")
    return Terms(
        points.get("base_loss"),
        {
            "H": np.exp(NOISE_RATE * log_rate) * _rewarmed(points),
            "F": -np.log1p(seen),
            "C": np.exp(growth * np.exp(p["m"] * slower) - p["a"] * slower),
        },
    )


def _anchored_domain_lr(points: Points, p: Values, ref: References) -> Terms:
    log_rate = _log_rate(points, ref)
    log_u = _log_d(points, ref) + CLOCK_RATE * log_rate
    log_share = np.log(points.get("share"))
    return Terms(
        0.0,
        {
            "E": np.ones(len(points)),
            "w": points.get("base_loss_general"),
            "B": np.exp(-p["beta"] * log_u),
            "C": -log_share * np.exp(-p["nu"] * _log_n(points, ref)),
            "H": np.exp(NOISE_RATE * log_rate) * _rewarmed(points),
        },
    )


def _annealed_domain(points: Points, p: Values, ref: References) -> Terms:
    terms = _anchored_domain_lr(points, p, ref)
    gain = -points.get("annealed") * np.exp(p["a"] * np.log(_relative_rate(points)))
    return Terms(terms.offset, {**terms.factors, "c": gain})


def _amplitude(
    name: str, meaning: str, upper: float = 60.0, lower: float = 0.0, axis: str | None = None
) -> Parameter:
    return Parameter(name, "amplitude", lower, upper, "nats/token", "linear", meaning, axis)


def _exponent(
    name: str, meaning: str, lower: float = 0.03, upper: float = 2.5, axis: str | None = None
) -> Parameter:
    return Parameter(name, "nonlinear", lower, upper, "1", "log", meaning, axis, neutral=1.0)


def _linear(
    name: str, meaning: str, lower: float, upper: float, axis: str | None = None
) -> Parameter:
    return Parameter(name, "nonlinear", lower, upper, "1", "linear", meaning, axis)


_FLOOR = _amplitude("E", "loss that no tokens remove")
_SIZE_TERM = (
    _amplitude("A", "what a small model lacks, at N_ref", axis="n_params"),
    _exponent("alpha", "exponent of N", axis="n_params"),
)
_TOKENS_TERM = (
    _amplitude("B", "what training still lacks, at D_ref"),
    _exponent("beta", "exponent of D"),
)
_G = Parameter("g", "nonlinear", 0.02, 4.0, "1", "log", "exponent of the general share")
_EPS = Parameter("eps", "nonlinear", 1e-4, 2.0, "1", "log", "share at which the cliff bends")
_K = Parameter("k", "nonlinear", 1e-4, 1e4, "1", "log", "how soon forgetting saturates in LR")
_LIFT = _amplitude("H", "re-warm rise, the noise of the learning rate")
_FALL = _amplitude("F", "what more general text gains", upper=1e4)
_BELOW_ONE = Range("ratio", 0.0, 1.0, low_included=True, high_included=False)
_SOME_DOMAIN = Range("ratio", 0.0, 1.0)
_SOME_TOKENS = Range("n_tokens", 0.0, np.inf, high_included=False)
_DOMAIN_PARAMETERS = (
    _amplitude("E", "floor of the domain loss", lower=-9.0, upper=9.0),
    _amplitude("w", "weight of the base's general loss", upper=1.2, axis="base_loss_general"),
    *_TOKENS_TERM,
    _amplitude("C", "price of a smaller domain share, at N_ref"),
    _linear("nu", "exponent of N in that price", -0.8, 0.8, axis="n_params"),
    _LIFT,
)
_SLOWER = "n_params/learning_rate"

_MENU = (
    Law(
        name="chinchilla",
        formula="E + A n^-alpha + B d^-beta",
        source="Hoffmann et al. 2022, arXiv 2203.15556",
        side="any",
        phases=("constant", "annealed"),
        needs=("n_tokens",),
        parameters=(_FLOOR, *_SIZE_TERM, *_TOKENS_TERM),
        terms=_chinchilla,
        axes={"n_params": 3, "n_tokens": 3},
        one_value=("ratio", "learning_rate", "annealed"),
        holds_on=(_SOME_TOKENS,),
    ),
    Law(
        name="d-cpt",
        formula="E + A n^-alpha + B x^eta d^-beta + C (x + eps)^-gamma",
        source="Que et al. 2024, arXiv 2406.01375 (L3)",
        side="any",
        phases=("constant", "annealed"),
        needs=("n_tokens", "share"),
        parameters=(
            _FLOOR,
            *_SIZE_TERM,
            *_TOKENS_TERM,
            _exponent("eta", "exponent of the share in the token term", 0.05, 3.0),
            _amplitude("C", "what a small share of the channel costs"),
            _EPS,
            Parameter("gamma", "nonlinear", 0.02, 4.0, "1", "log", "exponent of that cost"),
        ),
        terms=_d_cpt,
        axes={"n_params": 3, "n_tokens": 3, "ratio": 3},
        one_value=("learning_rate", "annealed"),
        holds_on=(_SOME_TOKENS, Range("share", 0.0, 1.0)),
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
            _FALL,
            _amplitude("C", "forgetting at the references"),
            _K,
            _linear("h", "exponent of D in forgetting", -0.1, 1.0, axis="n_tokens"),
            _EPS,
            _G,
            _LIFT,
            _linear("kappa", "share of the noise that a decay takes back", 0.0, 2.0, "annealed"),
        ),
        terms=_joint_general,
        axes={"ratio": 3},
        holds_on=(_SOME_TOKENS, _BELOW_ONE),
    ),
    Law(
        name="annealed-general",
        formula="L0 - F s + H Rp + C ln(1 + k lam) r / (s + eps)^g",
        source="own, chosen on annealed runs; at one D",
        side="general",
        phases=("annealed",),
        needs=(
            *("n_tokens", "ratio", "learning_rate", "base_loss", "base_peak_learning_rate"),
        ),
        parameters=(_FALL, _amplitude("C", "forgetting at the references"), _K, _EPS, _G, _LIFT),
        terms=_annealed_general,
        axes={"ratio": 3, "learning_rate": 2},
        one_value=("n_tokens",),
        holds_on=(_SOME_TOKENS, _BELOW_ONE),
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
            _LIFT,
            _FALL,
            _amplitude("C", "forgetting at the references"),
            _linear("a", "exponent of LR/N in forgetting", -0.5, 1.5, axis=_SLOWER),
            _G,
            _EPS,
            _linear("h", "exponent of the clock in forgetting", -0.1, 1.0),
            _linear("m", "exponent of N/LR in its steepness", -0.8, 0.8, axis=_SLOWER),
        ),
        terms=_anchored_general_lr,
        axes={"ratio": 3, "n_tokens": 3},
        holds_on=(_SOME_TOKENS, _BELOW_ONE),
    ),
    Law(
        name="anchored-domain-lr",
        formula="u = d R^.75; E + w Lg0 + B u^-beta - C n^-nu ln r + H R^1.5 (1 - e^(-D/D_w))",
        source="own, chosen on code runs at constant rate",
        side="domain",
        phases=("constant",),
        needs=("n_tokens", "share", "learning_rate", "base_loss_general", "warmup_tokens"),
        parameters=_DOMAIN_PARAMETERS,
        terms=_anchored_domain_lr,
        axes={"n_params": 2, "ratio": 2, "n_tokens": 3},
        holds_on=(_SOME_TOKENS, _SOME_DOMAIN),
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
            *_DOMAIN_PARAMETERS,
            _amplitude("c", "what a decay takes off, at the base's own peak LR", axis="annealed"),
            _linear("a", "exponent of LR in that gain", -0.5, 1.5, axis="annealed"),
        ),
        terms=_annealed_domain,
        axes={"n_params": 2, "ratio": 2, "n_tokens": 3, "annealed": 2},
        holds_on=(_SOME_TOKENS, _SOME_DOMAIN),
    ),
)

LAWS: dict[str, Law] = {law.name: law for law in _MENU}
"""All laws by name."""
