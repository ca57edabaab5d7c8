"""A command opens its study once, and only the commands that should write do."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_this_process import InThisProcess
from tiny_study import write_tiny_study
from typer.testing import CliRunner

import dcpt.study.files
from dcpt.cli import app
from dcpt.grid.plan import Planner
from dcpt.grid.planned import Trunk
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace, open_place
from dcpt.runs.folders import RunFolder
from dcpt.runs.stored import StoredRuns
from dcpt.table.study_rows import StudyRows
from dcpt.training.loop import train

ONCE = {"study read": 1, "planner": 1, "plan": 1, "pass over the run folders": 1}
WITH_ROWS = {**ONCE, "rows": 1}
LAWS = "--law", "joint-general", "--law", "annealed-domain"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny study, trained, with a fit, a recommendation and a report."""
    study = write_tiny_study(tmp_path_factory.mktemp("workspace"))
    prepare_study(Workspace(study), workers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcpt.grid.local.LocalEngine", InThisProcess)
        call("run-grid", study, "--workers", "1")
    call("fit", study, "--draws", "20", *LAWS)
    call("recommend", study)
    return study


@pytest.fixture
def study(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(trained.parent, tmp_path / "study")
    return tmp_path / "study" / trained.name


def call(command: str, study: Path, *options: str) -> None:
    result = CliRunner().invoke(app, [command, str(study), *options], catch_exceptions=False)
    assert result.exit_code == 0


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a study was read and planned, and its run folders were read."""
    counts: Counter[str] = Counter()

    def count(where: Any, name: str, what: str) -> None:
        real: Callable[..., Any] = getattr(where, name)

        def counted(*args: Any, **named: Any) -> Any:
            counts[what] += 1
            return real(*args, **named)

        monkeypatch.setattr(where, name, counted)

    count(dcpt.study.files, "read_yaml", "study read")
    count(Planner, "__init__", "planner")
    count(Planner, "plan", "plan")
    count(StoredRuns, "__init__", "pass over the run folders")
    count(StudyRows, "__init__", "rows")
    count(RunFolder, "find", "search for one run's folder")
    return counts


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["status"], ONCE),
        (["runs"], WITH_ROWS),
        (["laws"], WITH_ROWS),
        (["compare", *LAWS], WITH_ROWS),
        (["fit", "--draws", "20", *LAWS], WITH_ROWS),
        (["recommend"], WITH_ROWS),
        (["report"], WITH_ROWS),
        (["diagnose"], WITH_ROWS),
        (["prepare"], {"study read": 1, "pass over the run folders": 1}),
    ],
)
def test_a_command_opens_its_study_once(
    study: Path, opened: Counter[str], command: list[str], expected: dict[str, int]
) -> None:
    call(command[0], study, *command[1:])
    assert opened == expected


def test_an_estimate_opens_its_study_once(study: Path, opened: Counter[str]) -> None:
    call("run-grid", study, "--dry-run")
    assert opened.items() >= WITH_ROWS.items()


def test_a_base_is_measured_without_a_plan(study: Path, opened: Counter[str]) -> None:
    model = next(study.parent.glob("runs/pretrain-big-*/model"))
    call("evaluate", model, "--study", str(study))
    assert opened == {"study read": 1}


def test_a_grid_with_nothing_left_to_do_opens_its_study_once(
    study: Path, opened: Counter[str]
) -> None:
    call("run-grid", study)
    assert opened == WITH_ROWS


def test_a_verification_reads_the_runs_once_before_and_once_after_training(
    study: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcpt.grid.local.LocalEngine", InThisProcess)
    call("verify", study, "--dry-run")
    about = {name: opened[name] for name in WITH_ROWS}
    assert about == {**WITH_ROWS, "plan": 2}  # the grid, and the verification's trunks
    opened.clear()
    call("verify", study)
    about = {name: opened[name] for name in WITH_ROWS if name != "plan"}
    assert about == {
        "study read": 1,
        "planner": 1,
        "pass over the run folders": 2,
        "rows": 2,
    }


def contents(folder: Path) -> dict[Path, str]:
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("warmup", ["kept", "gone"])
def test_status_and_recommend_write_nothing_but_the_recommendation(
    study: Path, warmup: str
) -> None:
    if warmup == "gone":
        (study.parent / "resolved.json").unlink()
    (study.parent / "fit" / "recommendation.json").unlink()
    before = contents(study.parent)
    call("status", study)
    assert contents(study.parent) == before
    call("recommend", study)
    after = contents(study.parent)
    assert after.keys() - before.keys() == {Path("fit/recommendation.json")}
    assert {path: after[path] for path in before} == before


def test_runs_that_were_trained_meanwhile_are_read_after_the_old_ones_are_forgotten(
    study: Path,
) -> None:
    workspace = Workspace(study)
    n_rows, planned = len(workspace.rows.rows), workspace.planned
    for run in workspace.plan_trunks([Trunk("a", 0.4, 3e-3)], "verify"):
        train(run.config, study.parent)
    assert len(workspace.rows.rows) == n_rows
    workspace.forget_runs()
    assert len(workspace.rows.rows) > n_rows
    assert workspace.planned is planned


def test_a_table_is_no_study(tmp_path: Path) -> None:
    assert open_place(tmp_path / "runs.csv") == tmp_path / "runs.csv"
    assert isinstance(open_place(tmp_path / "study.yml"), Workspace)
