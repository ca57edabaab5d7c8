"""A run with wrong losses is named, the fit without it is kept, and healthy tables name none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ladder import make_ladder

from dcpt.bundled import bundled_runs
from dcpt.flags import Flag
from dcpt.laws import Fit, fit, load_fit, write_fit

LAWS = ["joint-general", "trained-domain"]


def with_fault(runs: pd.DataFrame, run: str, **faults: float) -> pd.DataFrame:
    """Losses of the trained points of a run, off by a number of nats per channel."""
    bad = runs.copy()
    for channel, nats in faults.items():
        bad.loc[(bad["run"] == run) & (bad["n_tokens"] > 0), f"loss_{channel}"] += nats
    return bad


def fit_few(runs: pd.DataFrame) -> Fit:
    return fit(runs, LAWS, n_draws=5)


def named(found: Fit) -> Flag | None:
    return next((flag for flag in found.flags if flag.kind == "one_run_off"), None)


def inner_run(runs: pd.DataFrame) -> str:
    """A run of the smallest size in the middle of its shares and rates."""
    first = runs.groupby("run").first()
    middle = first[(first["ratio"] == 0.5) & (first["n_params"] == first["n_params"].min())]
    return str(middle["learning_rate"].sort_values().index[len(middle) // 2])


def test_a_bad_run_is_named_with_its_gap_in_each_channel(ladder: pd.DataFrame) -> None:
    run = inner_run(ladder)
    flag = named(fit_few(with_fault(ladder, run, general=0.25, domain=-0.4)))
    assert flag is not None
    assert flag.subject == {"run": run}
    assert flag.values["gaps"]["general"] == pytest.approx(0.25, abs=0.03)
    assert flag.values["gaps"]["domain"] == pytest.approx(-0.4, abs=0.05)
    assert "nats above them and its domain loss is" in flag.sentence
    assert "give its rows a reason in the column excluded" in flag.sentence


def test_a_channel_in_which_the_run_agrees_is_not_named(ladder: pd.DataFrame) -> None:
    flag = named(fit_few(with_fault(ladder, inner_run(ladder), domain=0.4)))
    assert flag is not None
    assert list(flag.values["gaps"]) == ["domain"]


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_ladder_names_no_run(seed: int) -> None:
    found = fit_few(make_ladder(seed=seed))
    assert named(found) is None
    assert found.without_run() is None


@pytest.mark.long
@pytest.mark.parametrize("name", ["code", "code_lr", "zh_annealed"])
def test_bundled_runs_name_no_run(name: str) -> None:
    assert named(fit(bundled_runs(name), n_draws=2)) is None


def test_two_bad_runs_are_not_called_one(ladder: pd.DataFrame) -> None:
    run, other = inner_run(ladder), ladder["run"].iloc[-1]
    bad = with_fault(with_fault(ladder, run, general=0.25), other, general=0.25)
    assert named(fit_few(bad)) is None


def test_runs_of_a_single_share_are_not_judged() -> None:
    rows = [
        {"run": f"{n:g}-{rate:g}", "n_params": n, "n_tokens": d, "phase": "constant"}
        | {"ratio": 0.5, "loss_general": 2 + (n / 1e8) ** -0.3 + (d / 1e9) ** -0.3}
        for n in (1e8, 2e8, 4e8, 8e8)
        for rate in (1, 2, 3)
        for d in (1e9, 2e9, 4e9, 8e9)
    ]
    bad = with_fault(pd.DataFrame(rows), "4e+08-2", general=0.5)
    assert named(fit(bad, "chinchilla", n_draws=2)) is None


def test_the_fit_without_the_run_predicts_as_if_it_had_never_been_there(
    ladder: pd.DataFrame, tmp_path: Path
) -> None:
    run = inner_run(ladder)
    bad = fit_few(with_fault(ladder, run, general=0.25, domain=0.4))
    rest = bad.without_run()
    assert rest is not None
    asked = {"n_params": 385e3, "n_tokens": 225e3, "ratio": 0.5, "learning_rate": 1e-3}
    base = {"base_loss_general": 3.2, "base_peak_learning_rate": 4e-3}
    without = fit_few(ladder[ladder["run"] != run]).predict(**asked, **base)["loss"]
    assert np.allclose(rest.predict(**asked, **base)["loss"], without, atol=5e-3)
    assert named(rest) is None
    write_fit(bad, tmp_path)
    back = load_fit(tmp_path).without_run()
    assert back is not None
    assert np.array_equal(back.predict(**asked, **base), rest.predict(**asked, **base))
