"""The fitter: every start, fold or draw is one row of a batch of bounded Levenberg-Marquardt.

It minimises the sum of Huber(delta) on log-loss residuals over amplitudes and (mostly logarithms
of) non-linear parameters. Starts solve the amplitudes by box-constrained least squares given random
non-linear values (variable projection). It knows no law by name.
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
"""Coordinate-descent passes for the amplitudes of a start; starts need no more."""

SMALLEST_GAIN = 1e-7
"""A row whose objective gains less than this share of itself has converged."""

FIRST_DAMPING = 1e-2

STEEPEST = 1e200
"""A curvature beyond this overflows in the next step: such a row is not followed."""


@dataclass(frozen=True)
class Problem:
    """One law on one set of points, with the box its parameters live in.

    Args:
        law: The law.
        points: M points.
        losses: Shape (M,), nats per token.
        references: Scales of the formula.
        lower: Lower bounds in the law's order, shape (P,), natural units.
        upper: Upper bounds, shape (P,). Equal to ``lower`` where a parameter is held.
        delta: Where Huber's function turns linear, in log loss.
    """

    law: Law
    points: Points
    losses: Array
    references: References
    lower: Array
    upper: Array
    delta: float = 1e-3

    def take(self, index: NDArray[np.intp]) -> Problem:
        """The same problem on some of its points."""
        return replace(self, points=self.points.take(index), losses=self.losses[index])

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which parameters are fitted, shape (P,)."""
        return self.upper > self.lower

    @property
    def logs(self) -> NDArray[np.bool_]:
        """Which parameters are fitted as logarithms, shape (P,)."""
        return np.array([p.scale == "log" for p in self.law.parameters])

    def to_theta(self, values: Array) -> Array:
        """Natural values to fitted coordinates, shape (..., P)."""
        return np.where(self.logs, np.log(np.where(self.logs, values, 1.0)), values)

    def to_values(self, theta: Array) -> Array:
        """Fitted coordinates to natural values, shape (..., P)."""
        return np.where(self.logs, np.exp(np.where(self.logs, theta, 0.0)), theta)


def huber(residuals: Array, delta: float) -> Array:
    """Huber's function: half the square up to ``delta``, linear beyond."""
    size = np.abs(residuals)
    return np.where(size <= delta, 0.5 * residuals**2, delta * (size - 0.5 * delta))


def evaluate_with_slopes(problem: Problem, theta: Array) -> tuple[Array, Array]:
    """Losses of a batch and their slopes by the free coordinates.

    Args:
        problem: The problem.
        theta: Fitted coordinates, shape (K, P).

    Returns:
        Losses, shape (K, M), and slopes, shape (K, Q, M) for Q free parameters in order.
    """
    law = problem.law
    values = problem.to_values(theta)
    order = [p.name for p, free in zip(law.parameters, problem.free, strict=True) if free]
    numbers: dict[str, Any] = {}
    for i, parameter in enumerate(law.parameters):
        value = values[:, i : i + 1]
        slope = value if parameter.scale == "log" else 1.0
        numbers[parameter.name] = (
            Dual(value, {parameter.name: slope}) if parameter.name in order else value
        )
    result = law.loss(problem.points, cast(Mapping[str, Array], numbers), problem.references)
    size = len(problem.losses)
    slopes = np.zeros((len(theta), len(order), size))
    for name, slope in slopes_of(result).items():
        slopes[:, order.index(name)] = slope
    return np.broadcast_to(value_of(result), (len(theta), size)), slopes


def start_values(problem: Problem, weights: Array, n_starts: int, seed: int) -> Array:
    """Starting points for groups of weights, best first.

    Random non-linear values are shared by the groups; each group solves its own amplitudes.

    Args:
        problem: The problem.
        weights: Shape (G, M), >= 0; one group is one fold or one draw.
        n_starts: Random non-linear values, S.
        seed: Of the random values.

    Returns:
        Fitted coordinates, shape (G, S, P), ordered by objective within a group.
    """
    law = problem.law
    amplitude = np.array([p.role == "amplitude" for p in law.parameters])
    low, high = problem.to_theta(problem.lower), problem.to_theta(problem.upper)
    theta = low + (high - low) * np.random.default_rng(seed).random((n_starts, len(low)))
    values = problem.to_values(theta)
    # A start may overflow over many decades of size; it then sorts last, as not a number.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        offset, factors = _split(problem, values)
        offset, factors = offset / problem.losses, factors / problem.losses
        solved = _solve_amplitudes(
            factors, 1.0 - offset, weights, problem.lower[amplitude], problem.upper[amplitude]
        )
        shares = np.einsum("gsa,sam->gsm", solved, factors) + offset
        objective = _objective(np.log(np.maximum(shares, 1e-9)), weights[:, None], problem.delta)
    result = np.repeat(theta[None], len(weights), axis=0)
    result[:, :, amplitude] = solved
    order = np.argsort(objective, axis=1)
    ordered: Array = np.take_along_axis(result, order[:, :, None], axis=1)
    return ordered


def _split(problem: Problem, values: Array) -> tuple[Array, Array]:
    """The loss without its amplitudes, (S, M), and its slope by each of them, (S, A, M)."""
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
    """Improve a batch of parameter vectors, each under its own weights.

    Args:
        problem: The problem.
        theta: Fitted coordinates, shape (K, P).
        weights: Shape (K, M) or (1, M), >= 0.
        iterations: At most this many steps.
        smallest_gain: Relative gain below which a row is done.

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
    """Objective (K,), curvature (K, Q, Q) and gradient (K, Q) of a batch."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        loss, slopes = evaluate_with_slopes(problem, theta)
        positive = loss > 0
        loss = np.where(positive, loss, 1.0)
        residuals = np.log(loss) - np.log(problem.losses)
        score = _objective(residuals, weights, problem.delta)
        size = np.maximum(np.abs(residuals), 1e-300)
        # Slopes are of the loss; those of its logarithm are slopes / loss.
        robust = weights * np.minimum(1.0, problem.delta / size) / loss
        hessian = (slopes * (robust / loss)[:, None]) @ slopes.transpose(0, 2, 1)
        gradient = (slopes @ (robust * residuals)[:, :, None])[:, :, 0]
        usable = (positive | (weights == 0)).all(1) & np.isfinite(score)
        usable &= (np.abs(hessian) < STEEPEST).all((1, 2)) & np.isfinite(gradient).all(1)
    return np.where(usable, score, np.inf), hessian, gradient


def _step(
    hessian: Array, gradient: Array, damping: Array, theta: Array, low: Array, high: Array
) -> Array:
    """Damped Newton step; parameters on a bound with the gradient outward stay where they are."""
    held = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
    moving = (~held).astype(float)
    system = hessian * moving[:, :, None] * moving[:, None, :]
    diagonal = np.einsum("kii->ki", system)
    floor = 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    index = np.arange(system.shape[1])
    damped = diagonal + damping[:, None] * np.maximum(diagonal, floor)
    system[:, index, index] = np.where(held, 1.0, damped + floor)
    step: Array = -np.linalg.solve(system, (gradient * moving)[:, :, None])[:, :, 0]
    return np.where(held, 0.0, step)
