"""``dcpt verify`` on a study: what it would train, and that it is the recommended pair."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_report import make_recommendation
from made_study import write_made_study
from typer.testing import CliRunner

from dcpt.cli import app
from dcpt.decide import plan_verification, read_recommendation, write_recommendation
from dcpt.errors import InputError
from dcpt.grid.estimate import Estimate
from dcpt.pipeline import verify
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study with a recommendation for its base ``big``, whose size is taken as known."""
    file = write_made_study(tmp_path, mixtures=True)
    made = make_recommendation()
    answer = replace(made, target=replace(made.target, base="big", n_tokens=6144))
    (tmp_path / "fit").mkdir()
    write_recommendation(answer, tmp_path / "fit")
    monkeypatch.setattr(verify, "known_base", lambda *_: {"n_params": 29.1e6})
    return file


@pytest.fixture
def estimated(monkeypatch: pytest.MonkeyPatch) -> list:
    """The runs that were estimated; nothing is timed."""
    runs: list = []

    def estimate(planned, folder, prices):
        runs.extend(planned)
        return [Estimate(run.config.name, 1, 10, 2.0, 3, 4.0, False) for run in planned]

    monkeypatch.setattr("dcpt.pipeline.cost.estimate_runs", estimate)
    return runs


def test_a_dry_run_lists_the_runs_and_trains_nothing(study: Path, estimated: list) -> None:
    before = sorted(study.parent.rglob("*"))
    result = CliRunner().invoke(app, ["verify", str(study), "--dry-run", "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [run["name"] for run in found["runs"]] == [r.config.name for r in estimated]
    assert found["total"]["left_flops"] == 2.0 * len(estimated)
    trunks = [run.config for run in estimated if run.config.identity.kind == "trunk"]
    answer = read_recommendation(Workspace(study).fit_folder)
    assert [trunk.identity.ratio for trunk in trunks] == [
        run.ratio for run in plan_verification(answer)
    ]
    # The very pair, not rounded down, and its ordinary decay alone.
    assert trunks[0].identity.ratio == answer.best.ratio == 0.312
    assert trunks[0].identity.learning_rate == answer.best.learning_rate
    branches = [run.config for run in estimated if run.config.identity.kind == "branch"]
    assert [branch.recorded.mixture_name for branch in branches] == [None] * 3
    assert sorted(study.parent.rglob("*")) == before
    words = CliRunner().invoke(app, ["verify", str(study), "--dry-run"]).stdout
    assert "FLOPs" in words
    assert trunks[0].name in words


def test_weights_that_cannot_be_mixed_are_named_before_anything_is_trained(
    study: Path, estimated: list
) -> None:
    text = study.read_text(encoding="utf-8")
    text = text.replace(
        "tokenizer: 300",
        "  - {name: fr, side: general, train: general.jsonl, valid_fraction: 10%, "
        "weight: 0.123457}\ntokenizer: 300",
    )
    study.write_text(text, encoding="utf-8")
    prepare_study(Workspace(study), workers=1)
    result = CliRunner().invoke(app, ["verify", str(study), "--dry-run"])
    assert result.exit_code != 0
    assert any(
        ": with these weights" in problem and "rounder weights" in problem
        for problem in result.exception.problems
    )
    assert not estimated


@pytest.mark.parametrize("command", ["verify", "report"])
def test_a_recommendation_for_an_earlier_target_is_refused(study: Path, command: str) -> None:
    folder = Workspace(study).fit_folder
    answer = read_recommendation(folder)
    made_from = replace(answer.target, section_sha256="00000000")
    write_recommendation(replace(answer, target=made_from), folder)
    result = CliRunner().invoke(app, [command, str(study)])
    assert isinstance(result.exception, InputError)
    assert "the target section has changed since recommendation.json" in str(result.exception)
