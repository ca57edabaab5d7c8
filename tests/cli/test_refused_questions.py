"""What ``predict`` and ``recommend`` take from the study, the table and the recommendation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tiny_study import write_tiny_study
from typer.testing import CliRunner

from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.errors import InputError
from dcpt.table import write_runs

OWN_TARGET = "target: {n_params: 6.6M, tokens: 44M, limit: +3%}"


def call(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def losses(*words: object) -> dict[str, Any]:
    found = json.loads(call("predict", *words, "--json").stdout)["predictions"]
    return {row["channel"]: row for row in found}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study about 6.6M parameters, with a fit of the bundled runs in its folder."""
    folder = tmp_path_factory.mktemp("study")
    file = write_tiny_study(folder)
    text = file.read_text(encoding="utf-8").partition("target:")[0]
    file.write_text(f"{text}{OWN_TARGET}\n", encoding="utf-8")
    call("prepare", file, "--workers", 1)
    write_runs(bundled_runs("zh_annealed"), folder / "runs.csv")
    call("fit", folder / "runs.csv", "--out", folder / "fit", "--draws", 20)
    return file


def test_the_base_s_losses_are_those_of_the_table(study: Path) -> None:
    asked = ("--n-params", "6.6M", "--n-tokens", "44M", "--ratio", 0.5, "--learning-rate", 9e-4)
    found = losses(study.parent / "fit", *asked)
    base = found["general"]["base_loss_general"]
    assert base == pytest.approx(2.9787, abs=2e-4)
    given = ("--base-loss", f"general={base}", "--base-peak-learning-rate", 2e-3)
    assert losses(study.parent / "fit", *asked, *given)["general"]["loss"] == pytest.approx(
        found["general"]["loss"], abs=1e-9
    )
    output = call("predict", study.parent / "fit", *asked).stderr
    assert "note: the base's losses are those of the table" in output
    answer = json.loads(
        call("recommend", study.parent / "fit", *asked[:4], "--limit", "+3%", "--json").stdout
    )
    assert answer["target"]["base_losses"]["general"] == base


def test_a_study_s_target_is_what_predict_is_asked(study: Path) -> None:
    asked = ("--ratio", 0.5, "--learning-rate", 9e-4)
    by_target = losses(study, *asked)
    by_hand = losses(study.parent / "fit", *asked, "--n-params", "6.6M", "--n-tokens", "44M")
    # A study knows its texts too, so its question has two more columns.
    assert by_target["domain"].keys() - by_hand["domain"].keys() == {
        "unique_tokens_domain",
        "unique_tokens_general",
    }
    for channel, row in by_hand.items():
        assert row.items() <= by_target[channel].items()
    shorter = losses(study, *asked, "--n-tokens", "22M")
    assert shorter["domain"]["loss"] > by_target["domain"]["loss"]


def test_without_a_ratio_the_recommended_pair_is_predicted(study: Path) -> None:
    (study.parent / "fit" / "recommendation.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="ratio"):
        call("predict", study)
    best = json.loads(call("recommend", study, "--json").stdout)["best"]
    found = losses(study)["domain"]
    assert (found["ratio"], found["learning_rate"]) == (best["ratio"], best["learning_rate"])
    assert found["loss"] == pytest.approx(best["losses"]["domain"]["value"])
    # Another question than that of the recommendation.
    with pytest.raises(InputError, match="ratio"):
        call("predict", study, "--n-tokens", "22M")


def test_a_table_that_names_no_schedule_is_asked_for_it(tmp_path: Path) -> None:
    runs = bundled_runs("code")
    write_runs(runs, tmp_path / "named.csv")
    assert "column schedule" not in call("runs", tmp_path / "named.csv").stderr
    write_runs(runs.drop(columns="phase"), tmp_path / "unnamed.csv")
    output = call("runs", tmp_path / "unnamed.csv")
    assert "name each run's schedule in the column schedule" in output.stderr
    assert "phases: not in the table" in output.stdout


def test_a_recommendation_for_another_target_than_the_study_s_is_said(study: Path) -> None:
    base = ("--base-loss", "general=2.98", "--base-peak-learning-rate", 2e-3)
    assert "than the study names" not in call("recommend", study, *base).stderr
    other = call("recommend", study, *base, "--limit", "+10%", "--confidence", "90%").stderr
    assert "recommendation.json is now for another limit, confidence than the study names" in other
    assert f"until `dcpt recommend {study}` is run again" in other
    words = (*base, "--warmup-tokens", "500K")
    assert "another warmup tokens than the study" in call("recommend", study, *words).stderr


def test_weights_of_a_study_are_those_of_the_command_line(study: Path, tmp_path: Path) -> None:
    file = shutil.copytree(study.parent, tmp_path / "weighted") / study.name
    text = study.read_text(encoding="utf-8")
    base = ("--base-loss", "general=2.98", "--base-peak-learning-rate", 2e-3, "--json")

    def answer(target: str, *words: object) -> dict[str, Any]:
        file.write_text(text.replace("limit: +3%", target), encoding="utf-8")
        return json.loads(call("recommend", file, *base, *words).stdout)

    weights = ("--weight", "domain=1", "--weight", "general=9")
    of_study = answer("weights: {law: 1, en: 9}")
    of_options = answer("limit: +3%", *weights)
    assert of_study["target"]["weights"] == {"domain": 1, "general": 9}
    assert of_study["best"] == of_options["best"]
    assert of_study["limits"] == of_options["limits"] == {}
    within = answer("limit: +3%", *weights, "--limit", "+3%")
    assert within["limits"].keys() == {"general"}
    both = answer("weights: {law: 1, en: 9}, limit: +3%")
    assert both["best"] == within["best"]
    assert both["best"] != answer("limit: +3%")["best"]


def test_size_says_that_it_replaces_the_recommendation_of_a_study(study: Path) -> None:
    said = call("size", study, "--flops", "1e15", "--limit", "+3%").stderr
    assert "is now for another n params, n tokens" in said
