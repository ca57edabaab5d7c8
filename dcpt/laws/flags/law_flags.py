"""Warnings about a fitted law: bounds, starts, rival minima, conditioning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.law import evaluate
from dcpt.laws.points.record import Points, share_of
from dcpt.laws.solver.minimise import evaluate_with_slopes, minimise
from dcpt.laws.solver.search import LawFit

Array = NDArray[np.float64]

NEAR_BOUND = 1e-6

ILL_CONDITIONED = 1e10
"""Condition of the curvature above which parameters are known to fewer than half their digits."""

APART = 3e-3
"""Log loss: two fits further apart than a tenth of a limit of +3 % do not say the same."""

RISES = (0.01, 0.02, 0.03, 0.05)
"""Limits on the general loss, relative, at which the shares of two fits are compared."""

SHARES_APART = 0.02
"""Shares further apart than this are two answers."""

SETTLE = 500
"""Steps after which a start that still creeps along a valley has left it."""


def flag_law(fitted: LawFit) -> list[str]:
    """Flags of one fitted law: bounds, starts, minima, conditioning."""
    flags = []
    problem = fitted.problem
    theta = problem.to_theta(fitted.values)
    low, high = problem.to_theta(fitted.lower), problem.to_theta(fitted.upper)
    for i, name in enumerate(fitted.law.names):
        width = high[i] - low[i]
        near = NEAR_BOUND * min(width, 1.0)
        if width > 0 and min(theta[i] - low[i], high[i] - theta[i]) <= near:
            flags.append(f"at_bound:{name}")
    if fitted.agreeing < 2:
        flags.append("starts_disagree")
    if len(fitted.rivals):
        flags += _about_rivals(fitted)
    if _condition(fitted) > ILL_CONDITIONED:
        flags.append("ill_conditioned")
    return flags


def _about_rivals(fitted: LawFit) -> list[str]:
    """Flags of other starts that ended with as good a fit, and do so however long they go on."""
    flags = _compare_minima(fitted, fitted.rivals)
    if not flags:
        return []
    problem = fitted.problem
    weights = np.ones((1, len(problem.losses)))
    settled, _ = minimise(problem, problem.to_theta(fitted.rivals), weights, SETTLE, 1e-12)
    return _compare_minima(fitted, problem.to_values(settled))


def _compare_minima(fitted: LawFit, rivals: Array) -> list[str]:
    """Flags of parameters, (R, P), that fit as well and predict something else."""
    both = np.concatenate([fitted.values[None], rivals])
    asked = _ratios_at_the_edge(fitted)
    places = [fitted.data.points, *([] if asked is None else [asked])]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        losses = [evaluate(fitted.law, points, both, fitted.references) for points in places]
        log_loss = np.log(np.concatenate(losses, axis=1))
        apart = np.abs(log_loss[1:] - log_loss[0])
    flags = []
    if not (apart <= APART).all():
        flags.append("several_minima")
    if asked is not None and fitted.data.side == "general":
        edge = losses[1]
        shares = np.stack([_shares_allowed(asked.get("ratio"), one, edge[0, 0]) for one in edge])
        if (np.abs(shares[1:] - shares[0]) > SHARES_APART).any():
            flags.append("minima_disagree:ratio")
    return flags


def _ratios_at_the_edge(fitted: LawFit) -> Points | None:
    """Ratios over the range seen, at the largest size, its longest D and the middle rate there.

    None where the law saw one ratio or none.
    """
    points = fitted.data.points
    if points.ratio is None or np.ptp(points.ratio) == 0:
        return None
    top = np.arange(len(points))
    for name in ("n_params", "n_tokens", "learning_rate"):
        values = getattr(points, name)
        if values is not None:
            wanted = values[top].max()
            if name == "learning_rate":
                wanted = np.sort(values[top])[len(top) // 2]
            top = top[values[top] == wanted]
    ratio = np.linspace(points.ratio.min(), points.ratio.max(), 97)
    edge = points.take(np.full(len(ratio), top[0]))
    return replace(edge, ratio=ratio, share=share_of(fitted.data.side, ratio))


def _shares_allowed(ratio: Array, loss: Array, least: float) -> Array:
    """The largest ratio before a general loss first rises by each of ``RISES``, shape (4,)."""
    beyond = loss > least * (1 + np.array(RISES)[:, None])
    last = np.where(beyond.any(axis=1), np.argmax(beyond, axis=1), len(ratio) - 1)
    return ratio[last]


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
