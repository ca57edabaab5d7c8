"""The two-level model in a fit: its weight beside the laws, runs at the target, verification."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ladder import SIZES, make_ladder

from dcpt.laws import Fit, fit, load_fit, write_fit
from dcpt.laws.fits.two_level_member import make_two_level
from dcpt.laws.points.channel_data import points_from_table
from dcpt.laws.two_level.priors import shipped_prior
from dcpt.table.study_rows import VERIFICATION

LARGEST = 1105e3
RUNS_AT_TARGET = ["1.105e+06-r0.5-x0.3", "1.105e+06-r0.75-x0.1"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make_ladder(tuple(SIZES), noise=0.002)


@pytest.fixture(scope="module")
def with_target_runs(table: pd.DataFrame) -> Fit:
    small = table["n_params"] < LARGEST
    return fit(table[small | table["run"].isin(RUNS_AT_TARGET)], n_draws=50)


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """Annealed rows of the largest size, with the losses of their base."""
    base = table[(table["n_params"] == LARGEST) & (table["n_tokens"] == 0)].iloc[0]
    rows = table[(table["n_params"] == LARGEST) & (table["phase"] == "annealed")]
    losses = {f"base_loss_{name}": base[f"loss_{name}"] for name in ("general", "domain")}
    return rows.assign(**losses)


def asked(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns=["run", "loss_general", "loss_domain"])


def error(found: Fit, rows: pd.DataFrame, channel: str) -> float:
    predicted = found.predict(asked(rows)).query("channel == @channel")["loss"].to_numpy()
    return float(np.sqrt(np.mean((predicted - rows[f"loss_{channel}"].to_numpy()) ** 2)))


@pytest.mark.parametrize("channel", ["general", "domain"])
def test_runs_at_the_target_lower_the_error_there(
    table: pd.DataFrame, with_target_runs: Fit, channel: str
) -> None:
    rows = ends(table)
    alone = {name: replace(of, two_level=None) for name, of in with_target_runs.by_channel.items()}
    assert error(with_target_runs, rows, channel) < error(
        replace(with_target_runs, by_channel=alone), rows, channel
    )


def test_another_prior_is_that_of_the_whole_model(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Experiments leave a domain out of the prior; the model must not fall back on the shipped."""
    other = replace(shipped_prior("general"), run_noise=0.05)
    monkeypatch.setattr("dcpt.laws.fits.two_level_member.shipped_prior", lambda side: other)
    member = make_two_level(points_from_table(table, "general"), seed=0)
    assert member is not None
    found = member.model.prior
    assert found.run_noise / found.point_noise == pytest.approx(0.05 / other.point_noise)


def test_few_runs_of_a_size_are_named(with_target_runs: Fit) -> None:
    model = with_target_runs.by_channel["general"].two_level
    assert model is not None
    assert sorted(model.runs_at(LARGEST)) == RUNS_AT_TARGET
    assert model.runs_at(1.5 * LARGEST) == []


def test_laws_and_model_share_the_weight(table: pd.DataFrame, with_target_runs: Fit) -> None:
    points = with_target_runs.points("general", asked(ends(table)))
    weights = with_target_runs.weights_at("general", points)
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["two-level"] > 0.5


def test_a_saved_fit_predicts_the_same(
    table: pd.DataFrame, with_target_runs: Fit, tmp_path: Path
) -> None:
    write_fit(with_target_runs, tmp_path)
    rows = asked(ends(table))
    pd.testing.assert_frame_equal(load_fit(tmp_path).predict(rows), with_target_runs.predict(rows))


def test_verification_runs_enter_the_model_and_no_law(table: pd.DataFrame) -> None:
    small = table[(table["n_params"] < LARGEST) | table["run"].isin(RUNS_AT_TARGET)]
    verifies = small["run"].isin(RUNS_AT_TARGET)
    marked = small.assign(excluded=np.where(verifies, VERIFICATION, ""))
    found = fit(marked, n_draws=5)
    model = found.by_channel["general"].two_level
    assert model is not None
    assert sorted(model.runs_at(LARGEST)) == RUNS_AT_TARGET
    flag = next(flag for flag in found.flags if flag.kind == "verification_runs")
    assert all(run in flag.sentence for run in RUNS_AT_TARGET)
    for of_channel in found.by_channel.values():
        assert not set(RUNS_AT_TARGET) & set(of_channel.residuals["run"])
    other = fit(small.assign(excluded=np.where(verifies, "diverged", "")), n_draws=5)
    model = other.by_channel["general"].two_level
    assert model is not None
    assert model.runs_at(LARGEST) == []


def test_one_size_is_said_and_laws_by_name_stand_alone(table: pd.DataFrame) -> None:
    one_size = fit(table[table["n_params"] == 56e3], n_draws=5)
    assert all(of.two_level is None for of in one_size.by_channel.values())
    reasons = [flag.sentence for flag in one_size.flags if flag.kind == "two_level_left_out"]
    assert len(reasons) == 2
    assert all("needs runs of at least two sizes" in reason for reason in reasons)
    named = fit(table, "joint-general", n_draws=5)
    assert named.by_channel["general"].two_level is None
    assert not any(flag.kind == "two_level_left_out" for flag in named.flags)


@pytest.mark.long
def test_runs_of_several_mixes_have_no_two_level_model(table: pd.DataFrame) -> None:
    part = np.where(table["run"].str.contains("x0.1"), 0.2, 0.8)
    general = 1 - table["ratio"]
    shares = {"share_en": general * part, "share_zh": general * (1 - part)}
    small = table["n_params"] < LARGEST
    mixed = fit(table.assign(**shares)[small], n_draws=5)
    assert any(flag.kind == "mix_differs" for flag in mixed.flags)
    assert all(of.two_level is None for of in mixed.by_channel.values())
