"""The tables and the tools of ``fit.py``: dcpt's solver and common fitters of scaling laws."""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.environ["MPLBACKEND"] = "Agg"

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import curve_fit, least_squares, minimize

from dcpt.laws.formulas import LAWS
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.record import Points
from dcpt.laws.solver.search import N_STARTS, fit_law

Array = NDArray[np.float64]
Axes = tuple[Array, Array, Array]
DELTA = 1e-3
NOISE = 0.003
ABOVE = 1e-3
"""A tool fails if its objective is above the best objective by more than this fraction."""

NONSENSE = 10.0
"""An objective this many times the best is nonsense."""

SENSIBLE = {"E": 1.5, "A": 0.3, "alpha": 0.3, "B": 0.3, "beta": 0.3}
SENSIBLE |= {"eta": 1.0, "C": 0.2, "eps": 0.05, "gamma": 0.5}
"""A sensible start for n = N/N_ref and d = D/D_ref."""


@dataclass(frozen=True)
class Table:
    """A synthetic table: its law, its points, and the losses with and without noise."""

    law: str
    n_params: Array
    n_tokens: Array
    ratio: Array
    truth: Array
    losses: Array

    @property
    def names(self) -> list[str]:
        """The law's parameters: E, A, alpha, B, beta and for L3 eta, C, eps, gamma."""
        return list(LAWS[self.law].names)

    @property
    def scaled(self) -> Axes:
        """N and D divided by their geometric medians, and the ratio."""
        n, d = (v / np.exp(np.median(np.log(v))) for v in (self.n_params, self.n_tokens))
        return n, d, self.ratio

    @property
    def counts(self) -> Axes:
        """N, D and the ratio without scaling."""
        return self.n_params, self.n_tokens, self.ratio

    @property
    def box(self) -> tuple[Array, Array]:
        """The law's bounds; lower bounds are at least 1e-8, so that they have logarithms."""
        bounds = {p.name: (p.lower, p.upper) for p in LAWS[self.law].parameters}
        low, high = np.array([bounds[name] for name in self.names]).T
        return np.maximum(low, 1e-8), high

    @property
    def data(self) -> ChannelData:
        """The table as dcpt reads it; a run is a size at a ratio."""
        pairs = np.stack([self.n_params, self.ratio])
        names, runs = np.unique(pairs, axis=1, return_inverse=True)
        return ChannelData(
            channel="domain",
            side="domain",
            points=points_at(self.n_params, self.n_tokens, self.ratio),
            losses=self.losses,
            runs=runs.ravel().astype(np.intp),
            run_names=tuple(str(i) for i in range(names.shape[1])),
            rows=np.arange(len(self.losses), dtype=np.intp) + 2,
        )


def points_at(n_params: Array, n_tokens: Array, ratio: Array) -> Points:
    """Make points of the domain channel at constant learning rate."""
    return Points(
        n_params=n_params,
        n_tokens=n_tokens,
        share=ratio,
        ratio=ratio,
        annealed=np.zeros(len(ratio)),
    )


def formula(
    axes: Axes,
    E: float,
    A: float,
    alpha: float,
    B: float,
    beta: float,
    eta: float = 0.0,
    C: float = 0.0,
    eps: float = 1.0,
    gamma: float = 1.0,
) -> Array:
    """Compute L3, or Chinchilla's law without the last four parameters."""
    n, d, r = axes
    return E + A * n**-alpha + B * r**eta * d**-beta + C * (r + eps) ** -gamma


def log_slopes(axes: Axes, values: Array) -> Array:
    """Compute derivatives of the losses by the logarithms of all parameters, shape (M, P)."""
    n, d, r = axes
    E, A, alpha, B, beta = values[:5]
    eta, C, eps, gamma = values[5:] if len(values) > 5 else (0.0, 0.0, 1.0, 1.0)
    size, tokens = A * n**-alpha, B * r**eta * d**-beta
    slopes = [E + 0 * n, size, -alpha * np.log(n) * size, tokens, -beta * np.log(d) * tokens]
    if len(values) > 5:
        share, cost = r + eps, C * (r + eps) ** -gamma
        slopes += [eta * np.log(r) * tokens, cost, -gamma * eps / share * cost]
        slopes += [-gamma * np.log(share) * cost]
    return np.stack(slopes, axis=1)


def objective(predicted: Array, losses: Array) -> float:
    """Sum Huber(1e-3) over log-loss residuals; infinite if a prediction is not a valid loss."""
    if not (np.isfinite(predicted) & (predicted > 0)).all():
        return float("inf")
    size = np.abs(np.log(predicted / losses))
    return float(np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA)).sum())


