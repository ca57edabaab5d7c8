"""The chooser against a synthetic normal distribution, whose best runs follow by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dcpt.decide.budget import Budget, Price
from dcpt.decide.posterior import Normal
from dcpt.decide.run_choice import (
    Candidate,
    Crossing,
    choose_runs,
    share_variances,
    squared_slopes,
)
from dcpt.errors import InputError

SHARE = Budget(10.0, "share")


def candidate(share: float = 0.25, is_short: bool = True) -> Candidate:
    return Candidate(None, 1e6, 0.5, 1e-3, 1e6, Price(1e6, 6e12, share, None), is_short)


def distribution(loadings: np.ndarray, noise: float = 0.1) -> Normal:
    """Losses that are sums of independent parts: rows of the loadings."""
    return Normal(np.zeros(len(loadings)), loadings @ loadings.T, noise)


def crossings(n: int) -> list[Crossing]:
    return [Crossing("general", float(i), 0.5, 1e-3) for i in range(n)]


def two_parts() -> Normal:
    """Two crossings and four candidates; the second crossing is more uncertain than the first."""
    first, second, other = np.eye(3)
    points = [first] * 3 + [2 * second] * 3
    runs = [first, 2 * second, 2 * second, other]
    return distribution(np.array([*points, *runs]))


def test_runs_are_chosen_where_the_decision_is_uncertain_one_after_another() -> None:
    steps = choose_runs(
        {"general": two_parts()}, crossings(2), np.ones(2), [candidate()] * 4, SHARE, most=2
    )
    # The more uncertain part first; a second run at that part would add little.
    assert [step.index for step in steps] == [1, 0]
    noise = 0.01
    assert steps[0].variances == pytest.approx([1.0, 4 * noise / (4 + noise)])
    assert steps[1].variances == pytest.approx([noise / (1 + noise), 4 * noise / (4 + noise)])


def test_a_flat_crossing_counts_more() -> None:
    posteriors = {"general": two_parts()}
    squares = np.array([0.1, 1.0]) ** 2
    steps = choose_runs(posteriors, crossings(2), squares, [candidate()] * 4, SHARE, most=1)
    assert [step.index for step in steps] == [0]


def test_the_variances_are_those_of_conditioning_on_all_runs_at_once() -> None:
    rng = np.random.default_rng(0)
    joint = distribution(rng.normal(size=(9, 4)))
    steps = choose_runs(
        {"general": joint}, crossings(1), np.ones(1), [candidate()] * 6, SHARE, most=3
    )
    rows = [3 + step.index for step in steps]
    at_once = share_variances({"general": joint.given(rows)}, crossings(1), np.ones(1))
    assert steps[-1].variances == pytest.approx(at_once)
    alone = [joint.given([3 + index]).covariance[1, 1] for index in range(6)]
    assert steps[0].index == int(np.argmin(alone))


def test_a_run_that_says_nothing_is_not_chosen() -> None:
    posteriors = {"general": two_parts()}
    steps = choose_runs(posteriors, crossings(2), np.ones(2), [candidate()] * 4, SHARE)
    assert 3 not in [step.index for step in steps]


def test_the_first_run_is_short_and_price_counts() -> None:
    joint = {"general": two_parts()}
    runs = [candidate(), candidate(0.1, is_short=False), candidate(), candidate()]
    steps = choose_runs(joint, crossings(2), np.ones(2), runs, SHARE, most=1)
    assert steps[0].index == 2
    cheap = [candidate(0.01), candidate(), candidate(), candidate()]
    assert choose_runs(joint, crossings(2), np.ones(2), cheap, SHARE, most=1)[0].index == 0


def test_the_budget_ends_the_choice() -> None:
    joint = {"general": two_parts()}
    for share, n_runs in ((0.25, 1), (0.49, 1), (0.5, 2)):
        steps = choose_runs(
            joint, crossings(2), np.ones(2), [candidate()] * 4, Budget(share, "share")
        )
        assert len(steps) == n_runs


def test_a_loss_that_falls_with_the_share_has_no_crossing() -> None:
    frame = pd.DataFrame({"ratio": [0.4, 0.5, 0.6] * 2})
    joint = Normal(np.array([1.0, 1.1, 1.4, 1.0, 0.9, 0.8]), np.eye(6))
    squares = squared_slopes({"general": joint}, crossings(2), frame)
    assert squares == pytest.approx([4.0, np.inf])
    assert share_variances({"general": joint}, crossings(2), squares) == pytest.approx([0.25, 0])


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("50%", Budget(0.5, "share")),
        (" 150 %", Budget(1.5, "share")),
        ("20h", Budget(20, "hours")),
        ("0.5 hours", Budget(0.5, "hours")),
        (Budget(2, "hours"), Budget(2, "hours")),
    ],
)
def test_budgets_are_read(text: object, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize("text", ["", "50", "-5%", "0%", "0h", "20 apples"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="write a share of the cost of the target's run"):
        Budget.parse(text)


def test_hours_need_a_speed() -> None:
    with pytest.raises(InputError, match="no run has told its speed"):
        Budget(20, "hours").of(Price(1, 1, 0.25, None))
