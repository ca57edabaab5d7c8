"""Warnings about a fitted law: bounds, starts, rival minima, conditioning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dcpt.flags import Flag
from dcpt.laws.flags.kinds import make_flag
from dcpt.laws.law import evaluate
from dcpt.laws.points.record import Points, share_of
from dcpt.laws.solver.minimise import evaluate_with_slopes, minimise
from dcpt.laws.solver.search import LawFit

Array = NDArray[np.float64]

Disagreement = tuple[str, dict[str, str]]
"""Kind and values of a flag about several minima."""

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


def flag_law(fitted: LawFit) -> list[Flag]:
    """Flags of a fitted law: bounds, starts, minima, conditioning."""
    subject = {"channel": fitted.data.channel, "law": fitted.law.name}
    flags = []
    on_bounds = _on_bounds(fitted)
    if on_bounds:
        flags.append(make_flag("at_bound", subject, parameters=on_bounds))
    if fitted.agreeing < 2:
        flags.append(make_flag("starts_disagree", subject))
    if len(fitted.rivals):
        flags += [make_flag(kind, subject, **values) for kind, values in _compare_rivals(fitted)]
    if _condition(fitted) > ILL_CONDITIONED:
        flags.append(make_flag("ill_conditioned", subject))
    return flags


def _on_bounds(fitted: LawFit) -> list[str]:
    """Names of the fitted parameters that ended on a bound."""
    problem = fitted.problem
    theta = problem.to_theta(fitted.values)
    low, high = problem.to_theta(fitted.lower), problem.to_theta(fitted.upper)
    width, gap = high - low, np.minimum(theta - low, high - theta)
    near = (width > 0) & (gap <= NEAR_BOUND * np.minimum(width, 1.0))
    return [name for name, is_near in zip(fitted.law.names, near, strict=True) if is_near]


def _compare_rivals(fitted: LawFit) -> list[Disagreement]:
    """How other starts with an equally good fit disagree, after more steps as well."""
    found = _compare_minima(fitted, fitted.rivals)
    if not found:
        return []
    problem = fitted.problem
    weights = np.ones((1, len(problem.losses)))
    settled, _ = minimise(problem, problem.to_theta(fitted.rivals), weights, SETTLE, 1e-12)
    return _compare_minima(fitted, problem.to_values(settled))


def _compare_minima(fitted: LawFit, rivals: Array) -> list[Disagreement]:
    """How parameters of shape (R, P) that fit equally well predict something else."""
    both = np.concatenate([fitted.values[None], rivals])
    asked = _ratios_at_the_edge(fitted)
    places = [fitted.data.points, *([] if asked is None else [asked])]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        losses = [evaluate(fitted.law, points, both, fitted.references) for points in places]
        log_loss = np.log(np.concatenate(losses, axis=1))
        apart = np.abs(log_loss[1:] - log_loss[0])
    found: list[Disagreement] = []
    if not (apart <= APART).all():
        found.append(("several_minima", {}))
    if asked is not None and fitted.data.side == "general":
        edge = losses[1]
        shares = np.stack(
            [_shares_allowed(asked.get("ratio"), curve, edge[0, 0]) for curve in edge]
        )
        if (np.abs(shares[1:] - shares[0]) > SHARES_APART).any():
            found.append(("minima_disagree", {"axis": "ratio"}))
    return found


def _ratios_at_the_edge(fitted: LawFit) -> Points | None:
    """Ratios over the runs' range, at the largest size, its longest D and the middle rate there.

    None if the points have fewer than two ratios.
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
