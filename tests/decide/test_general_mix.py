"""The mix of several general channels: that of the runs, or one that a law of shares knows."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import dcpt
from dcpt.cli import app
from dcpt.decide.general_mix import check_mix
from dcpt.decide.question import ask
from dcpt.errors import InputError
from dcpt.laws import Fit, load_fit, write_fit
from dcpt.laws.flags.mix_flags import general_mix
from dcpt.laws.formulas.sources import many_sources

SIZES, TOKENS, RATIOS, PARTS = (2e6, 8e6), (1e7, 4e7), (0.2, 0.5, 0.8), (0.2, 0.5, 0.8)


def loss(channel: str, n_params: float, n_tokens: float, ratio: float, part: float) -> float:
    """A loss that falls with the share of its own channel most."""
    shares = {"domain": ratio, "en": (1 - ratio) * part, "zh": (1 - ratio) * (1 - part)}
    helped = sum((3.0 if n == channel else 0.5) * share**0.5 for n, share in shares.items())
    return 1.5 + (n_params / 2e6) ** -0.3 + 0.5 * (n_tokens / 1e7) ** -0.3 + 1 / helped


def make_runs(parts: tuple[float, ...] = PARTS) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for size, ratio, part in itertools.product(SIZES, RATIOS, parts):
        run = {"run": f"n{size:g}-r{ratio}-p{part}", "base": f"b{size:g}", "n_params": size}
        run |= {"ratio": ratio, "share_domain": ratio, "phase": "constant"}
        run |= {"share_en": (1 - ratio) * part, "share_zh": (1 - ratio) * (1 - part)}
        for tokens in TOKENS:
            point = run | {"n_tokens": tokens}
            for name in ("en", "zh", "domain"):
                true = loss(name, size, tokens, ratio, part)
                point[f"loss_{name}"] = true + rng.normal(0, 0.001)
            rows.append(point)
    return dcpt.load_runs(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def mix_fit() -> Fit:
    return dcpt.fit(make_runs(), many_sources(["domain", "en", "zh"]), n_draws=20)


def target(**mix: float) -> dcpt.Target:
    bases = {"en": 3.6, "zh": 3.6}
    return dcpt.Target(8e6, 4e7, None, bases, channel_limits={"en": "0.1", "zh": "0.1"}, mix=mix)


@pytest.mark.long
def test_a_mix_of_its_own_is_asked_of_the_law_that_reads_shares(mix_fit: Fit) -> None:
    for part in (0.3, 0.7):
        answer = dcpt.recommend(mix_fit, target(en=part, zh=1 - part))
        assert answer.best is not None
        for name in ("en", "zh", "domain"):
            true = loss(name, 8e6, 4e7, answer.best.ratio, part)
            assert answer.best.losses[name].value == pytest.approx(true, abs=0.02)
        (flag,) = (flag for flag in answer.flags if flag.kind == "limit_on_each")
        assert flag.values["binding"] == ("zh" if part > 0.5 else "en")
        said = " ".join(dcpt.summarise(answer))
        assert f"The mix of the general text: en {100 * part:.0f} %" in said


@pytest.mark.long
def test_a_mix_that_a_law_needs_is_asked_for_by_name(mix_fit: Fit) -> None:
    with pytest.raises(InputError, match=r"many-sources of en.*--mix en=\.\.\. --mix zh=\.\.\."):
        ask(mix_fit, target())
    with pytest.raises(InputError, match="the parts sum to 120 %"):
        dcpt.recommend(mix_fit, target(en=0.6, zh=0.6))
    with pytest.raises(InputError, match="give the part of each of en, zh"):
        dcpt.recommend(mix_fit, target(en=1.0))
    answer = dcpt.recommend(mix_fit, target(en=0.95, zh=0.05))
    assert {"axis": "mix"} in [flag.subject for flag in answer.flags]


@pytest.mark.long
def test_the_mix_of_the_runs_is_kept_in_the_fit_s_file(mix_fit: Fit, tmp_path) -> None:
    assert mix_fit.general_mix["en"] == pytest.approx((0.2, 0.8))
    write_fit(mix_fit, tmp_path)
    assert load_fit(tmp_path).general_mix == mix_fit.general_mix


@pytest.mark.long
def test_predict_takes_a_mix(mix_fit: Fit, tmp_path) -> None:
    write_fit(mix_fit, tmp_path)
    asked = ["predict", str(tmp_path), "--n-params", "8M", "--n-tokens", "40M", "--json"]
    mix = ["--mix", "en=30%", "--mix", "zh=70%"]
    result = CliRunner().invoke(app, [*asked, *mix, "--ratio", "0.5"], catch_exceptions=False)
    found = {row["channel"]: row["loss"] for row in json.loads(result.stdout)["predictions"]}
    assert found["en"] == pytest.approx(loss("en", 8e6, 4e7, 0.5, 0.3), abs=0.02)
    with pytest.raises(InputError, match="give the share of domain text too"):
        CliRunner().invoke(app, [*asked, *mix], catch_exceptions=False)


def test_a_single_mix_is_that_of_the_target_and_no_law_knows_another(known_fit, target) -> None:
    mix = general_mix(make_runs((0.7,)))
    assert mix["en"] == pytest.approx((0.7, 0.7))
    fit = known_fit(general_channels=("en", "zh", "general_total"), general_mix=mix)
    asked, problems = check_mix(fit, target(), fit.phase_for_decisions)
    assert problems == []
    assert asked.mix == pytest.approx({"en": 0.7, "zh": 0.3})
    with pytest.raises(InputError, match="all runs have the mix en 70 %, zh 30 %, so no law"):
        dcpt.recommend(fit, target(mix={"en": 0.5, "zh": 0.5}))
    with pytest.raises(InputError, match="has no share_<channel> columns"):
        dcpt.recommend(known_fit(), target(mix={"en": 0.5, "zh": 0.5}))


def test_shares_that_no_law_reads_are_not_ignored() -> None:
    fitted = dcpt.fit(make_runs((0.7,)), "data-mixing", channels=["domain"], n_draws=1)
    with pytest.raises(InputError, match="share_en: no law of this fit reads the shares"):
        fitted.predict(n_params=8e6, n_tokens=4e7, ratio=0.5, share_en=0.2)


def test_a_table_of_one_general_channel_has_no_mix() -> None:
    runs = make_runs().drop(columns=["share_zh", "loss_zh"])
    assert general_mix(runs) == {}
    assert general_mix(make_runs().drop(columns="ratio")) == {}
