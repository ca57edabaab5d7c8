"""The base's own losses are read from the rows of its size."""

from __future__ import annotations

import pytest

from dcpt.bundled import bundled_runs
from dcpt.table import check_runs
from dcpt.table.base_rows import base_of_size


def test_a_rounded_size_finds_the_base_and_its_pre_training() -> None:
    base = base_of_size(bundled_runs("code"), 6.6e6)
    assert base is not None
    assert base.losses == pytest.approx({"general": 3.08533, "domain": 4.51261})
    assert (base.n_params, base.base_peak_learning_rate) == (6_622_464, 0.002)
    assert base.base_n_tokens == 119_996_416


def test_without_rows_at_zero_tokens_the_losses_are_those_of_the_columns() -> None:
    runs = bundled_runs("code").query("n_tokens > 0").assign(base_loss_general=3.1)
    base = base_of_size(runs, 6.6e6)
    assert base is not None
    assert base.losses == {"general": pytest.approx(3.1)}
    assert base.base_peak_learning_rate == 0.002


def test_another_size_has_no_base() -> None:
    assert base_of_size(bundled_runs("code"), 7e9) is None
    assert base_of_size(bundled_runs("code").drop(columns="n_params"), 6.6e6) is None


def test_losses_that_differ_between_bases_are_not_those_of_the_base() -> None:
    # The two bases of 6.6M differ by 0.0001 nats on general text and by 0.17 on verse.
    base = base_of_size(bundled_runs("zh_annealed"), 6.6e6)
    assert base is not None
    assert base.losses == {"general": pytest.approx(2.9787, abs=2e-4)}


def test_a_total_that_follows_from_its_channels_is_left_to_them() -> None:
    runs = bundled_runs("code").rename(columns={"loss_general": "loss_en"})
    runs = check_runs(runs.assign(loss_zh=runs["loss_en"], weight_en=1.0, weight_zh=1.0), "runs")
    base = base_of_size(runs, 6.6e6)
    assert base is not None
    assert set(base.losses) == {"en", "zh", "domain"}
