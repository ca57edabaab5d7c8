"""Runs in which each size has a single learning rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dcpt import Limit, Target, bundled_runs, fit, recommend
from dcpt.errors import InputError
from dcpt.laws.points.rate_rule import rate_rule

SIZES, RATES = np.array([1e6, 4e6, 16e6]), np.array([8e-4, 4e-4, 2e-4])


def confounded_ladder() -> pd.DataFrame:
    """The pilot code runs at 0.3 of each base model's peak rate: 9e-4, 6e-4 and 3e-4."""
    runs = bundled_runs("code")
    return runs[runs["learning_rate"] < 0.5 * runs["base_peak_learning_rate"]]


def test_the_rule_is_exact_at_the_sizes_of_the_runs_and_a_power_law_elsewhere() -> None:
    rule = rate_rule(np.repeat(SIZES, 3), np.repeat(RATES, 3))
    assert rule is not None
    assert rule.at(np.array([4e6, 64e6])) == pytest.approx([4e-4, 1e-4])


def test_rates_far_from_the_rule_do_not_follow_it() -> None:
    rule = rate_rule(SIZES, RATES)
    assert rule is not None
    sizes = np.array([4e6, 4e6, 64e6, 64e6])
    assert rule.holds(sizes, np.array([4e-4, 3.8e-4, 1.3e-4, 2e-4])).tolist() == [True, False] * 2


def test_no_rule_where_rates_do_not_follow_sizes() -> None:
    assert rate_rule(SIZES, np.full(3, 4e-4)) is None
    assert rate_rule(np.array([1e6, 4e6, 4e6]), RATES) is None


def test_laws_without_a_rate_predict_only_along_the_rule() -> None:
    found = fit(confounded_ladder(), law=["anchored-general", "anchored-domain"], n_draws=20)
    question = {"n_params": 91e6, "n_tokens": 3e7, "ratio": 0.5, "base_loss_general": 2.6}
    question |= {"base_loss_domain": 1.9, "base_n_tokens": 120e6}
    along = found.predict(**question, learning_rate=2e-4)
    assert np.isfinite(along["loss"]).all()
    with pytest.raises(InputError, match="followed the size in the runs"):
        found.predict(**question, learning_rate=9e-4)


@pytest.mark.long
def test_the_decision_follows_the_rule_and_warns() -> None:
    found = fit(confounded_ladder(), n_draws=20)
    target = Target(
        n_params=91e6,
        n_tokens=3e7,
        limit=Limit.parse("+5%"),
        base_losses={"general": 2.6, "domain": 1.9},
        base_peak_learning_rate=8e-4,
        base_n_tokens=120e6,
    )
    answer = recommend(found, target)
    assert answer.best is not None
    assert answer.best.learning_rate == pytest.approx(2.1e-4, rel=0.1)
    assert "learning_rate_by_rule" in [flag.kind for flag in answer.flags]
