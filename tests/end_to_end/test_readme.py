"""The README's commands run in order on a tiny study, and write the expected files.

The two make commands are not tested here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from tiny_study import write_tiny_study
from typer.testing import CliRunner

from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.table import write_runs

README = Path(__file__).parents[2] / "README.md"


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, f"dcpt {' '.join(map(str, words))}: {result.output}"
    return result.stdout


def readme_commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[1:] for words in lines if words and words[0] == "dcpt"]


def readme_python() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which every command of the README has run."""
    folder, before = tmp_path_factory.mktemp("readme"), Path.cwd()
    os.chdir(folder)
    try:
        write_runs(bundled_runs("zh_annealed"), Path("runs.csv"))
        for words in readme_commands():
            if words == ["fit", "runs.csv", "--out", "fit"]:
                (folder / "fit").rename(folder / "fit-of-the-study")
            call(*words)
            if words[0] == "init":
                study = write_tiny_study(folder)  # "then edit it"
                # A limit whose interval is wide, so that `refine` has something to train.
                study.write_text(study.read_text().replace("limit: +20%", "limit: +5%"))
        yield folder
    finally:
        os.chdir(before)


def test_the_readme_names_every_step() -> None:
    named = {words[0] for words in readme_commands()}
    assert named >= {"init", "prepare", "run-grid", "status", "runs", "fit"}
    assert named >= {"recommend", "next-runs", "refine", "verify", "report", "diagnose", "compare"}


def test_every_run_is_done_and_the_fit_has_the_runs_of_refine_alone(walked: Path) -> None:
    statuses = json.loads(call("status", "study.yaml", "--json"))
    assert {status["state"] for status in statuses} == {"done"}
    call("runs", "study.yaml", "--out", "study.csv")
    table = pd.read_csv("study.csv")
    assert set(table["phase"]) == {"base", "constant", "annealed"}
    assert table.loc[table["excluded"].notna(), "run"].nunique() == 3
    at_target = table[table["size"] == "big"].groupby("run")["n_tokens"].max()
    fitted = pd.read_csv(walked / "fit-of-the-study" / "runs.csv")
    short = at_target[at_target == 1536]
    assert 1 <= len(short) == len(at_target) - 3
    assert set(fitted.loc[fitted["size"] == "big", "run"]) == set(short.index)


def test_the_recommendation_was_verified(walked: Path) -> None:
    folder = walked / "fit-of-the-study"
    answer = json.loads((folder / "recommendation.json").read_text())
    assert answer["phase"] == "annealed"
    assert 0 < answer["best"]["ratio"] <= 0.97
    assert answer["ratio_interval"]["low"] <= answer["ratio_interval"]["high"]
    checked = json.loads((folder / "verification.json").read_text())
    assert len(checked["runs"]) == 3
    for run in checked["runs"]:
        assert run["measured"].keys() == {"general", "domain"}
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert all(run["label"].lower() in page.lower() for run in checked["runs"])


def test_evaluate_measures_what_training_measured(walked: Path) -> None:
    model = next(walked.glob("runs/pretrain-big-*")) / "model"
    words = ("evaluate", model, "--study", "study.yaml", "--label", "big", "--json")
    row = json.loads(call(*words))
    call("runs", "study.yaml", "--out", "study.csv", "--replace")
    table = pd.read_csv("study.csv").query("size == 'big' and phase == 'base'")
    assert row["loss"]["en"] == pytest.approx(table["loss_general"].iloc[0], rel=1e-6)
    assert row["loss"]["law"] == pytest.approx(table["loss_domain"].iloc[0], rel=1e-6)


def test_a_second_call_trains_nothing(walked: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in walked.glob("runs/*/result.json")}
    output = json.loads(call("run-grid", "study.yaml", "--json"))
    untimed = {"first_step_s": None, "later_s": None, "occupancy": None}
    assert output == {"finished": [], "failed": {}, "cancelled": [], "notes": [], **untimed}
    assert {path: path.stat().st_mtime_ns for path in walked.glob("runs/*/result.json")} == times


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(readme_python()[0], str(README), "exec"), {})
    ratio = float(capsys.readouterr().out.split()[0])
    assert 0.3 < ratio < 0.8
