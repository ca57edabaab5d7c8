"""Channels of a table, the weighted general total, and the summary; the bundled tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dcpt.bundled import NAMES, bundled_runs
from dcpt.errors import InputError
from dcpt.table import channels, describe, general_channels, load_runs, write_runs


def frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "run": ["a", "a"],
            "n_tokens": [0, 4096],
            "loss_en": [3.0, 3.1],
            "loss_zh": [4.0, 4.4],
            "loss_domain": [5.0, 4.0],
            **columns,
        }
    )


def test_the_total_is_the_weighted_mean() -> None:
    loaded = load_runs(frame(weight_en=3, weight_zh=1, base_loss_en=3, base_loss_zh=4))
    np.testing.assert_allclose(loaded["loss_general_total"], [3.25, 0.75 * 3.1 + 0.25 * 4.4])
    np.testing.assert_allclose(loaded["base_loss_general_total"], [3.25, 3.25])
    assert channels(loaded) == ["en", "zh", "domain", "general_total"]
    assert general_channels(loaded) == ["en", "zh"]


def test_the_share_of_the_domain_is_the_ratio_where_the_table_has_none() -> None:
    loaded = load_runs(frame(share_domain=[None, 0.4]))
    np.testing.assert_allclose(loaded["ratio"], [np.nan, 0.4])
    given = load_runs(frame(share_domain=[None, 0.4], ratio=[None, 0.5]))
    np.testing.assert_allclose(given["ratio"], [np.nan, 0.5])


def test_shares_of_the_domain_that_are_no_ratio_are_left_alone() -> None:
    assert "ratio" not in load_runs(frame(share_domain=[None, None]))
    several = frame(n_tokens=[2048, 4096], share_domain=[0.4, 0.6])
    assert "ratio" not in load_runs(several)
    excluded = several.assign(excluded=["another mixture", None])
    assert load_runs(excluded)["ratio"].tolist() == [0.4, 0.6]


def test_there_is_no_total_without_weights_or_with_one_general_channel() -> None:
    assert channels(load_runs(frame())) == ["en", "zh", "domain"]
    alone = frame(weight_en=1).drop(columns="loss_zh")
    assert channels(load_runs(alone)) == ["en", "domain"]


def test_weights_in_one_row_hold_for_the_table() -> None:
    loaded = load_runs(frame(weight_en=[3, None], weight_zh=[None, 1]))
    np.testing.assert_allclose(loaded["loss_general_total"][0], 3.25)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"weight_en": 1}, "weight_zh lacking; either every general channel (en, zh) has a weight"),
        ({"weight_en": 0, "weight_zh": 0}, "the weights of en, zh are all 0"),
        (
            {"weight_en": 1, "weight_zh": 1, "loss_general_total": 3.0},
            "loss_general_total differs from the weighted mean of the general channels by up to",
        ),
    ],
)
def test_unusable_weights_are_refused(columns: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as raised:
        load_runs(frame(**columns))
    assert words in str(raised.value)


def test_a_table_with_its_total_is_read_back(tmp_path: Path) -> None:
    loaded = load_runs(frame(weight_en=3, weight_zh=1))
    write_runs(loaded, tmp_path / "runs.csv")
    pd.testing.assert_frame_equal(load_runs(tmp_path / "runs.csv"), loaded)


def test_the_summary_is_plain_json_and_unknown_is_none() -> None:
    summary = describe(load_runs(frame(note="x", excluded=[None, "why not"])))
    assert json.loads(json.dumps(summary)) == {
        "runs": 1,
        "points": 2,
        "excluded": 1,
        "excluded_for": {"why not": 1},
        "n_tokens": 4096,
        "sizes": None,
        "ratios": None,
        "learning_rates": None,
        "phases": None,
        "channels": ["en", "zh", "domain"],
        "other_columns": ["note"],
    }


@pytest.mark.parametrize(
    ("name", "runs", "points", "phases"),
    [
        ("zh_annealed", 50, 800, ["annealed", "base", "constant"]),
        ("code", 27, 405, ["base", "constant"]),
        ("code_lr", 20, 300, ["base", "constant"]),
    ],
)
def test_bundled_runs(name: str, runs: int, points: int, phases: list[str]) -> None:
    summary = describe(bundled_runs(name))
    assert name in NAMES
    assert (summary["runs"], summary["points"], summary["phases"]) == (runs, points, phases)
    assert summary["channels"] == ["general", "domain"]
    assert summary["other_columns"] == []


def test_unknown_bundled_runs_are_refused() -> None:
    with pytest.raises(InputError, match="take one of zh_annealed, code, code_lr"):
        bundled_runs("../code")
