"""Loss curves under nine schedules (arXiv 2503.12811): three are fitted, six predicted.

The law at the published parameters has the published errors. A refit goes on where the authors'
stopped: its objective on the training curves is 2 to 13 times lower, and yet its error on the test
curves, which is no part of any objective, is 14 to 24 % higher, most of all on the cosine of
72,000 steps, three times as long as any curve fitted. Neither another thinning nor another Huber
threshold brings the published error back. `lr-annealing`, with 3 parameters fewer, predicts two of
the three sizes better than that refit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dcpt.laws import LAWS
from dcpt.laws.bounds import references_of
from dcpt.laws.law import evaluate
from dcpt.laws.points.channel_data import ChannelData, points_from_table
from dcpt.laws.solver.minimise import huber
from dcpt.laws.solver.search import fit_law
from dcpt.table.schedules import load_schedules

DATA = Path(__file__).parent / "data" / "multi_power"
SCHEDULES = load_schedules(DATA / "schedules.yaml")
TABLE = pd.read_csv(DATA / "loss_curves.csv")

TRAINING = ("cosine_24000", "constant_24000", "wsdcon_9")
TEST = tuple(name for name in SCHEDULES if name not in TRAINING)
# Per size: L0, A, alpha, B, C, beta, gamma.
PARAMETERS = {
    25e6: (3.04045406, 0.52468604, 0.50786857, 363.78751622, 2.06560812, 0.58279013, 0.64142257),
    100e6: (2.6514477, 0.60115152, 0.45295811, 437.9464276, 2.13245612, 0.59785199, 0.65523644),
    400e6: (2.37474466, 0.65421216, 0.42878731, 523.42464371, 2.02462735, 0.59350493, 0.63472457),
}
PUBLISHED = {25e6: 0.00376, 100e6: 0.00435, 400e6: 0.00484}
"""Mean over the six test curves of the mean absolute error, nats per token."""

MEASURED = {
    "multi-power": {25e6: 0.00460, 100e6: 0.00497, 400e6: 0.00598},
    "lr-annealing": {25e6: 0.00516, 100e6: 0.00430, 400e6: 0.00520},
}
"""Test errors of our refits to all logged steps of the training curves; 0.6 and 0.01 CPU s each."""


def curves(size: float) -> ChannelData:
    mine = TABLE[TABLE["n_params"] == size]
    frame = pd.DataFrame(
        {
            "run": mine["schedule"],
            "schedule": mine["schedule"],
            "n_params": size,
            "n_tokens": mine["step"],
            "batch_tokens": 1,
            "loss_general": mine["loss"],
        }
    )
    return points_from_table(frame, "general", SCHEDULES)


def schedules_of(data: ChannelData) -> np.ndarray:
    return np.array(data.run_names)[data.runs]


def objective(data: ChannelData, predicted: np.ndarray) -> float:
    """Sum of Huber(1e-3) on log loss over all points of the training curves."""
    there = np.isin(schedules_of(data), TRAINING)
    gaps = np.log(predicted[there]) - np.log(data.losses[there])
    return float(huber(gaps, 1e-3).sum())


def error_on_test_curves(data: ChannelData, predicted: np.ndarray) -> float:
    """Mean over the test curves of the mean absolute error, nats per token."""
    gaps = pd.Series(np.abs(predicted - data.losses)).groupby(schedules_of(data)).mean()
    return float(gaps[list(TEST)].mean())


def published(size: float, data: ChannelData) -> np.ndarray:
    """Losses at the published parameters."""
    floor, a, alpha, b, c, beta, gamma = PARAMETERS[size]
    ref = references_of(data.points)
    assert ref.lr_area is not None
    assert ref.learning_rate is not None
    values = {"E": floor, "A": a * ref.lr_area**-alpha, "alpha": alpha, "beta": beta}
    values |= {"B": b * ref.learning_rate, "gamma": gamma}
    values |= {"C": c * ref.lr_area * ref.learning_rate**-gamma}
    law = LAWS["multi-power"]
    return evaluate(law, data.points, np.array([values[name] for name in law.names]), ref)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedules_are_those_that_were_logged(name: str) -> None:
    mine = TABLE[TABLE["schedule"] == name]
    rates = np.concatenate([[0.0], SCHEDULES[name].curve().rates])
    assert rates[mine["step"]] == pytest.approx(mine["learning_rate"].to_numpy(), abs=1e-15)


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_published_parameters_have_the_published_error(size: float) -> None:
    data = curves(size)
    assert round(error_on_test_curves(data, published(size, data)), 5) == PUBLISHED[size]


@pytest.mark.parametrize("size", PUBLISHED)
@pytest.mark.parametrize("name", MEASURED)
def test_a_refit_on_three_curves_predicts_six_others(name: str, size: float) -> None:
    data = curves(size)
    found = fit_law(LAWS[name], data.take(np.isin(schedules_of(data), TRAINING)))
    predicted = found.predict(data.points)
    assert objective(data, predicted) < objective(data, published(size, data))
    assert error_on_test_curves(data, predicted) < 1.02 * MEASURED[name][size]