def plant(law: str, seed: int, n_params: Array, n_tokens: Array, ratio: Array) -> Table:
    """Make losses of a random law on a grid, with noise."""
    rng = np.random.default_rng(seed)
    n, r, d = (v.ravel() for v in np.meshgrid(n_params, ratio, n_tokens, indexing="ij"))
    if law == "chinchilla":
        E, a, b = rng.uniform(1.2, 2.0), rng.uniform(4.5, 8.0), rng.uniform(4.5, 8.0)
        alpha, beta = rng.uniform(0.26, 0.42, 2)
        truth = formula((n, d, r), E, np.exp(a), alpha, np.exp(b), beta)
    else:
        E, eta = rng.uniform(1.0, 2.0, 2)
        A, B = rng.uniform(0.1, 0.6, 2)
        alpha, beta = rng.uniform(0.2, 0.6, 2)
        C, gamma, eps = rng.uniform(0.05, 0.4), rng.uniform(0.3, 1.2), rng.uniform(0.01, 0.1)
        axes = (n / 5e8, d / 5e9, r)
        truth = formula(axes, E, A, alpha, B, beta, eta, C, eps, gamma)
    return Table(law, n, d, r, truth, truth * np.exp(rng.normal(0.0, NOISE, len(truth))))


def plant_d_cpt(seed: int) -> Table:
    sizes, tokens = np.geomspace(1e8, 4e9, 5), np.geomspace(1e9, 3e10, 6)
    return plant("d-cpt", seed, sizes, tokens, np.linspace(0.1, 0.9, 9))


def plant_chinchilla(seed: int) -> Table:
    sizes, tokens = np.geomspace(5e7, 5e9, 15), np.geomspace(1e9, 2e11, 16)
    return plant("chinchilla", seed, sizes, tokens, np.ones(1))


def plant_large(seed: int) -> Table:
    sizes, tokens = np.geomspace(1e8, 4e9, 10), np.geomspace(1e9, 3e10, 1000)
    return plant("d-cpt", seed, sizes, tokens, np.linspace(0.1, 0.9, 10))


TABLES = {"d-cpt": plant_d_cpt, "chinchilla": plant_chinchilla}


@dataclass
class Outcome:
    """Predictions of a tool at the table's points, and the progress of a multi-start."""

    predicted: Array
    trace: list[tuple[float, float]] = field(default_factory=list)
    """CPU seconds and the lowest objective so far, after each start."""


def fit_ours(table: Table, seed: int, n_starts: int = N_STARTS) -> Outcome:
    data = table.data
    fitted = fit_law(LAWS[table.law], data, n_starts=n_starts, seed=seed)
    return Outcome(fitted.predict(data.points))


def random_starts(table: Table, n_starts: int, seed: int, counts: bool = False) -> Array:
    """Draw logarithms of random parameters, shape (n_starts, P)."""
    sides = dict(zip(table.names, np.log(table.box).T, strict=True))
    sides |= {"E": np.log([0.3, 3.0])}
    sides |= {name: np.log([0.01, 3.0]) for name in ("A", "B", "C") if name in sides}
    if counts:
        sides |= dict.fromkeys(("A", "B"), np.array([0.0, 25.0]))
        sides |= dict.fromkeys(("alpha", "beta"), np.log([0.1, 2.0]))
    low, high = np.array(list(sides.values())).T
    starts: Array = low + (high - low) * np.random.default_rng(seed).random((n_starts, len(low)))
    return starts


def from_starts(
    table: Table, axes: Axes, starts: Array, solve: Callable[[Array], Array]
) -> Outcome:
    """Solve from all starts and return the best end; parameters are logarithms."""
    began, lowest, best, trace = time.process_time(), np.inf, starts[0], []
    for start in starts:
        end = solve(start)
        reached = objective(formula(axes, *np.exp(end)), table.losses)
        if reached < lowest:
            lowest, best = reached, end
        trace.append((time.process_time() - began, lowest))
    return Outcome(formula(axes, *np.exp(best)), trace)


def fit_l_bfgs(table: Table, seed: int, analytic: bool, kind: bool) -> Outcome:
    axes, log_y = table.scaled if kind else table.counts, np.log(table.losses)
    scale = DELTA**-2 if kind else 1.0
    bounds = np.log(table.box).T if kind else None

    def value(theta: Array) -> float:
        return scale * objective(formula(axes, *np.exp(theta)), table.losses)

    def value_and_gradient(theta: Array) -> tuple[float, Array]:
        values = np.exp(theta)
        predicted = formula(axes, *values)
        pull = np.clip(np.log(predicted) - log_y, -DELTA, DELTA) / predicted
        total = scale * objective(predicted, table.losses)
        return total, scale * (pull @ log_slopes(axes, values))

    def solve(start: Array) -> Array:
        function = value_and_gradient if analytic else value
        found = minimize(function, start, method="L-BFGS-B", jac=analytic or None, bounds=bounds)
        return np.asarray(found.x)

    return from_starts(table, axes, random_starts(table, 200, seed, counts=not kind), solve)


