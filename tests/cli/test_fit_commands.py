"""The commands on laws: the menu, which laws suit a table, held-out comparison, fits, questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.errors import InputError
from dcpt.laws import LAWS
from dcpt.table import write_runs

ANY_LAW = ("--law", "d-cpt", "--law", "bimix")


def dcpt(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def dcpt_json(*words: object) -> Any:
    return json.loads(dcpt(*words, "--json"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one size at one learning rate."""
    path = tmp_path_factory.mktemp("table") / "runs.csv"
    write_runs(bundled_runs("code").query("size == '6.6M' and learning_rate == 0.0006"), path)
    return path


@pytest.fixture(scope="module")
def folder(table: Path) -> Path:
    """A fit of that table."""
    dcpt("fit", table, *ANY_LAW, "--channel", "domain", "--draws", 20, "--out", table.parent / "f")
    return table.parent / "f"


# ------------------------------------------------------------------------------------ dcpt laws
def test_the_menu_says_of_every_law_what_it_needs() -> None:
    output = dcpt("laws")
    for law in LAWS.values():
        assert f"{law.name}: " in output
        assert law.formula in output
        assert law.source in output
    assert "unique_tokens_<channel>" in output
    assert "1 / sum_j K_j r_j^g_j" in output
    records = {law["name"]: law for law in dcpt_json("laws")["laws"]}
    assert records["d-cpt"]["needs"] == ["n_tokens", "ratio"]
    assert records["d-cpt"]["needs_values"] == {"n_params": 2, "n_tokens": 2, "ratio": 3}
    (gamma,) = [
        parameter for parameter in records["d-cpt"]["parameters"] if parameter["name"] == "gamma"
    ]
    assert (gamma["lower"], gamma["upper"], gamma["role"]) == (0.02, 4.0, "nonlinear")


def test_one_law_is_shown_with_its_parameters_and_letters() -> None:
    output = dcpt("laws", "joint-general")
    for parameter in LAWS["joint-general"].parameters:
        assert f"{parameter.lower:g} to {parameter.upper:g}" in output
    assert "gain from general text" in output
    assert "Rp: LR / (peak learning rate of the base's pre-training)" in output
    assert "epochs" not in output  # its e is that of the exponential
    assert output == dcpt("laws", "--law", "joint-general")


def test_a_table_says_which_laws_suit_it_and_why_the_others_do_not(table: Path) -> None:
    found = dcpt_json("laws", table)["channels"]
    assert set(found) == {"general", "domain"}
    assert set(found["domain"]) == set(LAWS)
    assert found["domain"]["d-cpt"] is None
    assert found["domain"]["joint-general"] == "it is for the general side"
    assert "annealed" in found["domain"]["annealed-domain-lam"]
    output = dcpt(
        "laws", table, "--channel", "domain", "--law", "d-cpt", "--law", "annealed-domain"
    )
    assert output.startswith("domain: can fit d-cpt\n  not annealed-domain: ")
    assert "general" not in output


# --------------------------------------------------------------------------------- dcpt compare
def test_laws_are_compared_on_what_they_never_saw(table: Path) -> None:
    (found,) = dcpt_json("compare", table, *ANY_LAW, "--channel", "domain")["comparisons"]
    assert (found["channel"], found["phase"]) == ("domain", "constant")
    laws = {law["law"]: law for law in found["laws"]}
    assert sum(law["weight"] for law in laws.values()) == pytest.approx(1)
    # One size: the terms in N have nothing to fit.
    assert {name: law["n_fitted"] for name, law in laws.items()} == {"d-cpt": 7, "bimix": 4}
    assert set(found["stack"]) == {"longest_d", "ratios", "outer_ratios"}

    def miss(errors: dict[str, float]) -> float:
        return float(np.mean(np.square(list(errors.values()))))

    # Laws within 1.75 times the lowest error share the weight, so their mean is no worse than that.
    best = min(laws, key=lambda name: miss(laws[name]["held_out"]))
    assert miss(found["stack"]) <= 1.75**2 * miss(laws[best]["held_out"])
    errors = {name: miss(law["held_out"]) for name, law in laws.items()}
    near = [name for name in laws if errors[name] <= 1.75**2 * errors[best]]
    assert [name for name, law in laws.items() if law["weight"] > 0] == near
    assert found["choice"] == best
    fits = dcpt_json("fit", table, *ANY_LAW, "--channel", "domain", "--draws", 20)["fits"]
    assert {law["law"]: law["held_out"] for law in fits} == {
        name: law["held_out"] for name, law in laws.items()
    }


def test_people_see_the_best_law_first(table: Path) -> None:
    lines = dcpt("compare", table, *ANY_LAW, "--channel", "domain").splitlines()
    assert lines[0].startswith("domain, constant points: held-out error in nats")
    assert lines[1].split() == [*("law", "fitted", "tokens", "ratio", "outer", "ratio", "weight")]
    rows = [line.split() for line in lines[2:4]]
    assert rows[0][:2] == [rows[0][0], "*"]
    errors = [[float(cell) for cell in row[-4:-1]] for row in rows]
    assert np.square(errors[0]).sum() < np.square(errors[1]).sum()
    assert lines[4].split()[:2] == ["all,", "weighted"]
    assert "Warning: The runs have one size" in "\n".join(lines)


