from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_study import write_tiny_study
from typer.testing import CliRunner

from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.diagnosis import diagnose
from dcpt.errors import InputError
from dcpt.table import write_runs


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["diagnose", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def code(tmp_path: Path) -> Path:
    write_runs(bundled_runs("code"), tmp_path / "code.csv")
    return tmp_path / "code.csv"


def test_people_read_the_problems_first(code: Path) -> None:
    lines = run(code).splitlines()
    assert lines[0] == "27 runs: 1 problems, 0 findings worth checking"
    assert lines[1] == "Problems:"
    assert "size and learning rate confounded: no learning rate was trained at two" in lines[2]
    assert any("cannot be judged in 14 runs without train_loss_domain" in line for line in lines)
    assert any("arXiv 2406.01375" in line for line in lines)


def test_programs_read_all_of_it(code: Path) -> None:
    assert json.loads(run(code, "--json")) == diagnose(code).as_dict()


def test_columns_may_have_other_names(tmp_path: Path, code: Path) -> None:
    renamed = bundled_runs("code").rename(columns={"n_params": "N"})
    write_runs(renamed, tmp_path / "renamed.csv")
    output = run(tmp_path / "renamed.csv", "--json", "--column", "n_params=N")
    assert json.loads(output) == diagnose(code).as_dict()


def test_a_table_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        CliRunner().invoke(app, ["diagnose", str(tmp_path / "no.csv")], catch_exceptions=False)


def test_the_runs_of_a_study_are_read_with_their_folders(tmp_path: Path) -> None:
    study = write_tiny_study(tmp_path)
    small = study.read_text().replace("[a, b], ratios: [0.25, 0.5, 0.75]", "[a], ratios: [0.5]")
    study.write_text(small)
    for words in (["prepare", study], ["run-grid", study, "--workers", "1"]):
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    output = json.loads(run(study, "--json"))
    assert output["n_runs"] == 1
    assert not [
        finding for finding in output["findings"] if finding["verdict"] == "cannot be judged"
    ]
    (folder,) = tmp_path.glob("runs/a-r0.5-lr0.003-seed0-????????")
    message = "TrainingError: run a: the training loss of step 3 is nan at a learning rate of 1"
    (folder / "error.json").write_text(json.dumps({"message": message, "traceback": ""}))
    found = json.loads(run(study, "--json"))["findings"]
    assert ("not_finite", message) in {(finding["kind"], finding["words"]) for finding in found}
