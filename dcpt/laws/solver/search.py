"""One law fitted to one channel: many starts, screened and polished, for one or many weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.law import Law, References, evaluate
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.record import Points
from dcpt.laws.solver.minimise import Problem, minimise, start_values
from dcpt.laws.suitable import box, data_for, references_of, refusal

Array = NDArray[np.float64]

N_STARTS = 128
SCREENED = 4
"""One start in this many goes into the first ten iterations."""

POLISHED = (0, 1, 2, 3)
"""Ranks of the screened starts that are iterated to convergence."""

SPREAD = (*POLISHED, 7, 15)
"""The same for the fit itself: starts from further down may end in another minimum as good."""

POLISH = 150
"""Iterations of a start that passed the screening."""

RESTARTS, SETTLED = 5, 1e-6
"""A winner goes on at most so often, until it gains less than this share of its objective."""

MANY_POINTS, SEARCH_POINTS = 10_000, 4_000
"""Beyond so many points, so many of them choose among the starts."""

AGREE = 1e-3
"""Starts agree when their objectives differ by less than this share."""

RIVAL = 0.02
"""A start that ended within this share of the best objective fits the points as well."""


@dataclass(frozen=True)
class LawFit:
    """A law with fitted values.

    Args:
        law: The law.
        values: Parameters in the law's order, shape (P,), natural units.
        references: Scales of the formula.
        objective: Sum of Huber(delta) on log-loss residuals.
        lower: Lower bounds used, shape (P,).
        upper: Upper bounds used, shape (P,); equal to ``lower`` where a parameter was held.
        agreeing: How many of the polished starts reached the objective within .1 %.
        data: The points it was fitted to, or those of them that draws are made of.
        n_points: How many it was fitted to.
        delta: Threshold of the Huber loss, in log loss.
        rivals: Where the other polished starts within 2 % of the objective ended, shape (R, P).
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
        """Values by name."""
        return dict(zip(self.law.names, map(float, self.values), strict=True))

    @property
    def problem(self) -> Problem:
        """What was minimised."""
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
        """Losses at points, shape (M,), nats per token."""
        return evaluate(self.law, points, self.values, self.references)


@dataclass(frozen=True)
class Ends:
    """Where polished starts ended, best first, on the points that chose among them.

    Args:
        values: Natural values, shape (G, K, P).
        objectives: Shape (G, K).
    """

    values: Array
    objectives: Array

    def within(self, share: float) -> NDArray[np.bool_]:
        """Which ends lie within a share of the best objective, shape (G, K)."""
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
    """The best parameters for each group of weights, from many starts at once.

    Of very many points a random few choose among the starts, then all of them are fitted.

    Args:
        problem: The problem.
        weights: Shape (G, M), >= 0.
        n_starts: Random starts per group.
        seed: Of the starts.
        ranks: Ranks of the screened starts, the best is 0, that are iterated further.

    Returns:
        Natural values (G, P), objectives (G,), and where all polished starts ended.
    """
    size = len(problem.losses)
    if size <= MANY_POINTS:
        ends = _search(problem, weights, n_starts, seed, ranks)
    else:
        few = np.sort(np.random.default_rng(seed).permutation(size)[:SEARCH_POINTS])
        ends = _search(problem.take(few), weights[:, few], n_starts, seed, ranks)
    values, score = _settle(problem, ends.values[:, 0], weights)
    return values, score, ends


def _settle(problem: Problem, values: Array, weights: Array) -> tuple[Array, Array]:
    """Go on from a winner with fresh damping until nothing is gained: valleys may be long and flat.

    Without it 5 of 400 tables made hard to fit stopped .1 % or more above their best.
    """
    theta, score = minimise(problem, problem.to_theta(values), weights, POLISH, 1e-9)
    for _ in range(RESTARTS):
        before = score
        theta, score = minimise(problem, theta, weights, POLISH, 1e-9)
        if not (score < (1 - SETTLED) * before).any():
            break
    return problem.to_values(theta), score


def _search(
    problem: Problem, weights: Array, n_starts: int, seed: int, ranks: Sequence[int]
) -> Ends:
    groups = len(weights)
    kept = max(1, n_starts // SCREENED)
    starts = start_values(problem, weights, n_starts, seed)[:, :kept]
    theta, score = minimise(
        problem, starts.reshape(groups * kept, -1), np.repeat(weights, kept, 0), 10
    )
    picked = [rank for rank in ranks if rank < kept]
    best = np.argsort(score.reshape(groups, kept), axis=1)[:, picked]
    rows = (best + kept * np.arange(groups)[:, None]).ravel()
    polished = len(picked)
    theta, score = minimise(problem, theta[rows], np.repeat(weights, polished, 0), POLISH, 1e-9)
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
) -> LawFit:
    """Fit one law to one channel.

    Args:
        law: The law.
        data: The channel's points.
        n_starts: Random starts.
        fixed: Parameters fixed at a value.
        bounds: Bounds that replace the law's own.
        delta: Threshold of the Huber loss, in log loss.
        seed: Of the starts.

    Raises:
        InputError: If the law does not suit the points.
    """
    used = data_for(law, data)
    why = refusal(law, used, fixed=fixed, bounds=bounds)
    if why is not None:
        raise InputError(f"law {law.name} cannot be fitted to channel {data.channel}: {why}")
    lower, upper = box(law, used.points, fixed, bounds)
    references = references_of(used.points)
    problem = Problem(law, used.points, used.losses, references, lower, upper, delta)
    counts = np.ones((1, len(used.losses)))
    values, score, ends = search(problem, counts, n_starts=n_starts, seed=seed, ranks=SPREAD)
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
