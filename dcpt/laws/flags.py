"""Warnings about a fit: stable names, and the sentence a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.fitter import evaluate_with_slopes, minimise
from dcpt.laws.law import evaluate
from dcpt.laws.points import SAME, Points, share_of
from dcpt.laws.search import LawFit

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

WORDS = {
    "at_bound": "{} ended on a bound: read predictions, not its value",
    "starts_disagree": (
        "only one start found the best fit: the search may have missed a better one, so fit again "
        "with another seed and compare the objectives"
    ),
    "several_minima": (
        "other starts ended with as good a fit of these points and with other losses at some of "
        "them or at the largest size and longest D: hold a parameter or add runs that tell them "
        "apart, and trust no single parameter"
    ),
    "minima_disagree": (
        "starts that fit these points equally well allow different values of {} under one limit "
        "at the largest size and longest D: add runs near the recommendation"
    ),
    "ill_conditioned": "parameters trade against each other: read predictions, not values",
    "few_sizes": (
        "fewer than three sizes: the error at another size is not measured, add a third one"
    ),
    "one_size": (
        "one size: the terms in N drop out; laws that have such terms are refused at other sizes, "
        "and nothing measures how far the others miss there: add runs at a second size"
    ),
    "no_sizes": (
        "the table names no sizes: the fit holds at the size of its runs only, add the column "
        "n_params"
    ),
    "few_tokens": (
        "no run saw as many as 1,000 tokens: n_tokens counts tokens, so write 7000000000 for 7 "
        "billion"
    ),
    "no_learning_rates": (
        "the table names no learning rates: the fit holds at its runs' only, add the column "
        "learning_rate"
    ),
    "phase_not_named": (
        "the table names no phase, so all points were taken as at constant rate: losses after a "
        "decay among them bend the fit, add the column phase"
    ),
    "schedules_not_given": (
        "the column schedule names schedules and no file says what they are, so every law took the "
        "points as at constant rate: fit again with --schedules FILE (schedules=)"
    ),
    "not_asked": (
        "does not hold at all points asked, so the others answer there: read its range with "
        "`dcpt laws`"
    ),
    "undeclared_decay": (
        "at least half of the runs end below their own curve of the {} loss, as they do after a "
        "decay of the learning rate, and no phase says so: write annealed in the column phase of "
        "such points, or give their schedule"
    ),
    "one_learning_rate": (
        "one learning rate: what another one would do is not known, nor answered; a few small runs "
        "at a third and at three times of it tell"
    ),
    "confounded": (
        "{} moved together over the runs: their effects cannot be told apart, add runs in which "
        "only one of them differs"
    ),
    "epochs_follow_ratio": (
        "{} text was seen more than twice and its amount is the same wherever the ratio is: what "
        "repetition costs cannot be told from what the ratio does, train a ratio again with less "
        "of the text"
    ),
    "several_evaluations": (
        "the losses were measured on several sets of tokens (eval_id) and no base was measured on "
        "all of them: they may not be comparable, so measure one base on each or fit one set alone"
    ),
    "not_fitted": (
        "no parameters give losses above 0 at every point, so it was left out; add points, or read "
        "what the others say"
    ),
    "few_runs": (
        "fewer than five runs: the intervals hold what differs between points, hardly what differs "
        "between runs; add runs, or repeat one with another seed"
    ),
    "drawn_from_part": (
        "the {} channel has very many points: all of them were fitted, and a random 5,000 made the "
        "held-out errors, the draws and the residuals; fit again with thinned curves to choose them"
    ),
    "not_held_out": (
        "no {} points could be held out: the law was chosen by how well it fits the points that it "
        "saw, and nothing measures how well it predicts; add sizes, ratios or token counts"
    ),
    "extrapolates": "{} lies outside what the runs saw: verify with a run nearer to it",
}


def explain_flag(name: str) -> str:
    """The sentence of a flag such as ``general/d-cpt/at_bound:gamma``, with its place."""
    *place, flag = name.split("/")
    kind, _, what = flag.partition(":")
    words = WORDS[kind].format(what.replace(",", " and "))
    where = " on ".join(f"`{one}`" for one in reversed(place))
    return f"{where}: {words}" if where else words


def together(names: Sequence[str]) -> list[str]:
    """Flags of one kind in one place as one: ``a/at_bound:E``, ``a/at_bound:H`` as ``...:E,H``."""
    merged: dict[str, list[str]] = {}
    for name in names:
        kind, _, what = name.partition(":")
        merged.setdefault(kind, []).extend([what] if what else [])
    return [f"{kind}:{','.join(whats)}" if whats else kind for kind, whats in merged.items()]


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
