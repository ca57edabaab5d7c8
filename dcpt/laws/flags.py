"""Warnings about a fit: stable names, and the sentence a person reads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.fitter import evaluate_with_slopes
from dcpt.laws.points import SAME, Points, distinct
from dcpt.laws.search import LawFit

Array = NDArray[np.float64]

CONFOUNDED = 0.9
"""Correlation of log N and log LR over runs from which their effects cannot be told apart."""

NEAR_BOUND = 1e-6

ILL_CONDITIONED = 1e10
"""Condition of the curvature above which parameters are known to fewer than half their digits."""

WORDS = {
    "at_bound": "parameter {} ended on its bound: read predictions, not its value",
    "starts_disagree": "only one start found the best fit: the search may have missed a better one",
    "ill_conditioned": "parameters trade against each other: read predictions, not values",
    "few_sizes": "fewer than three sizes: the error at another size is not measured",
    "one_size": (
        "one size: the terms in N drop out; laws that have such terms are refused at other sizes, "
        "and nothing measures how far the others miss there"
    ),
    "no_sizes": "the table names no sizes: the fit holds at the size of its runs only",
    "no_learning_rates": "the table names no learning rates: the fit holds at its runs' only",
    "phase_not_named": (
        "the table names no phase, so all points were taken as at constant rate: losses after a "
        "decay among them bend the fit, add the column phase"
    ),
    "one_learning_rate": "one learning rate: what another one would do is not known, nor answered",
    "confounded": "{} moved together over the runs: their effects cannot be told apart",
    "not_held_out": (
        "no {} points could be held out: the law was chosen by how well it fits the points that it "
        "saw, and nothing measures how well it predicts"
    ),
    "extrapolates": "{} lies outside what the runs saw",
}


def explain_flag(name: str) -> str:
    """The sentence of a flag such as ``general/d-cpt/at_bound:gamma``, with its place."""
    *place, flag = name.split("/")
    kind, _, what = flag.partition(":")
    words = WORDS[kind].format(what.replace(",", " and "))
    where = " on ".join(f"`{one}`" for one in reversed(place))
    return f"{where}: {words}" if where else words


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
    if fitted.agreeing < 2:
        flags.append("starts_disagree")
    if _condition(fitted) > ILL_CONDITIONED:
        flags.append("ill_conditioned")
    return flags


def _condition(fitted: LawFit) -> float:
    """Condition of the curvature at the best fit, each parameter's slope scaled to length 1.

    Parameters on a bound, or without any effect, are left out: they cannot trade.
    """
    problem = fitted.problem
    theta = problem.to_theta(fitted.values)
    low, high = problem.to_theta(fitted.lower), problem.to_theta(fitted.upper)
    inside = np.minimum(theta - low, high - theta) > NEAR_BOUND * (high - low)
    slopes = evaluate_with_slopes(problem, theta[None])[1][0][inside[problem.free]]
    length = np.sqrt((slopes**2).sum(axis=1, keepdims=True))
    scaled = (slopes / np.where(length > 0, length, 1.0))[length[:, 0] > 0]
    return float(np.linalg.cond(scaled @ scaled.T)) if len(scaled) > 1 else 1.0


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
    if not np.isfinite(rates).all():
        flags.append("no_learning_rates")
    elif len(rates) == 1:
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
