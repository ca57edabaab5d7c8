"""Laws of the learning rate's whole history: its area, what its drops give back, when they do.

They hold at one size: N is in none of them. S1, S2 and the drops are fields of the points.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dcpt.laws.formulas.coordinates import (
    FLOOR,
    Array,
    Values,
    amplitude,
    exponent,
    linear,
    power,
)
from dcpt.laws.law import Law, Parameter, Range, References
from dcpt.laws.points.record import Points

NOTHING = 1e-100
"""Stands for a rate or an area of 0 inside a logarithm: a drop to 0 counts in full at once."""


def _area(points: Points, ref: References, name: str = "lr_area") -> Array:
    """An area in units of the reference, shape (M,), or (M, J) for those of the drops."""
    assert ref.lr_area is not None, "a law with an area must say so in its needs"
    return points.get(name) / ref.lr_area


def _lr_annealing(points: Points, p: Values, ref: References) -> Array:
    learned = p["A"] * power(points, "lr_area", ref.lr_area, -p["alpha"])
    return p["E"] + learned - p["C"] * _area(points, ref, "anneal_area")


def _multi_power(points: Points, p: Values, ref: References) -> Array:
    assert ref.learning_rate is not None, "a law with a learning rate must say so in its needs"
    learned = p["A"] * power(points, "lr_area", ref.lr_area, -p["alpha"])
    sizes = points.get("drop_sizes") / ref.learning_rate
    log_rate = np.log(np.maximum(points.get("drop_rates") / ref.learning_rate, NOTHING))
    areas = _area(points, ref, "drop_areas")
    log_area = np.log(np.maximum(areas, NOTHING))
    # Drops have an axis of their own, the last one: (K, M, J).
    speed, gamma, beta = (p[name][..., None] for name in ("C", "gamma", "beta"))
    worked = np.where(areas > 0, 1.0, 0.0) * speed * np.exp(log_area - gamma * log_rate)
    gain = sizes * -np.expm1(-beta * np.log1p(worked))
    loss: Array = p["E"] + learned - p["B"] * gain.sum(axis=-1)
    return loss


def _shifted(
    points: Points, p: Values, ref: References, annealing: Array | float, shift: Array | float
) -> Array:
    """The law of 2505.07796, its last two terms each times a factor of the share."""
    assert ref.lr_area is not None, "a law with an area must say so in its needs"
    areas, index = points.levels("lr_area")
    areas = areas / ref.lr_area
    learned = p["A"] * np.exp(-p["alpha"] * np.log(p["a0"] + areas))[:, index]
    moved = -np.expm1(-p["beta"] * np.log1p(p["k"] * areas))[:, index]
    annealed = p["C"] * annealing * _area(points, ref, "anneal_area")
    return p["E"] + learned - annealed + p["B"] * shift * moved


def _after_dynamics(points: Points, p: Values, ref: References) -> Array:
    return _shifted(points, p, ref, 1.0, 1.0)


def _after_dynamics_replay(points: Points, p: Values, ref: References) -> Array:
    ratio = points.get("ratio")
    return _shifted(points, p, ref, np.exp(-p["m"] * ratio), -np.expm1(-p["j"] * ratio))


SOME_AREA = Range("lr_area", 0.0, np.inf, high_included=False)
AREAS = ("lr_area", "anneal_area")
_FEWEST = {"lr_area": 3, "anneal_area": 2}
_LEARNED = (
    FLOOR,
    amplitude("A", "what training still lacks, at S_ref"),
    exponent("alpha", "exponent of S1"),
)
_GIVEN_BACK = amplitude("C", "what a decay gives back, at an S2 of S_ref", upper=1e4)
"""S2 fades and S1 does not, so S2 / S_ref is small after many steps and C then large."""

_SHIFTED = (
    *_LEARNED,
    Parameter("a0", "nonlinear", 1e-4, 1e4, "S_ref", "log", "S1 of the base's pre-training"),
    _GIVEN_BACK,
    amplitude("B", "what the shift of the text takes (or, below 0, gives)", lower=-60.0),
    Parameter("k", "nonlinear", 1e-3, 1e4, "1/S_ref", "log", "how soon it takes it"),
    Parameter("beta", "nonlinear", 0.03, 2.5, "1", "log", "exponent of S1 in the shift"),
)


def _law(
    name: str,
    formula: str,
    source: str,
    loss: Callable[[Points, Values, References], Array],
    parameters: tuple[Parameter, ...],
    needs: tuple[str, ...] = AREAS,
) -> Law:
    """A law of one size; without a ratio in its needs, also of one ratio."""
    shares = "ratio" in needs
    return Law(
        name=name,
        formula=formula,
        source=source,
        side="any",
        phases=("constant", "annealed"),
        needs=needs,
        parameters=parameters,
        loss=loss,
        axes={**_FEWEST, "ratio": 3} if shares else _FEWEST,
        one_value=("n_params",) if shares else ("n_params", "ratio"),
        holds_on=(SOME_AREA,),
    )


SCHEDULE_LAWS = (
    _law(
        "lr-annealing",
        "E + A S^-alpha - C S2/S_ref",
        "arXiv 2408.11029",
        _lr_annealing,
        (*_LEARNED, _GIVEN_BACK),
    ),
    _law(
        "multi-power",
        (
            "E + A S^-alpha - B sum_k (drop_k/LR_ref)"
            " [1 - (1 + C (LR_k/LR_ref)^-gamma S_k/S_ref)^-beta]"
        ),
        "Luo et al. 2025, arXiv 2503.12811",
        _multi_power,
        (
            *_LEARNED,
            amplitude("B", "what a drop from LR_ref to 0 gives back in the end"),
            Parameter("C", "nonlinear", 1e-2, 1e6, "1", "log", "how soon, at the references"),
            exponent("beta", "exponent of the steps since a drop"),
            linear("gamma", "how much sooner at a smaller rate, an exponent", 0.0, 1.5),
        ),
        ("lr_area", "drop_sizes"),  # where these are known, the rest of the history is
    ),
    _law(
        "after-2505.07796",
        "E + A (a0 + S)^-alpha - C S2/S_ref + B [1 - (1 + k S)^-beta]",
        "after Wang et al. 2025, arXiv 2505.07796: S2 of the pre-training is in E",
        _after_dynamics,
        _SHIFTED,
    ),
    _law(
        "after-2505.07796-replay",
        ("E + A (a0 + S)^-alpha - C e^(-m r) S2/S_ref + B (1 - e^(-j r)) [1 - (1 + k S)^-beta]"),
        "after Wang et al. 2025, arXiv 2505.07796: the signs in its factors of r are ours",
        _after_dynamics_replay,
        (
            *_SHIFTED,
            linear("m", "how a share of domain text damps what a decay gives back", -3.0, 3.0),
            Parameter("j", "nonlinear", 0.05, 60.0, "1", "log", "how soon a share shifts all"),
        ),
        (*AREAS, "ratio"),
    ),
)
