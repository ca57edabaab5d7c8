"""Laws of annealed points only, at a single D: the loss after a decay to zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from dcpt.laws.formulas.coordinates import (
    BELOW_ONE,
    CLOCK_RATE,
    DOMAIN_PARAMETERS,
    EPS,
    FALL,
    LIFT,
    SOME_DOMAIN,
    SOME_SHARE,
    SOME_TOKENS,
    Array,
    G,
    K,
    Values,
    amplitude,
    log_plain_rate,
    log_tokens,
    relative_rate,
)
from dcpt.laws.law import Law, Parameter, References
from dcpt.laws.points.record import Points


def _forgotten(points: Points, p: Values, ref: References) -> Array:
    """Forgetting, ln(1 + k lam) r / (s + eps)^g, shape (K, M)."""
    ratio = points.get("ratio")
    lam = np.exp(log_plain_rate(points, ref))
    return np.log1p(p["k"] * lam) * ratio * np.exp(-p["g"] * np.log(1.0 - ratio + p["eps"]))


def _general_at_end(points: Points, p: Values, forgotten: Array) -> Array:
    """General loss after a decay, given the forgetting term without its amplitude, (K, M)."""
    fall = p["F"] * (1.0 - points.get("ratio"))
    return points.get("base_loss") - fall + p["C"] * forgotten + p["H"] * relative_rate(points)


def _annealed_general(points: Points, p: Values, ref: References) -> Array:
    return _general_at_end(points, p, _forgotten(points, p, ref))


def _annealed_general_l0(points: Points, p: Values, ref: References) -> Array:
    return _general_at_end(points, p, _forgotten(points, p, ref) * points.get("base_loss"))


def _sailor_general(points: Points, p: Values, ref: References) -> Array:
    z = np.log(points.get("share")) - log_plain_rate(points, ref)
    result: Array = points.get("base_loss") + p["a"] + p["b"] * z + p["c"] * z**2
    return result


def _domain_at_end(
    points: Points, p: Values, ref: References, log_rate: Array, size_factor: Array
) -> Array:
    """Domain loss after a decay.

    ``log_rate`` is the log of the learning rate in u. ``size_factor`` multiplies the share term.
    """
    log_u = log_tokens(points, ref) + CLOCK_RATE * log_rate
    base = p["E"] + p["w"] * points.get("base_loss_general")
    share = p["C"] * np.log(points.get("share")) * size_factor
    return base + p["B"] * np.exp(-p["beta"] * log_u) - share + p["H"] * relative_rate(points)


def _annealed_domain_lam(points: Points, p: Values, ref: References) -> Array:
    return _domain_at_end(points, p, ref, log_plain_rate(points, ref), np.ones(len(points)))


_DOMAIN_END = (
    *DOMAIN_PARAMETERS[:4],
    amplitude("C", "cost of a smaller domain share"),
    LIFT,
)
_END_GENERAL_NEEDS = (
    *("n_tokens", "ratio", "learning_rate", "base_loss", "base_peak_learning_rate"),
)
_END_DOMAIN_NEEDS = (
    *("n_tokens", "share", "learning_rate", "base_loss_general", "base_peak_learning_rate"),
)
_END_GENERAL_AXES = {"ratio": 3, "learning_rate": 2}
_END_DOMAIN_AXES = {"n_params": 2, "ratio": 2, "learning_rate": 3}
_END_GENERAL = (FALL, amplitude("C", "forgetting at the references"), K, EPS, G, LIFT)


def _end_law(
    side: Literal["general", "domain"],
    name: str,
    formula: str,
    source: str,
    loss: Callable[[Points, Values, References], Array],
    parameters: tuple[Parameter, ...],
) -> Law:
    """A law of annealed points at a single D."""
    general = side == "general"
    return Law(
        name=name,
        formula=formula,
        source=source,
        side=side,
        phases=("annealed",),
        needs=_END_GENERAL_NEEDS if general else _END_DOMAIN_NEEDS,
        parameters=parameters,
        loss=loss,
        axes=_END_GENERAL_AXES if general else _END_DOMAIN_AXES,
        one_value=("n_tokens",),
        holds_on=(SOME_TOKENS, BELOW_ONE if general else SOME_DOMAIN),
    )


ANNEALED_LAWS = (
    _end_law(
        "general",
        "annealed-general",
        "L0 - F s + H Rp + C ln(1 + k lam) r / (s + eps)^g",
        "dcpt, selected on annealed runs; at a single D",
        _annealed_general,
        _END_GENERAL,
    ),
    _end_law(
        "general",
        "annealed-general-l0",
        "L0 - F s + H Rp + C L0 ln(1 + k lam) r / (s + eps)^g",
        "dcpt: annealed-general with forgetting proportional to the base loss",
        _annealed_general_l0,
        tuple(replace(p, unit="1") if p.name == "C" else p for p in _END_GENERAL),
    ),
    replace(
        _end_law(
            "general",
            "sailor-general",
            "z = ln(s / lam); L0 + a + b z + c z^2",
            "the coordinate of Dou et al. 2024, arXiv 2404.03608; a baseline, at a single D",
            _sailor_general,
            (
                amplitude("a", "rise at z = 0", 9.0, lower=-9.0),
                amplitude("b", "slope of the rise in z", 9.0, lower=-9.0),
                amplitude("c", "curvature of the rise in z", 9.0, lower=-9.0),
            ),
        ),
        needs=("n_tokens", "share", "learning_rate", "base_loss"),
        holds_on=(SOME_TOKENS, SOME_SHARE),
    ),
    _end_law(
        "domain",
        "annealed-domain-lam",
        "u = d lam^.75; E + w Lg0 + B u^-beta - C ln r + H Rp",
        "dcpt: u does not depend on the model size",
        _annealed_domain_lam,
        _DOMAIN_END,
    ),
)
