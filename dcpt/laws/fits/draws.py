"""Run-level draws: refits under random weights of whole runs, the same runs for every law."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.solver.minimise import minimise
from dcpt.laws.solver.search import LawFit

Array = NDArray[np.float64]

ITERATIONS = 45
SMALLEST_GAIN = 1e-6

BATCH_NUMBERS = 100_000
"""Draws x points x parameters of one batch: its slopes stay in the cache."""

TAIL = 8.0
"""Degrees of freedom of the law's own error: few folds say how large it is: long tails."""


def draw_run_weights(n_draws: int, n_runs: int, seed: int) -> Array:
    """Dirichlet weights of runs, mean 1, shape (n_draws, n_runs).

    Exponential weights rather than counts: with four or five runs a count loses whole ratios.
    """
    rng = np.random.default_rng([seed, 1])
    return rng.dirichlet(np.ones(n_runs), n_draws) * n_runs


def refit(fitted: LawFit, run_weights: Array) -> Array:
    """Parameters under each row of run weights, from the best fit, shape (n_draws, P)."""
    problem = fitted.problem
    begin = problem.to_theta(fitted.values)
    together = max(1, BATCH_NUMBERS // (len(problem.losses) * len(begin)))
    parts = []
    for first in range(0, len(run_weights), together):
        weights = run_weights[first : first + together, fitted.data.runs]
        rows = np.repeat(begin[None], len(weights), axis=0)
        parts.append(minimise(problem, rows, weights, ITERATIONS, SMALLEST_GAIN)[0])
    return problem.to_values(np.concatenate(parts))


def draw_ranks(n_draws: int, seed: int, stream: int) -> Array:
    """Evenly spread numbers in (0, 1) in random order, shape (n_draws,): they pick each draw's law.

    Even spreading keeps a law with weight .3 in three of ten draws, whatever the seed.
    """
    rng = np.random.default_rng([seed, 2, stream])
    return (rng.permutation(n_draws) + 0.5) / max(n_draws, 1)


def draw_errors(n_draws: int, seed: int, stream: int) -> Array:
    """The law's own error in units of its held-out error, shape (n_draws,)."""
    return np.random.default_rng([seed, 3, stream]).standard_t(TAIL, n_draws)


def pick_laws(ranks: Array, weights: Array) -> NDArray[np.intp]:
    """The law of each draw, in proportion to stack weights, shape (n_draws,)."""
    edges = np.cumsum(weights) / weights.sum()
    return np.minimum(np.searchsorted(edges, ranks), len(weights) - 1).astype(np.intp)
