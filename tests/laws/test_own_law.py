"""A user's own law, a function and a record, in the API and on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import dcpt
from dcpt.cli import app
from dcpt.flags import show_flags
from dcpt.laws import LAWS, Points, Range, References, write_fit
from dcpt.laws.menu import laws_named
from dcpt.table import write_runs

TRUTH = {"E": 1.2, "A": 0.3, "s": 0.5, "B": 0.4, "t": 0.7}
MODULE = "from test_own_law import GENERAL as general, MINE as mine\nnot_a_law = 3\n"


def formula(points: Points, p: Mapping[str, Any], references: References) -> Any:
    tokens = points.get("n_tokens") / references.n_tokens
    return p["E"] + p["A"] * points.get("share") ** -p["s"] + p["B"] * tokens ** -p["t"]


def number(name: str, role: Any, low: float, high: float, scale: Any = "linear") -> dcpt.Parameter:
    return dcpt.Parameter(name, role, low, high, "1", scale, name)


PARAMETERS = (
    number("E", "amplitude", 0, 60),
    number("A", "amplitude", 0, 60),
    number("s", "nonlinear", 0.02, 4, "log"),
    number("B", "amplitude", 0, 60),
    number("t", "nonlinear", 0.03, 2.5, "log"),
)
MINE = dcpt.Law(
    name="mine",
    formula="E + A x^-s + B d^-t",
    source="own",
    side="domain",
    phases=("constant",),
    needs=("n_tokens", "share"),
    one_value=("n_params",),
    parameters=PARAMETERS,
    loss=formula,
)
GENERAL = replace(LAWS["annealed-general"], name="my-general")


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    """Losses that follow the law exactly; the geometric median of the tokens is its reference."""
    rows = []
    for ratio in (0.1, 0.25, 0.5, 0.75, 0.9):
        for tokens in (1e6, 2e6, 4e6, 8e6, 16e6):
            loss = TRUTH["E"] + TRUTH["A"] * ratio ** -TRUTH["s"]
            loss += TRUTH["B"] * (tokens / 4e6) ** -TRUTH["t"]
            rows.append({"run": f"r{ratio}", "n_tokens": tokens, "ratio": ratio})
            rows[-1] |= {"loss_domain": loss, "phase": "constant", "n_params": 1e6}
    return pd.DataFrame(rows)


QUESTION = {"n_params": 1e6, "n_tokens": 8e6, "ratio": 0.5}


def test_a_record_is_fitted_like_a_built_in_law(runs: pd.DataFrame) -> None:
    fitted = dcpt.fit(runs, MINE, n_draws=5)
    (record,) = fitted.records()
    assert record["parameters"] == pytest.approx(TRUTH, rel=1e-4)
    predicted = fitted.predict(**QUESTION)["loss"].iloc[0]
    truth = 1.2 + 0.3 * 0.5**-0.5 + 0.4 * 2**-0.7
    assert predicted == pytest.approx(truth, abs=1e-5)


def test_it_is_weighted_together_with_the_built_in_laws(runs: pd.DataFrame) -> None:
    fitted = dcpt.fit(runs, ["auto", MINE], n_draws=5)
    weights = fitted.weights("domain")
    assert set(weights) > {"mine", "d-cpt"}
    held_out = {record["law"]: record["held_out"] for record in fitted.records()}
    assert max(held_out["mine"].values()) < 1e-5
    assert held_out["mine"]["ratios"] < 0.1 * held_out["bimix"]["ratios"]


def test_a_law_named_explicitly_is_not_left_out_silently(runs: pd.DataFrame) -> None:
    sizes = [runs.assign(n_params=n, run=runs["run"] + f"-{n}") for n in (1e6, 2e6, 4e6)]
    table = pd.concat(sizes)
    assert "d-cpt" in dcpt.fit(table, n_draws=5).weights("domain")
    with pytest.raises(dcpt.InputError, match="mine: it describes a single n_params") as caught:
        dcpt.fit(table, ["auto", MINE], n_draws=5)
    # Laws that auto leaves out are not reported as problems.
    assert "anchored-domain: " not in str(caught.value)


def test_the_fit_is_read_back_with_its_law_only(runs: pd.DataFrame, tmp_path: Path) -> None:
    fitted = dcpt.fit(runs, ["d-cpt", MINE], n_draws=5)
    write_fit(fitted, tmp_path)
    with pytest.raises(dcpt.InputError, match=r"uses the law mine, .* laws= or --law module:name"):
        dcpt.load_fit(tmp_path)
    back = dcpt.load_fit(tmp_path, laws=[MINE])
    assert back.predict(**QUESTION).equals(fitted.predict(**QUESTION))


@pytest.mark.parametrize(
    "other",
    [
        replace(MINE, formula="E + A x^-s"),
        replace(MINE, parameters=PARAMETERS[::-1]),
        replace(MINE, parameters=PARAMETERS[:-1]),
    ],
)
def test_another_law_of_the_same_name_is_refused(
    runs: pd.DataFrame, tmp_path: Path, other: dcpt.Law
) -> None:
    write_fit(dcpt.fit(runs, MINE, n_draws=5), tmp_path)
    with pytest.raises(dcpt.InputError, match="the law mine was fitted as E"):
        dcpt.load_fit(tmp_path, laws=[other])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with a module of laws."""
    (tmp_path / "laws_of_mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "path", [entry for entry in sys.path if entry]
    )  # as in a console script
    yield tmp_path
    sys.modules.pop("laws_of_mine", None)


