"""Minimise the Huber loss of a law: batched Levenberg-Marquardt with bounds.

Each row of a batch is one start, fold or bootstrap draw. The objective is the sum of Huber(delta)
over residuals of the log loss. Most nonlinear parameters are fitted as logarithms. A start draws
the nonlinear parameters at random and solves the amplitudes by box-constrained least squares
(variable projection, Golub and Pereyra 1973). Nothing here depends on a particular law.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.law import Law, References
from dcpt.laws.points.record import Points
from dcpt.laws.solver.autodiff import Dual, slopes_of, value_of

Array = NDArray[np.float64]

SWEEPS = 60
"""Coordinate-descent passes over the amplitudes of a start; more do not improve starts."""

SMALLEST_GAIN = 1e-7
"""A row has converged if a step improves its objective by less than this fraction."""

FIRST_DAMPING = 1e-2
"""Initial damping of a row, relative to the diagonal of its Hessian."""

STEEPEST = 1e200
"""Largest entry of a Hessian. A larger one overflows in the next step, so that step is rejected."""


@dataclass(frozen=True)
class Problem:
    """A law, the points it is fitted to, and the bounds of its parameters.

    Args:
        law: The law, with P parameters.
        points: M points.
        losses: Measured losses, shape (M,), nats per token.
        references: Reference scales of the formula.
        lower: Lower bounds in the law's order, shape (P,), natural units.
        upper: Upper bounds, shape (P,), natural units; equal to ``lower`` where a parameter is
            fixed.
        delta: Threshold of the Huber loss, in log loss.
    """

    law: Law
    points: Points
    losses: Array
    references: References
    lower: Array
    upper: Array
    delta: float = 1e-3

    def take(self, index: NDArray[np.intp]) -> Problem:
        """The same problem restricted to the points at an index."""
        return replace(self, points=self.points.take(index), losses=self.losses[index])

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which parameters are not fixed, shape (P,)."""
        return self.upper > self.lower

    @property
    def logs(self) -> NDArray[np.bool_]:
        """Which parameters are fitted as logarithms, shape (P,)."""
        return np.array([p.scale == "log" for p in self.law.parameters])

    def to_theta(self, values: Array) -> Array:
        """Convert natural units to fitted coordinates, shape (..., P)."""
        return np.where(self.logs, np.log(np.where(self.logs, values, 1.0)), values)

    def to_values(self, theta: Array) -> Array:
        """Convert fitted coordinates to natural units, shape (..., P)."""
        return np.where(self.logs, np.exp(np.where(self.logs, theta, 0.0)), theta)


def huber(residuals: Array, delta: float) -> Array:
    """The Huber loss (Huber 1964): half the square up to ``delta``, linear beyond.

    Args:
        residuals: Any shape.
        delta: Threshold, in the unit of the residuals.

    Returns:
        Same shape as ``residuals``.
    """
    size = np.abs(residuals)
    return np.where(size <= delta, 0.5 * residuals**2, delta * (size - 0.5 * delta))


def evaluate_with_slopes(problem: Problem, theta: Array) -> tuple[Array, Array]:
    """Evaluate a batch of parameter vectors, with slopes by the free coordinates.

    Args:
        problem: The problem.
        theta: Fitted coordinates, shape (K, P).

    Returns:
        Losses in nats per token, shape (K, M), and their slopes, shape (K, Q, M), for the Q free
        parameters in the law's order.
    """
    law = problem.law
    values = problem.to_values(theta)
    order = [p.name for p, free in zip(law.parameters, problem.free, strict=True) if free]
    numbers: dict[str, Any] = {}
    for i, parameter in enumerate(law.parameters):
        name, value = parameter.name, values[:, i : i + 1]
        slope = value if parameter.scale == "log" else 1.0
        numbers[name] = Dual(value, {name: slope}) if name in order else value
    result = law.loss(problem.points, cast(Mapping[str, Array], numbers), problem.references)
    size = len(problem.losses)
    slopes = np.zeros((len(theta), len(order), size))
    for name, slope in slopes_of(result).items():
        slopes[:, order.index(name)] = slope
    return np.broadcast_to(value_of(result), (len(theta), size)), slopes


