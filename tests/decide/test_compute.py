"""The best size for a given compute."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from known_truth import KnownFit
from typer.testing import CliRunner

import dcpt
from dcpt.cli import app
from dcpt.decide.compute import SizeAnswer, recommend_size, spread_bases
from dcpt.decide.equivalents import _reached
from dcpt.errors import InputError
from dcpt.pipeline.answer import fit_runs
from dcpt.pipeline.target import table_base
from dcpt.table.base_rows import TableBase, bases_by_size
from dcpt.table.schedules import Schedule

SIZES, TOKENS, RATIOS = (2e6, 8e6, 3.2e7), (5e6, 2e7, 8e7), (0.2, 0.4, 0.6, 0.8)
FLOPS = 6 * 8e6 * 2e7


def base_loss(n_params: float) -> float:
    return 3.0 * (n_params / 2e6) ** -0.04


def domain_loss(n_params: float, n_tokens: float, ratio: float) -> float:
    """Falls with both sizes alike, so the best size at a compute is inside the range."""
    large, long = (n_params / 2e6) ** -0.35, (ratio * n_tokens / 5e6) ** -0.35
    return 1.5 + 0.8 * large + 0.9 * long


def general_loss(n_params: float, n_tokens: float, ratio: float) -> float:
    return base_loss(n_params) + 0.05 * ratio / (1 - ratio) ** 0.7 * (n_tokens / 2e7) ** 0.2


def make_runs() -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for size, ratio in itertools.product(SIZES, RATIOS):
        run = {"run": f"n{size:g}-r{ratio}", "base": f"b{size:g}", "ratio": ratio, "n_params": size}
        start = {"n_tokens": 0, "phase": "base", "loss_general": base_loss(size)}
        rows.append(run | start | {"loss_domain": 5.0})
        for tokens in TOKENS:
            point = run | {"n_tokens": tokens, "phase": "constant"}
            for name, true in (("general", general_loss), ("domain", domain_loss)):
                point[f"loss_{name}"] = true(size, tokens, ratio) + rng.normal(0, 0.001)
            rows.append(point)
    return dcpt.load_runs(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    fit_runs(make_runs(), folder, law=["fx2-mon", "u10"], n_draws=20)
    return folder


def call(folder: Path, *words: str) -> Result:
    words = ("size", str(folder), *words, "--limit", "+3%")
    return CliRunner().invoke(app, words, catch_exceptions=False)


@pytest.mark.long
def test_the_best_size_and_share_are_those_of_the_truth(folder: Path) -> None:
    found = json.loads(call(folder, "--flops", f"{FLOPS:g}", "--json").stdout)
    options = {option["n_params"]: option for option in found["options"]}
    assert len(options) == 3 + 2 * 3
    true = {}
    for size, option in options.items():
        assert 6 * size * option["n_tokens"] == pytest.approx(FLOPS, rel=1e-6)
        if option["left_out"] is None:
            shares = np.linspace(0.01, 0.97, 500)
            allowed = 1.03 * base_loss(size)
            within = shares[[general_loss(size, option["n_tokens"], s) <= allowed for s in shares]]
            true[size] = domain_loss(size, option["n_tokens"], within[-1])
            there = domain_loss(size, option["n_tokens"], option["ratio"])
            assert option["minimized"] == pytest.approx(there, abs=0.03)
    best = found["size_interval"]["value"]
    assert true[best] <= min(true.values()) + 0.02
    assert SIZES[0] < best < SIZES[-1]
    assert found["size_interval"]["low"] <= best <= found["size_interval"]["high"]
    assert found["recommendation"]["target"]["n_params"] == best
    kept = json.loads((folder / "recommendation.json").read_text(encoding="utf-8"))
    assert kept["target"]["n_params"] == best


@pytest.mark.long
def test_compute_in_gpu_hours_and_sizes_that_are_left_out(folder: Path) -> None:
    hours = FLOPS / 3600 / 1e12
    words = ("--gpu-hours", f"{hours:.9f}", "--flops-per-second", "1e12")
    result = call(folder, *words)
    said = json.loads(call(folder, *words, "--json").stdout)
    start = {"recommended": "For", "tentative": "Tentative: for"}
    level = said["recommendation"]["evidence"]["level"]
    assert f"{start.get(level, 'Estimate: for')} 9.6e+14 FLOPs the best size is" in result.stdout
    small = json.loads(call(folder, "--flops", f"{6 * 2e6 * 5e6:g}", "--json").stdout)
    left_out = [option for option in small["options"] if option["left_out"]]
    assert left_out[-1]["n_params"] == 3.2e7
    assert (
        "more than 4 times outside the tokens of the runs (5M to 80M)" in left_out[-1]["left_out"]
    )
    with pytest.raises(InputError, match=r"32M parameters, .* tokens: more than 4 times outside"):
        call(folder, "--flops", "1e18")
    with pytest.raises(InputError, match=r"2M parameters, 0 tokens: .* not suffice for a token"):
        call(folder, "--flops", "1e6")
    with pytest.raises(InputError, match="limit is not known; give --limit") as refused:
        CliRunner().invoke(app, ("size", str(folder), *words), catch_exceptions=False)
    assert str(refused.value).count("--limit") == 1
    with pytest.raises(InputError, match="give --flops, or both --gpu-hours"):
        call(folder, "--gpu-hours", "3")


@pytest.mark.long
def test_a_share_is_worth_tokens(folder: Path) -> None:
    # The domain loss of the truth depends on ratio x tokens alone, at a given size.
    asked = dcpt.Target(8e6, 2e7, "+3%", {"general": base_loss(8e6)})
    answer = dcpt.recommend(dcpt.load_fit(folder), asked)
    assert answer.best is not None
    found = answer.equivalent
    assert found is not None
    assert found.share == 0.67 if answer.best.ratio > 0.585 else 0.5
    assert found.tokens.value == pytest.approx(answer.best.ratio / found.share, rel=0.1)
    assert found.tokens.low <= found.tokens.value <= found.tokens.high
    said = f"would need {found.tokens.value:.2f} times the tokens"
    assert said in " ".join(dcpt.summarise(answer))
    far = dcpt.recommend(dcpt.load_fit(folder), replace(asked, n_tokens=7e8)).equivalent
    assert far is not None
    assert far.tokens is None
    assert far.unknown["tokens"] == "the target lies too far outside the tokens of the runs"


@pytest.mark.long
def test_a_share_is_worth_parameters(folder: Path) -> None:
    asked = dcpt.Target(8e6, 2e7, "+3%", {"general": base_loss(8e6)})
    fit = dcpt.load_fit(folder)
    answer = dcpt.recommend(fit, asked)
    found = answer.equivalent
    assert answer.best is not None
    assert found is not None
    factors = np.geomspace(0.5, 4, 99)
    losses = [domain_loss(8e6 * factor, 2e7, found.share) for factor in factors]
    wanted = domain_loss(8e6, 2e7, answer.best.ratio)
    true = np.interp(-wanted, -np.array(losses), factors)
    assert found.parameters.value == pytest.approx(true, rel=0.1)
    assert found.parameters.low <= found.parameters.value <= found.parameters.high
    said = f"or {found.parameters.value:.2f} times the parameters"
    assert said in " ".join(dcpt.summarise(answer))
    large = replace(asked, n_params=3e9, base_losses={"general": base_loss(3e9)})
    far = dcpt.recommend(fit, large).equivalent
    assert far is not None
    assert far.parameters is None
    assert far.unknown["parameters"] == "the target lies too far outside the parameters of the runs"
    one_base = replace(fit, bases={name: losses[1:2] for name, losses in fit.bases.items()})
    alone = dcpt.recommend(one_base, asked).equivalent
    assert alone is not None
    assert alone.tokens is not None
    assert "the losses of a base of another size are not known" in alone.unknown["parameters"]


@pytest.mark.long
def test_sizes_are_counted_as_the_fit_counts_them(tmp_path: Path) -> None:
    runs = make_runs().rename(columns={"n_params": "n_params_non_embedding"})
    runs["n_params"] = runs["n_params_non_embedding"] + 1e8
    column = "n_params_non_embedding"
    fit_runs(runs, tmp_path, law=["fx2-mon", "u10"], n_draws=20, size_column=column)
    result = call(tmp_path, "--flops", f"{FLOPS:g}")
    assert f"FLOPs (6 per token and {column}) the best size is" in result.stdout
    assert table_base(tmp_path, 8e6) is not None
    found = json.loads(call(tmp_path, "--flops", f"{FLOPS:g}", "--json").stdout)
    assert [option["n_params"] for option in found["options"]][::4] == list(SIZES)


def test_the_factor_is_interpolated_in_its_logarithm() -> None:
    factors, losses = np.array([0.5, 1.0, 2.0]), np.array([[3.0, 2.0, 1.0]] * 3)
    found = _reached(factors, losses, np.array([1.5, 0.5, 3.5]))
    assert found[0] == pytest.approx(2**0.5)
    assert np.isnan(found[1:]).all()  # never, and already before the first


def test_sizes_between_bases_lie_on_their_power_law() -> None:
    bases = [
        TableBase(4e6, {"general": 3.0, "domain": 8.0}, 4e-3, None),
        TableBase(1e6, {"general": 3.3}, 8e-3, 1e9),
    ]
    found = spread_bases(bases)
    assert [is_interpolated for _, is_interpolated in found] == [False, True, True, True, False]
    middle = found[2][0]
    assert middle.n_params == pytest.approx(2e6)
    assert middle.losses == {"general": pytest.approx((3.0 * 3.3) ** 0.5)}
    assert middle.base_peak_learning_rate == pytest.approx((4e-3 * 8e-3) ** 0.5)
    assert middle.base_n_tokens is None


def test_tokens_are_compared_with_the_runs_that_end_as_the_target_does(
    known_fit, target, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = {"annealed": 2e6, "constant": 44e6}
    monkeypatch.setattr(
        KnownFit, "ranges_in", lambda fit, phase: {**fit.ranges, "n_tokens": (1e6, longest[phase])}
    )
    flat = Schedule.model_validate([{"to_step": 100, "lr_from": 1e-3, "shape": "constant"}])
    monkeypatch.setattr(KnownFit, "phase_for_decisions", "annealed")
    fit = known_fit(annealed=False, schedules={"flat": flat}, batch_tokens=1e5)
    bases = [TableBase(size, {"general": 2.8}, 2e-3, 1e9) for size in (2e6, 8e6)]

    def answer(schedule: str | None) -> SizeAnswer:
        def make_target(base: TableBase, n_tokens: float) -> dcpt.Target:
            return target(n_params=base.n_params, n_tokens=n_tokens, schedule=schedule)

        return recommend_size(fit, 6 * 2e6 * 4e7, bases, make_target)

    assert [option.left_out for option in answer("flat").options] == [None] * 5
    with pytest.raises(InputError, match=r"outside the tokens of the runs \(1M to 2M\)"):
        answer(None)


def test_bases_of_a_table_by_size() -> None:
    assert [base.n_params for base in bases_by_size(make_runs())] == list(SIZES)
    runs = make_runs()
    assert bases_by_size(runs[runs["n_tokens"] > 0]) == []