def call(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def call_json(*words: str) -> Any:
    return json.loads(call(*words, "--json"))


def test_commands_accept_it_by_module_and_name(runs: pd.DataFrame, place: Path) -> None:
    write_runs(runs, Path("runs.csv"))
    law = ("--law", "laws_of_mine:mine")
    (found,) = call_json("laws", "laws_of_mine:mine")["laws"]
    assert [parameter["name"] for parameter in found["parameters"]] == list(TRUTH)
    (compared,) = call_json("compare", "runs.csv", "--law", "auto", *law)["comparisons"]
    assert compared["laws"][-1]["law"] == "mine"
    (record,) = call_json("fit", "runs.csv", *law, "--draws", "20", "--out", "fit")["fits"]
    assert record["parameters"] == pytest.approx(TRUTH, rel=1e-4)
    question = ("predict", "fit", "--n-params", "1M", "--n-tokens", "8M", "--ratio", "0.5")
    (row,) = call_json(*question, *law)["predictions"]
    assert row["loss"] == pytest.approx(1.2 + 0.3 * 0.5**-0.5 + 0.4 * 2**-0.7, abs=1e-5)
    with pytest.raises(dcpt.InputError, match="--law module:name"):
        call_json(*question)
    with pytest.raises(dcpt.InputError, match="has the type int; it must be a"):
        call_json(*question, "--law", "laws_of_mine:not_a_law")
    with pytest.raises(dcpt.InputError, match="cannot be imported"):
        call_json(*question, "--law", "laws_of_mine:other")


def test_decisions_and_reports_accept_it_too(ladder: pd.DataFrame, place: Path) -> None:
    write_runs(ladder, Path("ladder.csv"))
    law = ("--law", "laws_of_mine:general")
    call("fit", "ladder.csv", *law, "--law", "annealed-domain-lam", "--draws", "20", "--out", "fit")
    target = ("--n-params", "1.105M", "--n-tokens", "225k", "--limit", "+3%")
    base = ("--base-loss", "general=3.04", "--base-peak-learning-rate", "3e-3")
    answer = call_json("recommend", "fit", *target, *base, *law)
    assert 0 < answer["best"]["ratio"] < 1
    assert "my-general" in Path(call("report", "fit", *law).split()[0]).read_text("utf-8")
    for words in (("recommend", "fit", *target, *base), ("report", "fit")):
        with pytest.raises(dcpt.InputError, match="uses the law my-general"):
            call(*words)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"name": "d-cpt"}, "two laws have the name d-cpt; rename yours"),
        ({"name": "my/law"}, "law my/law: the name must consist of letters"),
        ({"side": "domains"}, "side is 'domains'; write one of general, domain, any"),
        ({"phases": ("annealing",)}, "phases are ('annealing',); write a tuple of constant"),
        ({"needs": ("tokens",)}, "tokens is not a field of the points; the fields are"),
        ({"holds_on": (Range("size", 0, 1),)}, "size is not a field of the points"),
        ({"axes": {"n_params/lr": 3}}, "lr is not a field of the points"),
        ({"parameters": ()}, "it must have parameters with distinct names"),
        ({"parameters": PARAMETERS[:1] * 2}, "with distinct names"),
    ],
)
def test_wrong_records_are_refused(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(dcpt.InputError) as caught:
        laws_named(replace(MINE, **changed))
    assert expected in str(caught.value)


def test_all_wrong_parameters_are_reported() -> None:
    wrong = (
        number("a", "linear", 0, 1),
        number("b", "nonlinear", 0, 1, "log"),
        number("c", "nonlinear", 1, 0),
        number("d", "nonlinear", 0, np.inf),
        number("e", "nonlinear", 0, 1, "exp"),
    )
    with pytest.raises(dcpt.InputError) as caught:
        laws_named(replace(MINE, parameters=wrong))
    assert [line.partition(": ")[2].partition(":")[0] for line in caught.value.problems] == [
        f"parameter {name}" for name in "abcde"
    ]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda points, p, references: p["F"], "fails on 25 points (KeyError: 'F')"),
        (lambda points, p, references: p["E"] * np.ones(3), "fails on 25 points (ValueError"),
        (lambda points, p, references: p["E"] ** 2, "is not linear in E"),
        (lambda points, p, references: np.cos(p["E"]), "uses numpy.cos on its parameters"),
    ],
)
def test_a_formula_that_contradicts_its_record_is_refused(
    runs: pd.DataFrame, function: Any, expected: str
) -> None:
    with pytest.raises(dcpt.InputError) as caught:
        dcpt.fit(runs, replace(MINE, loss=function), n_draws=5)
    assert expected in str(caught.value)


def test_the_built_in_records_are_valid() -> None:
    from dcpt.laws.menu import check_record

    for law in LAWS.values():
        check_record(law)


def test_a_summary_prints_a_line_per_law_and_the_warnings(runs: pd.DataFrame) -> None:
    fitted = dcpt.fit(runs, ["d-cpt", MINE], n_draws=5)
    summary = fitted.summary()
    assert list(summary.table["law"]) == ["d-cpt", "mine"]
    assert list(summary.table["n_fitted"]) == [7, 5]
    lines = str(summary).splitlines()
    assert lines[1].split()[:5] == ["channel", "law", "n_points", "n_fitted", "objective"]
    assert [line.split()[:2] for line in lines[2:4]] == [["domain", "d-cpt"], ["domain", "mine"]]
    assert lines[4:] == show_flags(summary.flags)
    assert any(line.startswith("Warning: The runs have one size") for line in lines[4:])
    assert "<td>mine</td>" in summary._repr_html_()
