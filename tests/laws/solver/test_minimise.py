"""The solver: enough starts for the optimum, converged bootstrap draws, very many points."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dcpt import fit
from dcpt.laws import LAWS, Points
from dcpt.laws.fits.draws import draw_run_weights, refit
from dcpt.laws.fits.fit_channel import MOST_DRAWN
from dcpt.laws.law import evaluate
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.solver.minimise import minimise
from dcpt.laws.solver.search import fit_law


def d_cpt_points(seed: int, sizes: int = 5, tokens: int = 6, ratios: int = 9) -> ChannelData:
    """Synthetic losses of D-CPT L3: sizes x ratios runs of ``tokens`` points, noise 0.3 %."""
    rng = np.random.default_rng(seed)
    axes = (np.geomspace(1e8, 4e9, sizes), np.linspace(0.1, 0.9, ratios))
    n, r, d = (
        a.ravel() for a in np.meshgrid(*axes, np.geomspace(1e9, 3e10, tokens), indexing="ij")
    )
    low = np.array([1.0, 0.1, 0.2, 0.1, 0.2, 1.0, 0.05, 0.01, 0.3])
    high = np.array([2.0, 0.6, 0.6, 0.6, 0.6, 2.0, 0.4, 0.1, 1.2])
    e, a, alpha, b, beta, eta, c, eps, gamma = rng.uniform(low, high)
    loss = e + a * (n / 5e8) ** -alpha + b * r**eta * (d / 5e9) ** -beta + c * (r + eps) ** -gamma
    runs = np.repeat(np.arange(sizes * ratios), tokens).astype(np.intp)
    points = Points(n_params=n, n_tokens=d, share=r, ratio=r, annealed=np.zeros(len(n)))
    return ChannelData(
        channel="domain",
        side="domain",
        points=points,
        losses=loss * np.exp(rng.normal(0, 0.003, len(n))),
        runs=runs,
        run_names=tuple(str(i) for i in range(sizes * ratios)),
        rows=np.arange(len(n), dtype=np.intp) + 2,
    )


@pytest.mark.parametrize("seed", range(20))
def test_64_starts_reach_the_objective_of_400(seed: int) -> None:
    data = d_cpt_points(seed)
    few = fit_law(LAWS["d-cpt"], data, n_starts=64, seed=seed)
    many = fit_law(LAWS["d-cpt"], data, n_starts=400, seed=100 + seed)
    assert few.objective <= many.objective * 1.001


@pytest.mark.parametrize("seed", [0, 3])
def test_limits_of_draws_are_those_of_full_convergence(seed: int) -> None:
    """The mean difference over the points is less than 10 % of the width of the interval."""
    data = d_cpt_points(seed)
    found = fit_law(LAWS["d-cpt"], data, n_starts=64)
    weights = draw_run_weights(300, len(data.run_names), seed=0)
    draws = refit(found, weights)
    problem = found.problem
    converged, _ = minimise(problem, problem.to_theta(draws), weights[:, data.runs], 500, 1e-12)
    limits = [
        np.quantile(
            evaluate(found.law, data.points, values, found.references), [0.05, 0.95], axis=0
        )
        for values in (draws, problem.to_values(converged))
    ]
    width = np.diff(limits[1], axis=0)
    assert (np.abs(limits[0] - limits[1]) / width).mean() < 0.1


def test_a_fit_of_very_many_points_agrees_with_a_fit_of_few() -> None:
    """30,000 points: a random part selects among the starts, and all points are fitted."""
    data = d_cpt_points(1, sizes=5, tokens=600, ratios=10)
    found = fit_law(LAWS["d-cpt"], data, n_starts=64)
    few_points = d_cpt_points(1)
    few = fit_law(LAWS["d-cpt"], few_points, n_starts=64)
    assert found.predict(few_points.points) == pytest.approx(
        few.predict(few_points.points), abs=0.004
    )
    assert found.objective / len(data.losses) == pytest.approx(
        few.objective / len(few_points.losses), rel=0.2
    )


def test_a_fit_of_very_many_points_warns_that_draws_use_a_part() -> None:
    data = d_cpt_points(2, sizes=5, tokens=250, ratios=10)
    table = pd.DataFrame(
        {
            "run": data.runs.astype(str),
            "n_params": data.points.get("n_params").round(),
            "n_tokens": data.points.get("n_tokens").round(),
            "ratio": data.points.get("ratio"),
            "loss_domain": data.losses,
        }
    )
    found = fit(table, "d-cpt", n_draws=5)
    assert found.records()[0]["n_points"] == len(table)
    assert len(found.residuals()) == MOST_DRAWN
    assert "drawn_from_part (domain)" in {flag.label for flag in found.flags}
