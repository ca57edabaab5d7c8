"""What a fit is asked: laws that do not hold there, several general channels, large targets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dcpt
from dcpt import Limit, Target, bundled_runs, fit, load_fit, recommend
from dcpt.decide import summarise
from dcpt.decide.records import Recommendation
from dcpt.errors import InputError
from dcpt.laws import Fit, write_fit


@pytest.fixture(scope="module")
def channels_runs() -> pd.DataFrame:
    """The bundled verse runs as if their general text were two channels, .7 and .3."""
    runs = bundled_runs("zh_annealed").rename(columns={"loss_general": "loss_en"})
    runs["loss_zh"] = runs["loss_en"] + 0.4
    runs = runs.drop(columns=[c for c in runs if c.startswith(("se_", "unique_tokens_general"))])
    return dcpt.load_runs(runs.assign(weight_en=0.7, weight_zh=0.3))


@pytest.fixture(scope="module")
def channels_fit(channels_runs: pd.DataFrame) -> Fit:
    return fit(channels_runs, ["saturating-general", "plateau-domain"], n_draws=20)


def target(**losses: float) -> Target:
    return Target(29.1e6, 44e6, Limit.parse("+3%"), losses, base_peak_learning_rate=1e-3)


def test_the_total_follows_from_the_channels_own_losses(channels_fit: Fit) -> None:
    answer = recommend(channels_fit, target(en=2.7, zh=3.1))
    assert answer.target.base_losses["general_total"] == pytest.approx(0.7 * 2.7 + 0.3 * 3.1)
    asked = {"n_params": 29.1e6, "n_tokens": 44e6, "ratio": 0.5, "learning_rate": 6e-4}
    asked |= {"base_peak_learning_rate": 1e-3, "base_loss_en": 2.7, "base_loss_zh": 3.1}
    assert np.isfinite(channels_fit.predict(**asked)["loss"]).all()


def test_a_limit_on_each_channel_is_that_of_the_one_that_rises_most(
    channels_fit: Fit, channels_runs: pd.DataFrame, tmp_path: Path
) -> None:
    def answer(limit: str, **losses: float) -> Recommendation:
        asked = replace(target(**losses), limit=Limit.parse(limit), learning_rate=6e-4)
        return recommend(channels_fit, asked)

    losses = {"en": 2.7, "zh": 3.1}
    total, each = answer("+3%", **losses), answer("+3% each", **losses)
    assert total.best is not None
    assert each.best is not None
    # Both rise alike, so the one of the lower loss meets its 3 % first.
    assert each.best.ratio < total.best.ratio
    assert each.central is not None
    assert each.central.losses["en"].value == pytest.approx(2.7 * 1.03, abs=2e-4)
    assert each.central.losses["zh"].value < 3.1 * 1.03 - 0.005
    assert each.central.general_rise.value == pytest.approx(0.03 * 2.82, abs=2e-4)
    assert each.general_channel == "general_worst"
    assert str(each.target.limit) == "+3% each"
    assert set(each.ratio_by_law) == {"saturating-general (en)", "saturating-general (zh)"}
    (flag,) = (flag for flag in each.flags if flag.kind == "limit_on_each")
    assert "(en at the recommendation)" in flag.sentence
    said = " ".join(summarise(each))
    assert "the loss of en, the binding channel," in said
    assert "and the general loss rises by" in " ".join(summarise(total))
    # In draws, the worst of both is never within the limit where one of them is not.
    assert each.best.probability <= total.best.probability

    nats, same = answer("+0.05", **losses), answer("+0.05 each", **losses)
    assert nats.central is not None
    assert same.central is not None
    assert same.central.ratio == pytest.approx(nats.central.ratio, abs=0.006)
    pages = dcpt.write_report(
        tmp_path, runs=channels_runs, fit=channels_fit, recommendation=each, title="each"
    )
    page = pages[0].read_text(encoding="utf-8")
    assert "general_worst" not in page  # no model has such a channel
    assert "en" in page
    again = recommend(channels_fit, each.target)
    assert again.best == each.best


def test_each_of_one_channel_is_that_channel() -> None:
    runs = bundled_runs("zh_annealed")
    found = fit(runs, ["saturating-general", "plateau-domain"], n_draws=20)
    asked = replace(target(general=2.775, domain=8.6), limit=Limit.parse("+3% each"))
    assert recommend(found, asked).general_channel == "general"


def test_a_limit_on_each_needs_each_ones_loss(channels_fit: Fit) -> None:
    asked = replace(target(general_total=2.8, en=2.7), limit=Limit.parse("+3% each"))
    with pytest.raises(InputError, match="base loss of channel zh is missing, which the limit is"):
        recommend(channels_fit, asked)


def test_a_total_that_is_not_that_of_its_parts_is_refused(channels_fit: Fit) -> None:
    with pytest.raises(InputError, match=r"general_total is 2\.9 and the weighted mean of en, zh"):
        recommend(channels_fit, target(en=2.0, zh=2.4, general_total=2.9))


def test_a_loss_of_no_channel_is_refused(channels_fit: Fit) -> None:
    with pytest.raises(InputError, match="base loss of english: the fit has no such channel"):
        recommend(channels_fit, target(english=2.0))


def test_weights_are_read_back(channels_fit: Fit, tmp_path: Path) -> None:
    write_fit(channels_fit, tmp_path)
    again = load_fit(tmp_path)
    assert again.general_weights == {"en": 0.7, "zh": 0.3}
    assert again.sha256 == channels_fit.sha256


def test_another_seed_is_another_fit(channels_fit: Fit) -> None:
    runs = bundled_runs("zh_annealed")
    first, second = (fit(runs, "annealed-general", n_draws=5, seed=s) for s in (0, 1))
    assert len({channels_fit.sha256, first.sha256, second.sha256}) == 3


def test_laws_that_weigh_and_do_not_hold_are_named(ladder_fit: Fit) -> None:
    far = pd.DataFrame({"n_params": 132e3, "n_tokens": [225e3, 4e5], "ratio": 0.5})
    far = far.assign(learning_rate=1e-3, base_loss_general=3.42, base_peak_learning_rate=5e-3)
    points = ladder_fit.points("general", far.assign(base_n_tokens=2e6, warmup_tokens=12e3))
    flags = [f for f in ladder_fit.flags_at("general", points) if f.kind == "not_asked"]
    asked = ladder_fit.weights("general")
    assert flags
    for flag in flags:
        law = flag.subject["law"]
        assert asked[law] > 0
        assert not ladder_fit.by_channel["general"].members[law].accepts(points).all()
    first = ladder_fit.flags_at("general", points.take(np.array([0])))
    assert "not_asked" not in {flag.kind for flag in first}


def test_no_text_of_a_channel_is_not_predicted() -> None:
    runs = bundled_runs("code")
    at_rule = runs[(runs["learning_rate"] < 0.5 * runs["base_peak_learning_rate"])]
    found = fit(at_rule, ["d-cpt", "fx2-mon"], ["domain"], n_draws=5)
    asked = {"n_params": 29.1e6, "n_tokens": 4e7, "learning_rate": 3e-4}
    with pytest.raises(InputError, match=r"holds? on 0 < share"):
        found.predict(**asked, ratio=0.0)


def test_a_large_target_needs_no_history_of_its_rate() -> None:
    found = fit(bundled_runs("zh_annealed"), ["saturating-general", "plateau-domain"], n_draws=5)
    asked = {"n_params": 7e9, "ratio": 0.5, "learning_rate": 6e-4, "base_loss_general": 2.0}
    answer = found.predict(**asked, n_tokens=1e12, base_peak_learning_rate=1e-3)
    assert np.isfinite(answer["loss"]).all()


def test_a_base_row_without_a_phase_gives_its_loss() -> None:
    runs = bundled_runs("zh_annealed")
    found = fit(runs, "saturating-general", n_draws=5)
    asked = runs[runs["run"] == runs["run"].iloc[0]].drop(columns="phase")
    assert (asked["n_tokens"] == 0).any()
    assert len(found.predict(asked)) == (asked["n_tokens"] > 0).sum()


def test_a_schedule_without_its_file_is_refused() -> None:
    found = fit(bundled_runs("zh_annealed"), "saturating-general", n_draws=5)
    asked = {"n_params": 29.1e6, "n_tokens": 4e7, "ratio": 0.5, "learning_rate": 6e-4}
    with pytest.raises(InputError, match="schedule 'wsd' is named and no file of schedules"):
        found.predict(**asked, base_loss_general=2.8, base_peak_learning_rate=1e-3, schedule="wsd")


def test_a_table_with_schedules_and_no_file_says_so() -> None:
    runs = bundled_runs("code_lr").assign(schedule="wsd")
    flags = fit(runs, "saturating-general", n_draws=5).flags
    assert "schedules_not_given" in {flag.kind for flag in flags}


def test_bounds_do_not_stand_for_a_size_that_was_not_seen(ladder: pd.DataFrame) -> None:
    small = ladder.query("n_params < 1e5")
    found = fit(small, "plateau-domain", n_draws=5, bounds={"w": (0.7, 0.9)})
    asked = {"n_params": 132e3, "n_tokens": 225e3, "ratio": 0.5, "learning_rate": 1e-3}
    with pytest.raises(InputError, match="fitted at one n_params"):
        found.predict(**asked, base_loss_general=3.4, base_peak_learning_rate=5e-3)


def test_rates_within_two_per_cent_are_a_rule_too() -> None:
    runs = bundled_runs("code")
    at_rule = runs[runs["learning_rate"] < 0.5 * runs["base_peak_learning_rate"]].copy()
    at_rule["learning_rate"] = at_rule["n_params"].map(
        dict(zip(sorted(at_rule["n_params"].unique()), (3.0e-4, 3.02e-4, 3.03e-4), strict=True))
    )
    assert fit(at_rule, "anchored-general", n_draws=5).channels == ["general"]


def test_rows_without_a_rate_can_be_written(tmp_path: Path) -> None:
    runs = bundled_runs("code_lr")
    some = runs.assign(schedule=np.where(runs["ratio"] < 0.5, "wsd", None))
    found = fit(some.drop(columns="learning_rate"), "fx2-mon", ["domain"], n_draws=5)
    record = json.loads(write_fit(found, tmp_path).read_text())
    assert record["seen_rates"] == []


@pytest.mark.parametrize("wrong", [{"bounds": {"g": (1,)}}, {"seed": -1}, {"delta": "inf"}])
def test_wrong_arguments_are_refused_in_words(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"give a pair|0 or more|a number above 0"):
        fit(bundled_runs("code"), "joint-general", **wrong)  # type: ignore[arg-type]


def test_a_path_is_no_table() -> None:
    with pytest.raises(InputError, match=r"runs is a str; read a file with dcpt\.load_runs"):
        fit("runs.csv")  # type: ignore[arg-type]
