"""Bootstrap draws: refits under random weights of whole runs, the same for every law."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.solver.minimise import minimise
from dcpt.laws.solver.search import LawFit

Array = NDArray[np.float64]

ITERATIONS = 45
SMALLEST_GAIN = 1e-6

BATCH_NUMBERS = 100_000
"""Draws x points x parameters of a batch, so that its gradients stay in the cache."""


def draw_run_weights(n_draws: int, n_runs: int, seed: int) -> Array:
    """Dirichlet weights of runs, mean 1, shape (n_draws, n_runs).

    Counts would drop whole ratios where there are four or five runs.
    """
    rng = np.random.default_rng([seed, 1])
    return rng.dirichlet(np.ones(n_runs), n_draws) * n_runs


def refit(fitted: LawFit, run_weights: Array) -> Array:
    """Parameters under each row of run weights, from the best fit, shape (n_draws, P)."""
    problem = fitted.problem
    begin = problem.to_theta(fitted.values)
    size = max(1, BATCH_NUMBERS // (len(problem.losses) * len(begin)))
    parts = []
    for first in range(0, len(run_weights), size):
        weights = run_weights[first : first + size, fitted.data.runs]
        rows = np.repeat(begin[None], len(weights), axis=0)
        parts.append(minimise(problem, rows, weights, ITERATIONS, SMALLEST_GAIN)[0])
    return problem.to_values(np.concatenate(parts))


def draw_ranks(n_draws: int, seed: int, stream: int) -> Array:
    """Evenly spaced numbers in (0, 1) in random order, shape (n_draws,): they pick each draw's law.

    With even spacing a law of weight 0.3 is used in three of ten draws, whatever the seed.
    """
    rng = np.random.default_rng([seed, 2, stream])
    return (rng.permutation(n_draws) + 0.5) / max(n_draws, 1)


def draw_errors(n_draws: int, seed: int, stream: int) -> Array:
    """The law's own error in units of its held-out error, shape (n_draws,)."""
    return np.random.default_rng([seed, 3, stream]).standard_normal(n_draws)


def pick_laws(ranks: Array, weights: Array) -> NDArray[np.intp]:
    """The law of each draw, in proportion to stack weights, shape (n_draws,)."""
    edges = np.cumsum(weights) / weights.sum()
    return np.minimum(np.searchsorted(edges, ranks), len(weights) - 1).astype(np.intp)
