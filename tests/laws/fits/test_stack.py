"""Held-out comparison: folds, the choice, and stack weights that follow by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dcpt.laws import fit
from dcpt.laws.fits.folds import list_folds
from dcpt.laws.fits.stack import Comparison, Stack, stack_laws
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
    outer = {label: held for label, held in folds.items() if label.startswith("outer_ratios")}
    assert [float(ratio[held].mean()) for held in outer.values()] == pytest.approx(
        [ratio.min(), ratio.max()]
    )
    assert all(0 < held.sum() < len(held) for held in folds.values())


def test_no_split_rests_on_one_run(ladder: pd.DataFrame) -> None:
    data = points_from_table(ladder, "general")
    large = data.points.get("n_params") == data.points.get("n_params").max()
    first = data.runs == data.runs[large][0]
    thinned = data.take(~large | first)
    (fold,) = [fold for fold in list_folds(thinned) if fold.split == "largest_n"]
    # The single run of the largest size is held out together with the next smaller size.
    assert len(np.unique(thinned.runs[fold.held])) > 1
    assert np.unique(thinned.points.get("n_params")[~fold.held]).size == 1
    # Of a single run nothing can be held out.
    assert list_folds(data.take(first)) == []


def test_laws_near_the_lowest_error_share_the_weight() -> None:
    gaps = {"ratios": {"best": np.full(4, 0.1), "near": np.full(4, -0.17), "far": np.full(4, 0.2)}}
    stack = stack_laws(gaps, ["best", "near", "far"])
    assert stack.weights == {"best": 0.5, "near": 0.5}
    assert stack.spread == pytest.approx({"ratios": 0.035})
    assert stack.guard == pytest.approx(0.3)


def test_the_error_of_a_law_counts_every_split_the_same() -> None:
    # 3 and 4 nats are 3.54 together; 100 points of the second split do not count more.
    gaps = {
        "ratios": {"even": np.full(2, 3.5), "uneven": np.full(2, 3.0)},
        "longest_d": {"even": np.full(100, 3.5), "uneven": np.full(100, 7.0)},
    }
    assert stack_laws(gaps, ["even", "uneven"]).weights == {"even": 0.5, "uneven": 0.5}
    gaps["longest_d"]["uneven"] = np.full(100, 8.2)
    assert stack_laws(gaps, ["even", "uneven"]).weights == {"even": 1.0}


def test_a_wild_law_is_moved_to_the_guard_around_the_median() -> None:
    stack = Stack({"a": 0.4, "b": 0.4, "wild": 0.2}, {"ratios": 0.1}, guard=0.3)
    losses = np.array([[2.8, 2.8], [2.9, 2.9], [16.4, 2.95]])
    assert stack.guarded(losses)[2] == pytest.approx([3.2, 2.95])
    assert stack.mean(losses) == pytest.approx([0.4 * 2.8 + 0.4 * 2.9 + 0.2 * 3.2, 2.87])
    assert Stack({"a": 1.0}, {}).mean(losses[2:]) == pytest.approx([16.4, 2.95])


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
    gaps = {"ratios": {"a": np.full(4, 0.01), "b": np.full(4, 0.3), "c": np.full(4, -0.2)}}
    weights = {"a": 1.0, "b": 0.0, "c": 0.0}
    comparison = Comparison({}, weights, "a", {"ratios": 0.01}, {}, 0.03, gaps)
    assert comparison.stack(["a", "b"]).weights == {"a": 1.0}
    stack = comparison.stack(["b", "c"])
    assert stack.weights == {"b": 0.5, "c": 0.5}
    assert stack.spread == pytest.approx({"ratios": 0.05})
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