def start_values(problem: Problem, weights: Array, n_starts: int, seed: int) -> Array:
    """Random starts for each group of weights, best first.

    All groups share the random nonlinear parameters; each group solves its own amplitudes.

    Args:
        problem: The problem.
        weights: Weights of the points, >= 0, shape (G, M). A group is one fold or one draw.
        n_starts: Number of starts S per group.
        seed: Seed of the random nonlinear parameters.

    Returns:
        Fitted coordinates, shape (G, S, P), ordered by objective within a group.
    """
    low, high = problem.to_theta(problem.lower), problem.to_theta(problem.upper)
    theta = low + (high - low) * np.random.default_rng(seed).random((n_starts, len(low)))
    result, objective = with_amplitudes(problem, theta, weights)
    order = np.argsort(objective, axis=1)
    ordered: Array = np.take_along_axis(result, order[:, :, None], axis=1)
    return ordered


def with_amplitudes(problem: Problem, theta: Array, weights: Array) -> tuple[Array, Array]:
    """Replace the amplitudes of starts by their least-squares values in each group of weights.

    Args:
        problem: The problem.
        theta: Fitted coordinates of S starts, shape (S, P); their amplitudes are ignored.
        weights: Weights of the points, >= 0, shape (G, M).

    Returns:
        Fitted coordinates, shape (G, S, P), and their objectives, shape (G, S).
    """
    amplitude = np.array([p.role == "amplitude" for p in problem.law.parameters])
    # With sizes over many decades a start may overflow. Its objective is NaN, which sorts last.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        offset, factors = _split(problem, problem.to_values(theta))
        offset, factors = offset / problem.losses, factors / problem.losses
        solved = _solve_amplitudes(
            factors, 1.0 - offset, weights, problem.lower[amplitude], problem.upper[amplitude]
        )
        shares = np.einsum("gsa,sam->gsm", solved, factors) + offset
        objective = _objective(np.log(np.maximum(shares, 1e-9)), weights[:, None], problem.delta)
    result = np.repeat(theta[None], len(weights), axis=0)
    result[:, :, amplitude] = solved
    return result, objective


def _split(problem: Problem, values: Array) -> tuple[Array, Array]:
    """Split a loss into its part without amplitudes, (S, M), and its slopes by them, (S, A, M)."""
    law = problem.law
    p: dict[str, Any] = {
        parameter.name: Dual(np.zeros((len(values), 1)), {parameter.name: 1.0})
        if parameter.role == "amplitude"
        else values[:, i : i + 1]
        for i, parameter in enumerate(law.parameters)
    }
    result = law.loss(problem.points, cast(Mapping[str, Array], p), problem.references)
    shape = (len(values), len(problem.losses))
    factors = np.zeros((len(values), len(law.amplitudes), len(problem.losses)))
    for a, name in enumerate(law.amplitudes):
        factors[:, a] = slopes_of(result).get(name, 0.0)
    return np.broadcast_to(value_of(result), shape), factors


def _objective(residuals: Array, weights: Array, delta: float) -> Array:
    total: Array = (weights * huber(residuals, delta)).sum(axis=-1)
    return total


def _solve_amplitudes(
    factors: Array, target: Array, weights: Array, lower: Array, upper: Array
) -> Array:
    """Box-constrained least squares by coordinate descent on Gram matrices, shape (G, S, A)."""
    starts, size, _ = factors.shape
    if size == 0:
        return np.zeros((len(weights), starts, 0))
    products = np.einsum("sam,sbm->sabm", factors, factors).reshape(starts, size * size, -1)
    gram = np.einsum("gm,spm->gsp", weights, products, optimize=True)
    gram = np.asarray(gram, dtype=np.float64).reshape(len(weights), starts, size, size)
    right = np.einsum("gm,sam->gsa", weights, factors * target[:, None], optimize=True)
    solved = np.zeros((len(weights), starts, size)) + np.clip(0.0, lower, upper)
    diagonal = np.maximum(np.einsum("gsaa->gsa", gram), 1e-300)
    for _ in range(SWEEPS):
        for a in range(size):
            rest = right[..., a] - (gram[..., a, :] * solved).sum(-1)
            step = solved[..., a] + rest / diagonal[..., a]
            solved[..., a] = np.clip(step, lower[a], upper[a])
    return np.asarray(solved, dtype=np.float64)