# ------------------------------------------------------------------------------------- dcpt fit
def test_fit_holds_bounds_and_weighs_as_it_is_told(table: Path) -> None:
    words = ("fit", table, "--law", "d-cpt", "--channel", "domain", "--draws", 20)
    (free,) = dcpt_json(*words)["fits"]
    (held,) = dcpt_json(*words, "--fixed", "eta=1.5", "--bounds", "gamma=0.3:0.4")["fits"]
    assert held["parameters"]["eta"] == 1.5
    assert 0.3 <= held["parameters"]["gamma"] <= 0.4
    assert held["n_fitted"] == free["n_fitted"] - 1
    assert held["objective"] > free["objective"]
    (squares,) = dcpt_json(*words, "--delta", "inf")["fits"]
    assert squares["objective"] < 1e-2
    assert squares["parameters"] != free["parameters"]


@pytest.mark.parametrize(
    ("option", "value", "output"),
    [
        ("--fixed", "eta", "--fixed eta: write it as kappa=0.7"),
        ("--fixed", "eta=high", "--fixed eta: 'high' is not a finite number"),
        ("--fixed", "eat=1", "parameter eat is in none of the laws fitted"),
        ("--bounds", "gamma=1", "--bounds gamma=1: write it as gamma=0.1:2"),
        ("--bounds", "gamma=2:1", r"bounds of d-cpt.gamma are \(2, 1\)"),
        ("--bounds", "gamma=0.1:inf", "'inf' is not a finite number"),
        ("--delta", "0", "delta is 0.0; it must be a number above 0"),
        ("--law", "d-cpt2", "law d-cpt2 is not known; did you mean 'd-cpt'"),
    ],
)
def test_wrong_options_of_fit_are_refused(
    table: Path, option: str, value: str, output: str
) -> None:
    with pytest.raises(InputError, match=output):
        dcpt("fit", table, "--law", "d-cpt", "--channel", "domain", option, value)


def test_a_name_given_twice_is_refused(table: Path) -> None:
    with pytest.raises(InputError, match="--fixed names eta twice"):
        dcpt("fit", table, "--law", "d-cpt", "--fixed", "eta=1", "--fixed", "eta=2")


def annealed_losses(rates: np.ndarray) -> np.ndarray:
    """2 + S1^-.5 - .5 S2 after every step, S2 by its recursion (arXiv 2408.11029)."""
    momentum, area, loss = 0.0, 0.0, []
    for step, rate in enumerate(rates):
        momentum = 0.999 * momentum + ((rates[step - 1] if step else 0.0) - rate)
        area += momentum
        loss.append(2 + rates[: step + 1].sum() ** -0.5 - 0.5 * area)
    return np.array(loss)


def test_schedules_give_the_laws_of_a_learning_rate_history_what_they_need(
    tmp_path: Path,
) -> None:
    flat = {"shape": "constant", "lr_from": 1e-3}
    fall = {"shape": "linear", "to_step": 1200, "lr_from": 1e-3, "lr_to": 0}
    schedules = {"flat": [{**flat, "to_step": 1200}], "fall": [{**flat, "to_step": 600}, fall]}
    falling = np.append(np.full(600, 1e-3), np.linspace(1e-3, 0, 601)[1:])
    losses = {"flat": annealed_losses(np.full(1200, 1e-3)), "fall": annealed_losses(falling)}
    rows = [
        {"run": name, "schedule": name, "n_tokens": step * 1000, "batch_tokens": 1000}
        | {"loss_domain": losses[name][step - 1], "phase": "constant"}
        for name in schedules
        for step in range(100, 1201, 100)
    ]
    write_runs(pd.DataFrame(rows), tmp_path / "runs.csv")
    (tmp_path / "schedules.json").write_text(json.dumps(schedules))
    given, law = ("--schedules", tmp_path / "schedules.json"), ("--law", "lr-annealing")
    without = dcpt_json("laws", tmp_path / "runs.csv", *law)["channels"]["domain"]
    assert "schedule" in without["lr-annealing"]
    found = dcpt_json("laws", tmp_path / "runs.csv", *law, *given)["channels"]["domain"]
    assert found == {"lr-annealing": None}
    (compared,) = dcpt_json("compare", tmp_path / "runs.csv", *law, *given)["comparisons"]
    assert compared["laws"][0]["held_out"]["longest_d"] < 1e-3
    out = ("--out", tmp_path / "fit", "--draws", 20)
    (fitted,) = dcpt_json("fit", tmp_path / "runs.csv", *law, *given, *out)["fits"]
    assert fitted["n_points"] == 24
    words = ("predict", tmp_path / "fit", "--n-tokens", "1.1M", "--batch-tokens", 1000, *given)
    for name in schedules:
        (row,) = dcpt_json(*words, "--schedule", name)["predictions"]
        assert row["loss"] == pytest.approx(losses[name][1099], abs=1e-3)
    with pytest.raises(InputError, match="'steep' is not among the schedules given"):
        dcpt(*words, "--schedule", "steep")


