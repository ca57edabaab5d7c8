"""Which rows become points of a channel, and which laws can be fitted to a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dcpt.errors import InputError
from dcpt.laws import LAWS, fit, offer_laws
from dcpt.laws.points.channel_data import points_from_table
from dcpt.laws.points.record import distinct
from dcpt.laws.suitable import refusal
from dcpt.table import load_runs


def small_table() -> pd.DataFrame:
    rows = [
        {"run": run, "n_tokens": tokens, "ratio": ratio, "warmup_tokens": 1_000}
        for run, ratio in (("a", 0.0), ("b", 0.5), ("c", 1.0))
        for tokens in (0, 1_000, 3_000, 6_000)
    ]
    frame = pd.DataFrame(rows)
    frame["loss_general"] = 3.0 + frame["n_tokens"] * 1e-5
    frame["loss_domain"] = 4.0 - frame["n_tokens"] * 1e-5
    return frame


def test_rows_are_left_out_with_a_reason() -> None:
    frame = small_table()
    frame.loc[6, "excluded"] = "diverged"
    general, domain = (points_from_table(frame, c) for c in ("general", "domain"))
    assert general.rows.tolist() == [4, 5, 9]  # header is row 1; rows 2, 6, 10 are D = 0
    assert dict(general.left_out) == {
        3: "D below 2.5 x warmup tokens",
        7: "D below 2.5 x warmup tokens",
        8: "excluded: diverged",
        11: "ratio 1: no text of this channel",
        12: "ratio 1: no text of this channel",
        13: "ratio 1: no text of this channel",
    }
    assert domain.rows.tolist() == [9, 12, 13]
    assert dict(domain.left_out)[4] == "ratio 0: no text of this channel"


def test_share_is_that_of_the_channel_and_base_losses_come_from_d_0() -> None:
    general, domain = (points_from_table(small_table(), c) for c in ("general", "domain"))
    assert np.allclose(general.points.get("share"), 1 - general.points.get("ratio"))
    assert np.allclose(domain.points.get("share"), domain.points.get("ratio"))
    assert set(general.points.get("base_loss")) == {3.0}
    assert set(domain.points.get("base_loss")) == {4.0}
    assert set(domain.points.get("base_loss_general")) == {3.0}


def test_the_base_loss_column_replaces_rows_at_d_0() -> None:
    frame = small_table().query("n_tokens > 0").assign(base_loss_general=2.5)
    data = points_from_table(frame, "general")
    assert set(data.points.get("base_loss")) == {2.5}
    assert points_from_table(frame, "domain").points.base_loss is None


def test_a_base_loss_is_read_of_a_channel_that_was_not_measured() -> None:
    frame = small_table().query("n_tokens > 0").drop(columns="loss_general")
    frame = load_runs(frame.assign(base_loss_general=2.5, base_loss_domain=4.5))
    points = points_from_table(frame, "domain").points
    assert set(points.get("base_loss_general")) == {2.5}
    assert set(points.get("base_loss")) == {4.5}
    wrong = frame.assign(base_loss_general=50.0)
    with pytest.raises(InputError, match="column base_loss_general: 50 is above 20"):
        load_runs(wrong)


def test_without_a_general_channel_its_base_loss_is_the_channels_own() -> None:
    domain = small_table().drop(columns="loss_general")
    assert set(points_from_table(domain, "domain").points.get("base_loss_general")) == {4.0}
    several = small_table().rename(columns={"loss_general": "loss_en"}).assign(loss_zh=2.0)
    assert points_from_table(several, "domain").points.base_loss_general is None


def test_an_excluded_row_at_d_0_gives_no_base_loss() -> None:
    frame = small_table()
    frame.loc[4, ["excluded", "loss_general"]] = ["bad evaluation", 9.0]
    data = points_from_table(frame, "general")
    of_b = data.runs == data.run_names.index("b")
    assert np.isnan(data.points.get("base_loss")[of_b]).all()
    assert set(data.points.get("base_loss")[~of_b]) == {3.0}
    anchored = points_from_table(frame.assign(base="tiny"), "general")
    assert set(anchored.points.get("base_loss")) == {3.0}


def test_distinct_values_ignore_rounding_and_unknown_fields_are_nan() -> None:
    data = points_from_table(small_table(), "general").points
    data = type(data)(**{**data.__dict__, "n_params": np.array([1e6, 1e6 * (1 + 1e-9), 4e6, 4e6])})
    assert len(distinct(data, "n_params")) == 2
    assert np.isnan(distinct(data, "learning_rate")).all()


def test_refusal_names_the_column_and_offers_others(ladder: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="base_peak_learning_rate") as caught:
        fit(ladder.drop(columns="base_peak_learning_rate"), "joint-general", ["general"])
    assert "anchored-general-lr" in str(caught.value)
    with pytest.raises(InputError, match=r"a single learning_rate and the table has \d+"):
        fit(ladder, "d-cpt", ["general"])


def test_with_a_single_ratio_laws_of_the_ratio_are_refused_and_chinchilla_is_offered(
    ladder: pd.DataFrame,
) -> None:
    run = ladder[ladder["run"] == ladder["run"].iloc[0]].query("phase != 'annealed'")
    with pytest.raises(InputError, match="at least 3 ratios") as caught:
        fit(run, "d-cpt", ["general"])
    assert "chinchilla" in str(caught.value)
    offered = offer_laws(run, "general")
    assert offered["chinchilla"] is None
    assert offered["joint-general"] is not None


def test_a_single_number_of_epochs_names_the_column_it_comes_from() -> None:
    tokens = np.array([1e6, 2e6, 4e6])
    columns = {"n_tokens": np.repeat(tokens, 3), "n_params": np.tile([1e6, 2e6, 4e6], 3)}
    frame = pd.DataFrame(columns).assign(run="a", ratio=0.5, loss_domain=2.0)
    frame = frame.assign(unique_tokens_domain=frame["n_tokens"] / 4)  # two epochs everywhere
    data = points_from_table(frame, "domain")
    assert refusal(LAWS["muennighoff"], data) == (
        "it needs at least 3 numbers of epochs (column unique_tokens_<channel>) and the table has "
        "1 (2)"
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"law": "chinchila"}, "law chinchila is not known"),
        ({"channels": ["german"]}, "channel 'german' is not in the table"),
        ({"fixed": {"gamma2": 1.0}}, "parameter gamma2 is in none of the laws"),
        ({"bounds": {"k": (0.0, 1.0)}, "law": "joint-general"}, "above 0"),
        ({"n_draws": 0}, "n_draws is 0"),
    ],
)
def test_bad_arguments_are_named(ladder: pd.DataFrame, arguments: dict, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        fit(ladder, **arguments)