def minimise(
    problem: Problem,
    theta: Array,
    weights: Array,
    iterations: int,
    smallest_gain: float = SMALLEST_GAIN,
) -> tuple[Array, Array]:
    """Minimise the objective from a batch of starts, each with its own weights.

    The method is Levenberg-Marquardt with bounds. A row whose initial objective or derivatives are
    not finite stays as it is, with the objective infinity.

    Args:
        problem: The problem.
        theta: Starts in fitted coordinates, shape (K, P). They are moved into the bounds.
        weights: Weights of the points, >= 0, shape (K, M) or (1, M).
        iterations: Largest number of steps.
        smallest_gain: A row has converged if a step improves its objective by less than this
            fraction.

    Returns:
        Fitted coordinates, shape (K, P), and the objective of each row, shape (K,).
    """
    weights = np.broadcast_to(weights, (len(theta), len(problem.losses)))
    free = problem.free
    low, high = problem.to_theta(problem.lower), problem.to_theta(problem.upper)
    best = np.clip(theta, low, high)
    score = np.full(len(best), np.inf)
    rows = np.arange(len(best))
    damping = np.full(len(best), FIRST_DAMPING)
    hessian = np.zeros((len(best), int(free.sum()), int(free.sum())))
    gradient = np.zeros((len(best), int(free.sum())))
    score[:], hessian[:], gradient[:] = _expand(problem, best, weights)
    rows = rows[np.isfinite(score)]
    for _ in range(iterations):
        if len(rows) == 0 or not free.any():
            break
        trial = best[rows].copy()
        step = _step(
            hessian[rows], gradient[rows], damping[rows], trial[:, free], low[free], high[free]
        )
        trial[:, free] = np.clip(trial[:, free] + step, low[free], high[free])
        new_score, new_hessian, new_gradient = _expand(problem, trial, weights[rows])
        gain = score[rows] - new_score
        better = gain > 0
        accepted = rows[better]
        best[accepted], score[accepted] = trial[better], new_score[better]
        hessian[accepted], gradient[accepted] = new_hessian[better], new_gradient[better]
        done = np.where(
            better,
            (gain < smallest_gain * new_score) & (damping[rows] <= FIRST_DAMPING),
            damping[rows] > 1e8,
        ) | (score[rows] <= 1e-300)
        damping[rows] = np.where(better, np.maximum(damping[rows] * 0.2, 1e-9), damping[rows] * 5)
        rows = rows[~done]
    return best, score


def _expand(problem: Problem, theta: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Objective (K,), Gauss-Newton Hessian (K, Q, Q) and gradient (K, Q) of a batch."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        loss, slopes = evaluate_with_slopes(problem, theta)
        positive = loss > 0
        loss = np.where(positive, loss, 1.0)
        residuals = np.log(loss) - np.log(problem.losses)
        score = _objective(residuals, weights, problem.delta)
        size = np.maximum(np.abs(residuals), 1e-300)
        # The residuals are in log loss, whose slopes are slopes / loss.
        robust = weights * np.minimum(1.0, problem.delta / size) / loss
        hessian = (slopes * (robust / loss)[:, None]) @ slopes.transpose(0, 2, 1)
        gradient = (slopes @ (robust * residuals)[:, :, None])[:, :, 0]
        usable = (positive | (weights == 0)).all(1) & np.isfinite(score)
        usable &= (np.abs(hessian) < STEEPEST).all((1, 2)) & np.isfinite(gradient).all(1)
    return np.where(usable, score, np.inf), hessian, gradient


def _step(
    hessian: Array, gradient: Array, damping: Array, theta: Array, low: Array, high: Array
) -> Array:
    """Damped Newton step; 0 for a parameter on a bound whose descent direction points outward."""
    at_bound = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
    moving = (~at_bound).astype(float)
    system = hessian * moving[:, :, None] * moving[:, None, :]
    diagonal = np.einsum("kii->ki", system)
    floor = 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    index = np.arange(system.shape[1])
    damped = diagonal + damping[:, None] * np.maximum(diagonal, floor)
    system[:, index, index] = np.where(at_bound, 1.0, damped + floor)
    step: Array = -np.linalg.solve(system, (gradient * moving)[:, :, None])[:, :, 0]
    return np.where(at_bound, 0.0, step)
