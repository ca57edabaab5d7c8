"""The two-level model predicts a larger size, and conditions exactly on measured runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from ladder import SIZES, make_ladder

from dcpt.errors import InputError
from dcpt.laws.points.channel_data import ChannelData, points_from_table
from dcpt.laws.two_level import TwoLevel, fit_two_level, refuse_table
from dcpt.laws.two_level.priors import shipped_prior

LARGEST = 1105e3


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make_ladder(tuple(SIZES), noise=0.002)


def split(table: pd.DataFrame, channel: str) -> tuple[ChannelData, ChannelData]:
    """The points of the smaller sizes, and the annealed ones of the largest."""
    data = points_from_table(table, channel)
    at_largest = data.points.get("n_params") == LARGEST
    return data.take(~at_largest), data.take(at_largest & (data.points.get("annealed") > 0))


@pytest.mark.parametrize(("channel", "error"), [("general", 0.02), ("domain", 0.06)])
def test_a_larger_size_is_predicted_within_its_deviation(
    table: pd.DataFrame, channel: str, error: float
) -> None:
    small, large = split(table, channel)
    joint = fit_two_level(small).joint(large.points)
    gaps = joint.scale.to_model(large.losses) - joint.mean
    in_grid = large.points.get("ratio") <= 0.75
    assert np.sqrt(np.mean((joint.losses - large.losses)[in_grid] ** 2)) < error
    assert np.sqrt(np.mean((gaps / joint.deviations) ** 2)) < 2


@pytest.mark.parametrize("channel", ["general", "domain"])
def test_given_runs_is_the_same_as_a_table_with_these_runs(
    table: pd.DataFrame, channel: str
) -> None:
    small, large = split(table, channel)
    added = [2, 7]
    rows = [*small.rows, *large.rows[added]]
    more = points_from_table(table, channel)
    model = fit_two_level(small)
    with_runs = fit_two_level(more.take(np.isin(more.rows, rows))).joint(large.points)
    conditioned = model.joint(large.points).given(added, large.losses[added])
    np.testing.assert_allclose(conditioned.losses, with_runs.losses, atol=1e-4)
    np.testing.assert_allclose(conditioned.covariance, with_runs.covariance, atol=1e-7)


@pytest.mark.parametrize(
    ("channel", "noise", "factor"),
    [("domain", 0.002, 1.0), ("general", 0.005, 2.0), ("general", 0.03, 4.0)],
)
def test_the_noise_of_a_table_is_learnt_and_never_below_that_of_the_prior(
    channel: str, noise: float, factor: float
) -> None:
    small, _ = split(make_ladder(tuple(SIZES), noise=noise), channel)
    expected = factor * shipped_prior(channel).noise
    assert fit_two_level(small).prior.noise == pytest.approx(expected)


def test_planned_runs_lower_the_variance_and_leave_the_mean(table: pd.DataFrame) -> None:
    small, large = split(table, "general")
    before = fit_two_level(small).joint(large.points)
    after = before.given([7])
    np.testing.assert_array_equal(after.mean, before.mean)
    assert (np.diag(after.covariance) < np.diag(before.covariance)).all()
    assert after.deviations[7] <= before.noise
    assert before.given([]) is before


def test_draws_have_the_mean_and_the_covariance(table: pd.DataFrame) -> None:
    small, large = split(table, "domain")
    joint = fit_two_level(small).joint(large.points).take([0, 5, 9])
    draws = joint.scale.to_model(joint.draws(4_000, seed=1))
    np.testing.assert_allclose(draws.mean(axis=0), joint.mean, atol=0.003)
    np.testing.assert_allclose(np.cov(draws.T), joint.covariance, atol=2e-4)


def test_a_table_without_base_peak_rates_decays_or_general_channel(table: pd.DataFrame) -> None:
    bare = table[table["phase"] != "annealed"]
    bare = bare.drop(columns=["base_peak_learning_rate", "loss_general"])
    data = points_from_table(bare, "domain")
    small = data.take(data.points.get("n_params") < LARGEST)
    large = data.take(data.points.get("n_params") == LARGEST)
    joint = fit_two_level(small).joint(large.points)
    gaps = joint.scale.to_model(large.losses) - joint.mean
    assert np.sqrt(np.mean((gaps / joint.deviations) ** 2)) < 2


@pytest.mark.parametrize("channel", ["general", "domain"])
def test_without_decays_a_decay_is_expected_to_lower_the_loss(
    table: pd.DataFrame, channel: str
) -> None:
    small, large = split(table, channel)
    constant = small.take(small.points.get("annealed") == 0)
    model = fit_two_level(constant)
    decayed = large.points
    undecayed = replace(decayed, annealed=np.zeros(len(decayed)))
    change = model.predict(decayed) - model.predict(undecayed)
    rates = decayed.get("learning_rate")
    highest, lowest = rates == rates.max(), rates == rates.min()
    assert change[highest].mean() < -0.01
    assert change[highest].mean() < change[lowest].mean()
    assert (model.deviations(decayed) > model.deviations(undecayed)).all()


def test_tables_that_do_not_suit_are_refused(table: pd.DataFrame) -> None:
    small, large = split(table, "general")
    assert refuse_table(small) is None
    assert refuse_table(large) == "needs runs of at least two sizes"
    blind = replace(small, points=replace(small.points, base_loss=None))
    assert refuse_table(blind) == "needs base_loss at every point"
    with pytest.raises(InputError, match="at least two sizes"):
        fit_two_level(large)


def test_a_question_without_a_field_of_the_table_is_refused(table: pd.DataFrame) -> None:
    small, large = split(table, "general")
    model: TwoLevel = fit_two_level(small)
    with pytest.raises(InputError, match="needs base_peak_learning_rate at every point"):
        model.joint(replace(large.points, base_peak_learning_rate=None))


def test_draws_of_a_grid_are_those_of_its_points(table: pd.DataFrame) -> None:
    """Losses of many points come from a lattice; draws are the same functions in every call."""
    small, large = split(table, "general")
    model = fit_two_level(small)
    joint = model.joint(large.points)
    rows = np.arange(3_000)
    draws = joint.scale.to_model(model.sample(large.points, rows, (1, 0)))
    expected = np.hypot(joint.deviations, joint.noise)
    np.testing.assert_allclose(draws.std(axis=0), expected, rtol=0.05)
    np.testing.assert_allclose(draws.mean(axis=0), joint.mean, atol=4 * expected.max() / 3_000**0.5)
    few = model.sample(large.points.take(np.array([4])), rows[7:9], (1, 0))
    np.testing.assert_allclose(few[:, 0], model.sample(large.points, rows, (1, 0))[7:9, 4])
    many = large.points.take(np.tile(np.arange(len(large.losses)), 20))
    np.testing.assert_allclose(model.predict(many)[: len(large.losses)], joint.losses, atol=1e-4)
    np.testing.assert_allclose(
        model.deviations(many)[: len(large.losses)],
        joint.deviations * joint.scale.slope(joint.mean),
        rtol=0.01,
    )
