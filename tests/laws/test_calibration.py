"""Coverage of intervals on 20 synthetic tables: two laws, 200 draws (more in experiments/)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from dcpt import fit
from dcpt.laws import LAWS, References
from dcpt.laws.synthetic import Truth, simulate_runs

pytestmark = pytest.mark.long

SIZES = {1.8e6: 3.4, 6.6e6: 3.1, 29.1e6: 2.9}
RUN_NOISE, POINT_NOISE = 0.005, 0.002
LAWS_FITTED = ["anchored-general", "d-cpt"]
N_TABLES = 20
PLACES = pd.DataFrame(
    {
        "n_params": [29.1e6, 58.2e6, 29.1e6],
        "n_tokens": [40e6, 40e6, 80e6],
        "ratio": [0.6, 0.5, 0.4],
        "base_loss_general": [2.9, 2.8, 2.9],
    }
)


def with_base(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(
        learning_rate=6e-4, base_n_tokens=120_000_000, warmup_tokens=409_600, phase="constant"
    )


def design() -> pd.DataFrame:
    rows = [
        {"run": f"{size:g}-{ratio}", "n_params": round(size), "ratio": ratio}
        | {"n_tokens": round(tokens), "base_loss_general": loss}
        for size, loss in SIZES.items()
        for ratio in (0.1, 0.25, 0.5, 0.75, 0.9)
        for tokens in np.geomspace(1.2e6, 40e6, 8)
    ]
    return with_base(pd.DataFrame(rows))


def random_truth(seed: int) -> Truth:
    rng = np.random.default_rng(seed)
    values = {"H": rng.uniform(0, 0.05), "F": rng.uniform(0.02, 0.3), "C": rng.uniform(0.06, 0.18)}
    values |= {"nu": rng.uniform(-0.1, 0.3), "g": rng.uniform(0.4, 0.8), "eps": 0.04}
    values |= {"h": rng.uniform(0.1, 0.4), "m": rng.uniform(-0.1, 0.1)}
    return Truth(LAWS["anchored-general"], values, References(6.6e6, 1e7, 6e-4))


@pytest.fixture(scope="module")
def answers() -> pd.DataFrame:
    """For each table and place, the loss that a new run would measure, and its interval."""
    parts = []
    for seed in range(N_TABLES):
        truth = random_truth(seed)
        runs = simulate_runs(
            design(),
            {"general": truth},
            run_noise=RUN_NOISE,
            point_noise=POINT_NOISE,
            seed=seed,
        )
        question = with_base(PLACES)
        answer = fit(runs, LAWS_FITTED, seed=seed).predict(question)
        noise = np.random.default_rng([seed, 9]).normal(
            0, np.hypot(RUN_NOISE, POINT_NOISE), len(question)
        )
        measured = truth.losses(question, "general") + noise
        parts.append(answer.assign(measured=measured, table=seed))
    return pd.concat(parts, ignore_index=True)


def test_90_per_cent_intervals_contain_the_losses_of_new_runs(answers: pd.DataFrame) -> None:
    inside = answers["measured"].between(answers["low"], answers["high"])
    # 60 answers: at a coverage of 90 % fewer than this occur once in a thousand times.
    assert inside.sum() >= binom.ppf(0.001, len(answers), 0.9)
    per_table = inside.groupby(answers["table"]).mean()
    assert (per_table == 0).sum() == 0


def test_intervals_are_not_too_wide(answers: pd.DataFrame) -> None:
    ideal = 2 * 1.645 * np.hypot(RUN_NOISE, POINT_NOISE)
    width = (answers["high"] - answers["low"]).median()
    assert ideal * 0.8 < width < ideal * 2