def fit_trf(table: Table, seed: int) -> Outcome:
    axes, log_y, box = table.scaled, np.log(table.losses), np.log(table.box)

    def residuals(theta: Array) -> Array:
        return np.log(formula(axes, *np.exp(theta))) - log_y

    def jacobian(theta: Array) -> Array:
        values = np.exp(theta)
        return log_slopes(axes, values) / formula(axes, *values)[:, None]

    def solve(start: Array) -> Array:
        options = {"bounds": box, "loss": "huber", "f_scale": DELTA}
        return np.asarray(least_squares(residuals, start, jacobian, **options).x)

    return from_starts(table, axes, random_starts(table, 16, seed), solve)


def fit_curve_fit_default(table: Table, seed: int) -> Outcome:
    begin = np.ones(len(table.names))  # scipy's default; the formula serves two laws
    values, _ = curve_fit(formula, table.counts, table.losses, p0=begin)
    return Outcome(formula(table.counts, *values))


def fit_curve_fit(table: Table, seed: int) -> Outcome:
    def log_loss(axes: Axes, *values: float) -> Array:
        return np.log(formula(axes, *values))

    options = {"bounds": table.box, "loss": "huber", "f_scale": DELTA}
    begin = [SENSIBLE[name] for name in table.names]
    values, _ = curve_fit(log_loss, table.scaled, np.log(table.losses), begin, **options)
    return Outcome(formula(table.scaled, *values))


def fit_lmfit(table: Table, seed: int) -> Outcome:
    import lmfit

    def residuals(parameters: Any) -> Array:
        return np.log(formula(table.scaled, **parameters.valuesdict()) / table.losses)

    parameters = lmfit.Parameters()
    for name, low, high in zip(table.names, *table.box, strict=True):
        parameters.add(name, SENSIBLE[name], min=low, max=high)
    options = {"method": "least_squares", "loss": "huber", "f_scale": DELTA}
    found = lmfit.minimize(residuals, parameters, **options)
    return Outcome(formula(table.scaled, **found.params.valuesdict()))


def fit_chinchilla(table: Table, seed: int) -> Outcome:
    """Fit with the grid of the package's README and its Huber loss, which is not its default."""
    from chinchilla import Chinchilla
    from chinchilla._metrics import log_huber

    grid = {"E": np.linspace(1, 2, 5)} | dict.fromkeys(("a", "b"), np.linspace(1, 10, 5))
    grid |= dict.fromkeys(("alpha", "beta"), np.linspace(0.1, 0.7, 5))
    runs = {"N": table.n_params, "D": table.n_tokens, "loss": table.losses}
    runs["C"] = 6 * table.n_params * table.n_tokens
    loss = partial(log_huber, delta=DELTA)
    with tempfile.TemporaryDirectory() as folder:
        pd.DataFrame(runs).to_csv(Path(folder) / "df.csv", index=False)
        fitter = Chinchilla(folder, param_grid=grid, loss_fn=loss, log_level=100)
        fitter.fit(parallel=False)
    return Outcome(formula(table.counts, **fitter.params))


def l_bfgs(analytic: bool, kind: bool) -> tuple[str, Callable[[Table, int], Outcome]]:
    words = f"L-BFGS-B{', kind' * kind}, {'analytic' if analytic else 'numeric'} gradient"
    return f"{words}, 200 starts", partial(fit_l_bfgs, analytic=analytic, kind=kind)


TOOLS: dict[str, tuple[str, Callable[[Table, int], Outcome]]] = {
    "ours": ("**dcpt**, 64 starts", partial(fit_ours, n_starts=64)),
    "ours-default": ("**dcpt**, starts of `dcpt fit`", fit_ours),
    "trf": ("scipy least_squares (TRF), analytic, 16 starts", fit_trf),
    "l-bfgs-kind": l_bfgs(analytic=True, kind=True),
    "l-bfgs-kind-numeric": l_bfgs(analytic=False, kind=True),
    "l-bfgs": l_bfgs(analytic=True, kind=False),
    "l-bfgs-numeric": l_bfgs(analytic=False, kind=False),
    "lmfit": ("`lmfit`, a sensible start", fit_lmfit),
    "curve-fit": ("scipy curve_fit, a sensible start", fit_curve_fit),
    "curve-fit-default": ("scipy curve_fit, its default start", fit_curve_fit_default),
    "chinchilla": ("`chinchilla`, grid of its README, 3125 starts", fit_chinchilla),
}
