"""Channels that were measured and never trained on (weight 0)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dcpt
from dcpt import Target, bundled_runs, recommend
from dcpt.laws import Fit, load_fit, write_fit
from dcpt.laws.points.channel_data import find_general_channel, points_from_table
from dcpt.table.channels import general_channels, validation_channels

LAWS = ["saturating-general", "plateau-domain"]


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    """The bundled verse runs with a text like the general one, and one like the domain's."""
    found = bundled_runs("zh_annealed")
    found["loss_prose"] = found["loss_general"] + 0.4
    found["loss_tasks"] = 0.5 * found["loss_domain"] + 1.0
    return dcpt.load_runs(found.assign(weight_prose=0.0, weight_tasks=0.0))


@pytest.fixture(scope="module")
def fitted(runs: pd.DataFrame) -> Fit:
    return dcpt.fit(runs, LAWS, n_draws=20)


def target(**limits: str) -> Target:
    losses = {"general": 2.775, "prose": 3.175, "tasks": 5.3}
    limit = None if limits else "+3% each"
    return Target(
        29.1e6, 44e6, limit, losses, base_peak_learning_rate=1e-3, channel_limits=dict(limits)
    )


def test_channels_of_weight_0_are_apart_from_the_general_side(runs: pd.DataFrame) -> None:
    assert validation_channels(runs) == ["prose", "tasks"]
    assert general_channels(runs) == ["general"]
    assert find_general_channel(runs) == "general"
    renamed = runs.rename(columns={"loss_general": "loss_web"})
    assert find_general_channel(renamed) == "web"


def test_the_text_that_lowers_its_loss_decides_its_laws(runs: pd.DataFrame) -> None:
    assert points_from_table(runs, "prose").side == "general"
    assert points_from_table(runs, "tasks").side == "domain"


@pytest.mark.long
def test_it_is_fitted_and_predicted(fitted: Fit, tmp_path: Path) -> None:
    assert fitted.validation_channels == ("prose", "tasks")
    asked = {"n_params": 6.6e6, "n_tokens": 44e6, "ratio": 0.5, "learning_rate": 9e-4}
    asked |= {"base_peak_learning_rate": 2e-3, "base_loss_general": 2.98, "base_loss_prose": 3.38}
    found = fitted.predict(**asked).set_index("channel")["loss"]
    assert found["prose"] == pytest.approx(found["general"] + 0.4, abs=0.01)
    assert found["tasks"] == pytest.approx(0.5 * found["domain"] + 1.0, abs=0.02)
    write_fit(fitted, tmp_path)
    again = load_fit(tmp_path)
    assert again.validation_channels == fitted.validation_channels
    assert again.by_channel["tasks"].side == "domain"


@pytest.mark.long
def test_it_may_carry_a_limit_and_each_leaves_it_out(fitted: Fit) -> None:
    each, prose = recommend(fitted, target()), recommend(fitted, target(prose="3%"))
    assert set(each.limits) == {"general"}
    assert prose.general_channel == "prose"
    assert prose.central is not None
    assert prose.central.losses["prose"].value == pytest.approx(3.175 * 1.03, abs=3e-4)
    assert each.best is not None
    assert np.isfinite([interval.value for interval in each.best.losses.values()]).all()
    assert set(each.best.losses) == {"general", "prose", "tasks", "domain"}