# --------------------------------------------------------------------------------- dcpt predict
def test_all_that_is_wrong_with_a_question_is_said_at_once(folder: Path) -> None:
    words = ("--n-params", 7, "--n-tokens", "20M", "--ratio", 50, "--learning-rate", 3)
    with pytest.raises(InputError) as caught:
        dcpt("predict", folder, *words, "--base-loss", "domain=-1", "--phase", "end")
    output = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    assert "n_params 7 is below 1,000" in output
    assert "7 looks like 7B, which is written 7000000000" in output
    assert "ratio 50 lies outside 0..1" in output
    assert "learning_rate 3 is not a learning rate in (0, 1]" in output
    assert "base_loss_domain -1 is not a loss > 0" in output
    assert "phase 'end' cannot be predicted" in output


def test_a_ratio_may_be_written_in_percent(folder: Path) -> None:
    asked = (
        "predict",
        folder,
        "--n-params",
        "6622464",
        "--n-tokens",
        "20M",
        "--learning-rate",
        6e-4,
    )
    by_percent = dcpt_json(*asked, "--ratio", "40%")
    assert by_percent["predictions"] == dcpt_json(*asked, "--ratio", 0.4)["predictions"]
    with pytest.raises(InputError, match="--ratio 120%: a share lies between 0 and 1"):
        dcpt(*asked, "--ratio", "120%")
    with pytest.raises(InputError, match=r"--ratio: 'half' is not a finite number; .* 0.25 or 25%"):
        dcpt(*asked, "--ratio", "half")


def test_predict_warns_in_words_where_the_runs_did_not_go(folder: Path) -> None:
    asked = ("predict", folder, "--n-params", "6622464", "--learning-rate", "6e-4")
    inside = dcpt_json(*asked, "--n-tokens", "20M", "--ratio", 0.4)
    assert inside["flags"] == []
    beyond = dcpt_json(*asked, "--n-tokens", "200M", "--ratio", 0.4)
    (flag,) = beyond["flags"]
    assert (flag["kind"], flag["subject"]) == ("extrapolates", {"axis": "n_tokens"})
    assert flag["sentence"].startswith("n_tokens lies outside the range of the runs")
    output = dcpt(*asked, "--n-tokens", "200M", "--ratio", 0.4, "--ratio", 0.5)
    assert f"Warning: {flag['sentence']}" in output
    (row,) = beyond["predictions"]
    assert row["low"] < row["loss"] < row["high"]


def test_the_base_itself_is_not_predicted(folder: Path) -> None:
    with pytest.raises(InputError, match="n_tokens 0 is the base before CPT"):
        dcpt("predict", folder, "--n-params", 6622464, "--n-tokens", 0, "--ratio", 0.5)


def test_n_is_chosen_by_its_column(tmp_path: Path) -> None:
    runs = bundled_runs("code")
    write_runs(runs, tmp_path / "both.csv")
    write_runs(runs.drop(columns="n_params"), tmp_path / "other.csv")
    words = (
        "--law",
        "d-cpt-d0",
        "--channel",
        "domain",
        "--draws",
        20,
        "--without",
        "learning_rate",
    )
    fits = {
        name: dcpt_json("fit", tmp_path / f"{name}.csv", *words, *more)
        for name, more in {
            "both": (),
            "other": (),
        }.items()
    }
    chosen = dcpt_json(
        "fit", tmp_path / "both.csv", *words, "--size-column", "n_params_non_embedding"
    )
    assert fits["both"]["size_column"] == "n_params"
    assert fits["other"]["size_column"] == chosen["size_column"] == "n_params_non_embedding"
    assert fits["other"]["fits"][0]["parameters"] == chosen["fits"][0]["parameters"]
    assert fits["both"]["fits"][0]["parameters"] != chosen["fits"][0]["parameters"]
    assert "(N: n_params_non_embedding)" in dcpt("fit", tmp_path / "other.csv", *words)
    with pytest.raises(InputError, match="size column 'n_params_active' is not in the table"):
        dcpt("fit", tmp_path / "both.csv", *words, "--size-column", "n_params_active")


def test_a_column_is_left_out(table: Path) -> None:
    words = ("fit", table, "--law", "d-cpt", "--channel", "domain", "--draws", 20)
    kinds = {flag["kind"] for flag in dcpt_json(*words, "--without", "learning_rate")["flags"]}
    assert "no_learning_rates" in kinds
    with pytest.raises(InputError, match="--without rate: the table has no such column"):
        dcpt(*words, "--without", "rate")
    with pytest.raises(InputError, match="--without n_tokens: every fit needs this column"):
        dcpt(*words, "--without", "n_tokens")
