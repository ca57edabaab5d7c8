"""Held-out comparison: folds, the choice, and stack weights that follow by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dcpt.laws import fit
from dcpt.laws.fits.folds import list_folds
from dcpt.laws.fits.stack import Comparison, stack_laws
from dcpt.laws.points.channel_data import points_from_table


def test_folds_hold_out_the_largest_the_longest_and_the_inside(ladder: pd.DataFrame) -> None:
    data = points_from_table(ladder, "general")
    folds = {f"{fold.split} {fold.label}": fold.held for fold in list_folds(data)}
    points = data.points
    size, tokens, ratio = (points.get(n) for n in ("n_params", "n_tokens", "ratio"))
    assert np.array_equal(folds["largest_n n_params 3.85e+05"], size == 385e3)
    # Two of seven token counts are held out, and the ends of the decays lie beyond them.
    assert np.array_equal(folds["longest_d n_tokens > 1.43e+05"], tokens > 150e3)
    shares = {label: held for label, held in folds.items() if label.startswith("ratios")}
    assert list(shares) == ["ratios ratio 0.25", "ratios ratio 0.5", "ratios ratio 0.75"]
    assert np.array_equal(shares["ratios ratio 0.5"], ratio == 0.5)
    assert all(0 < held.sum() < len(held) for held in folds.values())


def test_weights_are_the_best_mixture_of_opposite_errors() -> None:
    # .25 x .3 - .75 x .1 = 0: the mixture misses nothing.
    gaps = {"ratios": {"high": np.full(4, 0.3), "low": np.full(4, -0.1)}}
    stack = stack_laws(gaps, ["high", "low"])
    assert stack.weights == pytest.approx({"high": 0.25, "low": 0.75}, abs=1e-4)
    assert stack.spread["ratios"] < 1e-4


def test_a_worse_law_on_the_same_side_weighs_nothing() -> None:
    gaps = {"ratios": {"good": np.full(4, 0.01), "bad": np.full(4, 0.05)}}
    stack = stack_laws(gaps, ["good", "bad"])
    assert stack.weights == pytest.approx({"good": 1.0})
    assert stack.spread == pytest.approx({"ratios": 0.01})


def test_a_law_that_a_split_cannot_test_is_not_compared() -> None:
    gaps = {
        "largest_n": {"tested": np.full(2, 0.1), "untested": np.full(2, np.nan)},
        "ratios": {"tested": np.full(4, 0.1), "untested": np.zeros(4)},
    }
    assert stack_laws(gaps, ["tested", "untested"]).weights == {"tested": 1.0}


def test_laws_without_a_point_in_common_leave_the_one_with_more() -> None:
    nan = np.nan
    gaps = {"ratios": {"few": np.array([0.0, nan, nan]), "many": np.array([nan, 0.1, 0.1])}}
    assert stack_laws(gaps, ["few", "many"]).weights == {"many": 1.0}


def test_weights_are_computed_again_where_a_law_does_not_hold() -> None:
    gaps = {"ratios": {"a": np.full(4, 0.01), "b": np.full(4, 0.3), "c": np.full(4, -0.1)}}
    comparison = Comparison({}, {"a": 1.0, "b": 0.0, "c": 0.0}, "a", {"ratios": 0.01}, gaps)
    assert comparison.stack(["a", "b"]).weights == {"a": 1.0}
    stack = comparison.stack(["b", "c"])
    assert stack.weights == pytest.approx({"b": 0.25, "c": 0.75}, abs=1e-4)
    alone = comparison.stack(["b"])
    assert alone.weights == {"b": 1.0}
    assert alone.spread == pytest.approx({"ratios": 0.3})


def test_without_a_split_the_law_is_chosen_by_its_fit_and_that_is_said() -> None:
    # Three token counts, one share, no size: nothing can be held out.
    rows = [
        {"run": run, "n_tokens": d, "loss_domain": 3 + (d / 1e6) ** -0.5 + shift}
        for run, shift in (("a", 0.0), ("b", 0.01))
        for d in (1e6, 2e6, 4e6)
    ]
    fitted = fit(pd.DataFrame(rows), n_draws=5)
    comparison = fitted.by_channel["domain"].comparisons["constant"]
    assert comparison.spread == {}
    assert comparison.weights[comparison.choice] == 1.0
    labels = {flag.label for flag in fitted.flags}
    assert {"not_held_out (domain)", "phase_not_named", "no_learning_rates"} <= labels
