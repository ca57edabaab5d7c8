"""Laws of the full history of the learning rate: its area, and the gain from its drops over time.

They contain no N, so they describe a single size. S1, S2 and the drops are fields of the points.
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

TINY = 1e-100
"""Replaces a rate or an area of 0 inside a logarithm. A drop to 0 takes full effect at once."""


def _area(points: Points, ref: References, name: str = "lr_area") -> Array:
    """An area in units of S_ref, shape (M,), or (M, J) for the areas of the drops."""
    assert ref.lr_area is not None, "a law with an area must say so in its needs"
    return points.get(name) / ref.lr_area


def _lr_annealing(points: Points, p: Values, ref: References) -> Array:
    learned = p["A"] * power(points, "lr_area", ref.lr_area, -p["alpha"])
    return p["E"] + learned - p["C"] * _area(points, ref, "anneal_area")


def _multi_power(points: Points, p: Values, ref: References) -> Array:
    assert ref.learning_rate is not None, "a law with a learning rate must say so in its needs"
    learned = p["A"] * power(points, "lr_area", ref.lr_area, -p["alpha"])
    sizes = points.get("drop_sizes") / ref.learning_rate
    log_rate = np.log(np.maximum(points.get("drop_rates") / ref.learning_rate, TINY))
    areas = _area(points, ref, "drop_areas")
    log_area = np.log(np.maximum(areas, TINY))
    # The last axis of the arrays below is that of the drops: (K, M, J).
    speed, gamma, beta = (p[name][..., None] for name in ("C", "gamma", "beta"))
    progress = np.where(areas > 0, 1.0, 0.0) * speed * np.exp(log_area - gamma * log_rate)
    gain = sizes * -np.expm1(-beta * np.log1p(progress))
    loss: Array = p["E"] + learned - p["B"] * gain.sum(axis=-1)
    return loss


def _shifted(
    points: Points, p: Values, ref: References, annealing: Array | float, shift: Array | float
) -> Array:
    """The law of arXiv 2505.07796 with factors of the share on its last two terms, (K, M)."""
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
    amplitude("A", "loss due to limited training, at S_ref"),
    exponent("alpha", "exponent of S1"),
)
_DECAY_GAIN = amplitude("C", "gain from a decay, at S2 = S_ref", upper=1e4)
"""S2 decays with the steps and S1 does not, so after many steps S2 / S_ref is small and C large."""

_SHIFTED = (
    *_LEARNED,
    Parameter("a0", "nonlinear", 1e-4, 1e4, "S_ref", "log", "S1 of the base's pre-training"),
    _DECAY_GAIN,
    amplitude("B", "loss due to the change of text (a gain if negative)", lower=-60.0),
    Parameter("k", "nonlinear", 1e-3, 1e4, "1/S_ref", "log", "rate of that change in S1"),
    Parameter("beta", "nonlinear", 0.03, 2.5, "1", "log", "exponent of S1 in that change"),
)


def _law(
    name: str,
    formula: str,
    source: str,
    loss: Callable[[Points, Values, References], Array],
    parameters: tuple[Parameter, ...],
    needs: tuple[str, ...] = AREAS,
) -> Law:
    """A law of a single size, and of a single ratio if it does not need the ratio."""
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
        (*_LEARNED, _DECAY_GAIN),
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
            amplitude("B", "total gain from a drop from LR_ref to 0"),
            Parameter(
                "C", "nonlinear", 1e-2, 1e6, "1", "log", "rate of that gain in S, at the references"
            ),
            exponent("beta", "exponent of the area since a drop"),
            linear("gamma", "exponent of LR in the rate of that gain", 0.0, 1.5),
        ),
        ("lr_area", "drop_sizes"),  # where these are known, so are drop_rates and drop_areas
    ),
    _law(
        "after-2505.07796",
        "E + A (a0 + S)^-alpha - C S2/S_ref + B [1 - (1 + k S)^-beta]",
        "after Wang et al. 2025, arXiv 2505.07796, with S2 of the pre-training in E",
        _after_dynamics,
        _SHIFTED,
    ),
    _law(
        "after-2505.07796-replay",
        ("E + A (a0 + S)^-alpha - C e^(-m r) S2/S_ref + B (1 - e^(-j r)) [1 - (1 + k S)^-beta]"),
        "after Wang et al. 2025, arXiv 2505.07796, with dcpt's signs in the factors of r",
        _after_dynamics_replay,
        (
            *_SHIFTED,
            linear("m", "decrease of the decay's gain with the domain share", -3.0, 3.0),
            Parameter(
                "j",
                "nonlinear",
                0.05,
                60.0,
                "1",
                "log",
                "rate at which the change of text saturates in r",
            ),
        ),
        (*AREAS, "ratio"),
    ),
)
