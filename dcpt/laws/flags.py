"""Warnings about a fit: stable names, and the sentence a person reads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.points import SAME, Points, distinct
from dcpt.laws.search import POLISHED, LawFit

Array = NDArray[np.float64]

CONFOUNDED = 0.9
"""Correlation of log N and log LR over runs from which their effects cannot be told apart."""

NEAR_BOUND = 1e-6

WORDS = {
    "at_bound": "parameter {} ended on its bound: read predictions, not its value",
    "starts_disagree": "only one start found the best fit: the search may have missed a better one",
    "ill_conditioned": "parameters trade against each other: read predictions, not values",
    "few_sizes": "fewer than three sizes: the error at another size is not measured",
    "one_size": "one size: the terms in N drop out, and the fit holds at that size only",
    "no_sizes": "the table names no sizes: the fit holds at the size of its runs only",
    "one_learning_rate": "one learning rate: what another one would do is not known",
    "confounded": "{} moved together over the runs: their effects cannot be told apart",
    "not_held_out": "no split could be held out: nothing measures how well the laws predict",
    "extrapolates": "{} lies outside what the runs saw",
}


def explain_flag(name: str) -> str:
    """The sentence of a flag such as ``at_bound:gamma``."""
    kind, _, what = name.rpartition("/")[2].partition(":")
    return WORDS[kind].format(what.replace(",", " and "))


def flag_law(fitted: LawFit) -> list[str]:
    """Flags of one fitted law: bounds, starts, conditioning."""
    flags = []
    problem = fitted.problem
    theta = problem.to_theta(fitted.values)
    low, high = problem.to_theta(fitted.lower), problem.to_theta(fitted.upper)
    for i, name in enumerate(fitted.law.names):
        width = high[i] - low[i]
        if width > 0 and min(theta[i] - low[i], high[i] - theta[i]) <= NEAR_BOUND * width:
            flags.append(f"at_bound:{name}")
    if fitted.agreeing < 2 <= POLISHED:
        flags.append("starts_disagree")
    return flags


def flag_table(points: Points) -> list[str]:
    """Flags of the design: few sizes, one learning rate, size and learning rate confounded."""
    flags = []
    sizes, rates = distinct(points, "n_params"), distinct(points, "learning_rate")
    known_sizes = bool(np.isfinite(sizes).all())
    if not known_sizes:
        flags.append("no_sizes")
    elif len(sizes) == 1:
        flags.append("one_size")
    elif known_sizes and len(sizes) == 2:
        flags.append("few_sizes")
    if len(rates) == 1:
        flags.append("one_learning_rate")
    if known_sizes and len(sizes) > 1 and len(rates) > 1:
        both = np.stack([np.log(points.get("n_params")), np.log(points.get("learning_rate"))])
        if abs(float(np.corrcoef(both)[0, 1])) > CONFOUNDED:
            flags.append("confounded:n_params,learning_rate")
    return flags


def flag_question(points: Points, ranges: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Which fields of a question lie outside the ranges seen (2 % aside)."""
    flags = []
    for name, (low, high) in ranges.items():
        values = getattr(points, name)
        if values is None:
            continue
        if (values > high * (1 + SAME)).any() or (values < low * (1 - SAME)).any():
            flags.append(f"extrapolates:{name}")
    return tuple(flags)
