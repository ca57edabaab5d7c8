"""The core of ``experiments/cross_domain.py`` on losses whose law is known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
TRUTH = np.log([0.8, 0.4, 0.3, 0.7, 0.3, 0.4, 0.2, 0.5, 0.1, 0.3, 1.0, 0.1])
LARGEST = 0.05
K1 = np.array([4.0, 5.0, 6.5, 8.0, 5.6])
K2 = np.array([0.5, 1.2, 1.0, 2.2, 1.1])


@pytest.fixture(scope="module")
def experiment() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
        import cross_domain
    return cross_domain


@pytest.fixture(scope="module")
def law(experiment: Any) -> Any:
    return sys.modules[experiment.predict_last.__module__]


@pytest.mark.parametrize("sign", [0, 1, -1])
def test_the_law_with_the_true_sign_predicts_a_domain_that_was_left_out(
    experiment: Any, law: Any, sign: int
) -> None:
    losses = law.law(TRUTH, K1, K2, sign, LARGEST)
    mean = losses[:-1].mean(axis=0)
    predicted = law.predict_last(losses[:-1], np.ones(4), K1, K2, sign)
    assert experiment.rmse(predicted - losses[-1]) < 0.005 < experiment.rmse(mean - losses[-1])


@pytest.mark.parametrize("sign", [1, -1])
def test_the_other_sign_predicts_it_worse(experiment: Any, law: Any, sign: int) -> None:
    losses = law.law(TRUTH, K1, K2, sign, LARGEST)
    true, other = (law.predict_last(losses[:-1], np.ones(4), K1, K2, of) for of in (sign, -sign))
    assert experiment.rmse(other - losses[-1]) > 3 * experiment.rmse(true - losses[-1])


def test_a_domain_of_the_same_shape_is_predicted_by_a_shift(experiment: Any, law: Any) -> None:
    losses = law.law(TRUTH, K1, K2, 1, LARGEST)
    *others, new = [
        experiment.Curves(str(k1), str(k1), 3e-4, np.full(3, k1), of)
        for k1, of in zip(K1, losses, strict=True)
    ]
    assert experiment.others_shifted(new, others) == pytest.approx(new.losses)


def test_two_tables_of_a_domain_count_as_one_domain(experiment: Any) -> None:
    levels = (("x", 1.0), ("x", 3.0), ("y", 6.0))
    curves = [
        experiment.Curves(domain, domain, 3e-4, np.ones(3), np.full((3, 4, 5), level))
        for domain, level in levels
    ]
    curves[0].losses[0, 0, 0] = np.nan
    mean = experiment.mean_of(curves)
    assert mean[1, 1, 1] == pytest.approx(4)
    assert mean[0, 0, 0] == pytest.approx(4.5)


def test_shares_are_read_or_interpolated_and_never_extrapolated(experiment: Any) -> None:
    tokens = np.array([0, 1e6, 2e6, 4e6, 8e6])
    runs = pd.DataFrame(
        [
            {"run": f"{share}", "ratio": share, "n_tokens": at, "loss_domain": 3 - share}
            for share in (0.3, 0.5, 0.6, 0.8)
            for at in tokens
        ]
    )
    found = experiment.at_shares(runs)
    assert found[1, :4] == pytest.approx(2.5)
    assert found[2, :4] == pytest.approx(2.25)
    assert np.isnan(found[[0, 3]]).all()
    assert np.isnan(found[:, 4]).all()
