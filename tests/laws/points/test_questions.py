"""Prediction requests are checked by the rules of the runs table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dcpt.errors import InputError
from dcpt.laws.points.questions import check_question


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("n_params", 7, "n_params 7 is below 1,000"),
        ("n_params", 350, "350 looks like 350M, which is written 350000000"),
        ("n_tokens", -5, "n_tokens -5 is not a whole count from 0"),
        ("ratio", 50, "50 % is written 0.5"),
        ("ratio", -0.1, "ratio -0.1 lies outside 0..1"),
        ("learning_rate", 0, "learning_rate 0 is not a learning rate in (0, 1]"),
        ("base_peak_learning_rate", 3, "base_peak_learning_rate 3 is not a learning rate"),
        ("base_loss", 0, "base_loss 0 is not a loss > 0"),
        ("base_loss_general", 25, "is it a perplexity"),
        ("n_tokens", np.inf, "n_tokens inf is not a finite number; correct it"),
        ("ratio", "half", "predict needs numbers in ratio"),
        ("phase", "end", "phase 'end' cannot be predicted"),
    ],
)
def test_invalid_requests_are_refused(column: str, value: object, expected: str) -> None:
    frame = pd.DataFrame({"n_params": [1e6], "n_tokens": [1e7]} | {column: [value]})
    with pytest.raises(InputError) as caught:
        check_question(frame)
    (problem,) = caught.value.problems
    assert expected in problem


def test_valid_requests_pass() -> None:
    tokens = np.geomspace(1e6, 1e8, 7)  # a curve over tokens may be fractional
    ratios = [0, 1, 0.5, np.nan, 0.1, 0.2, 0.3]
    frame = pd.DataFrame({"n_params": 1000, "n_tokens": tokens, "ratio": ratios})
    check_question(frame.assign(learning_rate=1.0, phase="annealed", base_loss=19.9, mine="x"))
    check_question(pd.DataFrame({"n_tokens": []}))


def test_rows_that_break_the_same_rule_are_a_single_problem() -> None:
    frame = pd.DataFrame({"n_tokens": 1e6, "ratio": [0.5, 20, 30, 40], "learning_rate": 2})
    with pytest.raises(InputError) as caught:
        check_question(frame)
    first, second = caught.value.problems
    assert first.startswith("ratio 20 lies outside")
    assert first.endswith("(2 more like it)")
    assert second.startswith("learning_rate 2 is not")


def test_only_losses_at_d_0_are_checked() -> None:
    frame = pd.DataFrame({"run": "a", "n_tokens": [0, 1e6], "loss_general": [-2.0, np.nan]})
    with pytest.raises(InputError, match="loss_general -2 is not a loss > 0"):
        check_question(frame)
    check_question(frame.assign(loss_general=[2.0, -9.0]))  # a loss at D > 0 is not read


def test_a_request_with_d_0_only_is_refused() -> None:
    with pytest.raises(InputError, match="n_tokens 0 is the base before CPT"):
        check_question(pd.DataFrame({"n_tokens": [0, 0]}))
    check_question(pd.DataFrame({"n_tokens": [0, 1e6]}))
