"""Fit a law to a channel from many starts, which are screened and then polished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.bounds import box, references_of
from dcpt.laws.law import Law, References, evaluate
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.record import Points
from dcpt.laws.solver.minimise import Problem, minimise, start_values, with_amplitudes
from dcpt.laws.suitable import data_for, refusal

Array = NDArray[np.float64]

N_STARTS = 128
"""Default number of random starts."""

STARTS_PER_SCREENED = 4
"""One start in this many, the best by objective, is screened."""

SCREENING_ITERATIONS = 10
"""Iterations of a screened start."""

POLISHED = (0, 1, 2, 3)
"""Ranks of the screened starts that are polished, for folds and draws."""

POLISHED_IN_FIT = (*POLISHED, 7, 15)
"""The same for the fit itself. Starts of lower rank may end in another minimum that is as good."""

POLISH_ITERATIONS = 150
"""Iterations of a polished start."""

POLISH_GAIN = 1e-9
"""A polished start has converged if a step improves its objective by less than this fraction."""

RESTARTS, SETTLED = 5, 1e-6
"""The best start is restarted at most 5 times, until a restart gains less than 1e-6 of its
objective."""

MANY_POINTS, SEARCH_POINTS = 10_000, 4_000
"""With more than 10,000 points, a random 4,000 of them are used to select among the starts."""

AGREE = 1e-3
"""Starts agree if their objectives are within this fraction of the best."""

RIVAL = 0.02
"""A start that ended within this fraction of the best objective fits the points equally well."""


@dataclass(frozen=True)
class LawFit:
    """A law with fitted parameters.

    Args:
        law: The law, with P parameters.
        values: Parameters in the law's order, shape (P,), natural units.
        references: Reference scales of the formula.
        objective: Sum of Huber(delta) over residuals of the log loss.
        lower: Lower bounds used, shape (P,), natural units.
        upper: Upper bounds used, shape (P,), natural units; equal to ``lower`` where a parameter
            was fixed.
        agreeing: Number of polished starts that ended within 0.1 % of the best objective.
        data: The points that the law was fitted to, or the part of them that bootstrap draws use.
        n_points: Number of points that the law was fitted to.
        delta: Threshold of the Huber loss, in log loss.
        rivals: Parameters of the other polished starts that ended within 2 % of the best
            objective, shape (R, P), natural units.
    """

    law: Law
    values: Array
    references: References
    objective: float
    lower: Array
    upper: Array
    agreeing: int
    data: ChannelData
    n_points: int
    delta: float
    rivals: Array = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def parameters(self) -> dict[str, float]:
        """Fitted values by name, natural units."""
        return dict(zip(self.law.names, map(float, self.values), strict=True))

    @property
    def problem(self) -> Problem:
        """The problem that was minimised."""
        return Problem(
            self.law,
            self.data.points,
            self.data.losses,
            self.references,
            self.lower,
            self.upper,
            self.delta,
        )

    def predict(self, points: Points) -> Array:
        """Predicted losses in nats per token, shape (M,), for M points."""
        return evaluate(self.law, points, self.values, self.references)


@dataclass(frozen=True)
class Ends:
    """Results of the polished starts, best first, on the points used to select among them.

    Args:
        values: Parameters, shape (G, K, P), natural units, for G groups and K starts.
        objectives: Shape (G, K).
    """

    values: Array
    objectives: Array

    def within(self, share: float) -> NDArray[np.bool_]:
        """Which starts ended within a fraction of the best objective, shape (G, K)."""
        best = self.objectives[:, :1]
        return np.asarray(self.objectives <= best * (1 + share) + 1e-15)


def search(
    problem: Problem,
    weights: Array,
    *,
    n_starts: int = N_STARTS,
    seed: int = 0,
    ranks: Sequence[int] = POLISHED,
) -> tuple[Array, Array, Ends]:
    """Fit a law for each group of weights, from many starts.

    With more than ``MANY_POINTS`` points, a random part of them is used to select among the starts;
    the best start is then fitted to all of them.

    Args:
        problem: The problem.
        weights: Weights of the points, >= 0, shape (G, M).
        n_starts: Random starts per group.
        seed: Seed of the starts.
        ranks: Ranks of the screened starts that are polished; 0 is the best.

    Returns:
        Parameters, shape (G, P), natural units; objectives, shape (G,); and the results of all
        polished starts.
    """
    size = len(problem.losses)
    if size <= MANY_POINTS:
        ends = _polish_starts(problem, weights, n_starts, seed, ranks)
    else:
        part = np.sort(np.random.default_rng(seed).permutation(size)[:SEARCH_POINTS])
        ends = _polish_starts(problem.take(part), weights[:, part], n_starts, seed, ranks)
    values, score = _settle(problem, ends.values[:, 0], weights)
    return values, score, ends


def refine(problem: Problem, starts: Array, weights: Array, new_bounds: bool = False) -> Array:
    """Fit a law for each group of weights, from starts that are near the answer.

    Args:
        problem: The problem.
        starts: Parameters, shape (K, P), natural units. They are moved into the bounds.
        weights: Weights of the points, >= 0, shape (G, M).
        new_bounds: Whether the starts were fitted within other bounds. Then the same starts with
            amplitudes solved again are added: a start that was moved may give no loss above 0.

    Returns:
        Parameters, shape (G, P), natural units.
    """
    inside = problem.to_theta(np.clip(starts, problem.lower, problem.upper))
    theta = np.repeat(inside[None], len(weights), axis=0)
    if new_bounds:
        theta = np.concatenate([theta, with_amplitudes(problem, inside, weights)[0]], axis=1)
    n_starts = theta.shape[1]
    theta, score = minimise(
        problem,
        theta.reshape(len(weights) * n_starts, -1),
        np.repeat(weights, n_starts, axis=0),
        POLISH_ITERATIONS,
    )
    best = score.reshape(len(weights), n_starts).argmin(axis=1)
    return problem.to_values(theta[best + n_starts * np.arange(len(weights))])


def _settle(problem: Problem, values: Array, weights: Array) -> tuple[Array, Array]:
    """Restart from the best parameters with the initial damping until nothing is gained.

    Valleys of the objective may be long and flat. Without restarts, 5 of 400 synthetic tables
    that are hard to fit stopped 0.1 % or more above their best objective.
    """
    start = problem.to_theta(values)
    theta, score = minimise(problem, start, weights, POLISH_ITERATIONS, POLISH_GAIN)
    for _ in range(RESTARTS):
        before = score
        theta, score = minimise(problem, theta, weights, POLISH_ITERATIONS, POLISH_GAIN)
        if not (score < (1 - SETTLED) * before).any():
            break
    return problem.to_values(theta), score


def _polish_starts(
    problem: Problem, weights: Array, n_starts: int, seed: int, ranks: Sequence[int]
) -> Ends:
    groups = len(weights)
    screened = max(1, n_starts // STARTS_PER_SCREENED)
    starts = start_values(problem, weights, n_starts, seed)[:, :screened]
    theta, score = minimise(
        problem,
        starts.reshape(groups * screened, -1),
        np.repeat(weights, screened, 0),
        SCREENING_ITERATIONS,
    )
    available = [rank for rank in ranks if rank < screened]
    best = np.argsort(score.reshape(groups, screened), axis=1)[:, available]
    rows = (best + screened * np.arange(groups)[:, None]).ravel()
    polished = len(available)
    theta, score = minimise(
        problem, theta[rows], np.repeat(weights, polished, 0), POLISH_ITERATIONS, POLISH_GAIN
    )
    score = score.reshape(groups, polished)
    order = np.argsort(score, axis=1)
    theta = np.take_along_axis(theta.reshape(groups, polished, -1), order[:, :, None], axis=1)
    return Ends(problem.to_values(theta), np.take_along_axis(score, order, axis=1))


def fit_law(
    law: Law,
    data: ChannelData,
    *,
    n_starts: int = N_STARTS,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    delta: float = 1e-3,
    seed: int = 0,
    near: Array | None = None,
) -> LawFit:
    """Fit a law to a channel.

    Args:
        law: The law.
        data: The channel's points. The law is fitted to those that ``data_for`` selects.
        n_starts: Number of random starts.
        fixed: Fixed values of parameters, natural units.
        bounds: Bounds (low, high) that replace the law's own, natural units.
        delta: Threshold of the Huber loss, in log loss.
        seed: Seed of the starts.
        near: Parameters, shape (P,), natural units, of a fit to nearly the same points. The fit
            starts from them instead of at random.

    Returns:
        The law with its fitted parameters.

    Raises:
        InputError: If the law cannot be fitted to these points, or a bound is invalid.
    """
    used = data_for(law, data)
    reason = refusal(law, used, fixed=fixed, bounds=bounds)
    if reason is not None:
        raise InputError(f"law {law.name} cannot be fitted to channel {data.channel}: {reason}")
    lower, upper = box(law, used.points, fixed, bounds)
    references = references_of(used.points)
    problem = Problem(law, used.points, used.losses, references, lower, upper, delta)
    weights = np.ones((1, len(used.losses)))
    if near is None:
        values, score, ends = search(
            problem, weights, n_starts=n_starts, seed=seed, ranks=POLISHED_IN_FIT
        )
    else:
        values, score = _settle(problem, refine(problem, near[None], weights, True), weights)
        ends = Ends(values[None], score[None])
    return LawFit(
        law=law,
        values=values[0],
        references=references,
        objective=float(score[0]),
        lower=lower,
        upper=upper,
        agreeing=int(ends.within(AGREE).sum()),
        data=used,
        n_points=len(used.losses),
        delta=delta,
        rivals=ends.values[0, 1:][ends.within(RIVAL)[0, 1:]],
    )
