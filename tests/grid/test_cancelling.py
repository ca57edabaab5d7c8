"""Cancelled runs are saved, left out until they are asked for again, and end as the others."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpt.cli import app
from dcpt.errors import InputError
from dcpt.grid.local import LocalEngine
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import Slot
from dcpt.grid.status import read_status
from dcpt.pipeline.named_runs import ask_again, cancel_runs, find_run
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.cancelled import CANCELLED, cancel, is_cancelled
from dcpt.runs.folders import RunFolder
from dcpt.study.folder import StudyFolder


def trunks_of(runs: list[PlannedRun]) -> list[PlannedRun]:
    return [run for run in runs if run.config.identity.kind == "trunk"]


def folder_of(study: Path, run: PlannedRun) -> RunFolder:
    return RunFolder.of(run.config, StudyFolder(study).runs)


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout


def points_of(folder: RunFolder) -> list[dict[str, object]]:
    return [{**point, "wall_s": None} for point in folder.points()]


def test_a_run_in_training_is_saved_and_set_aside_until_it_is_asked_for_again(
    longer: Path, tmp_path: Path
) -> None:
    # Runs look for a request every 2 s, and this trunk of 102,400 tokens may take less.
    text = longer.read_text(encoding="utf-8")
    longer.write_text(text.replace("tokens: 102400", "tokens: 204800"), encoding="utf-8")
    other = tmp_path / "other" / longer.name
    shutil.copytree(longer.parent, other.parent)
    runs = Workspace(longer).planned
    trunk, sound = trunks_of(runs)
    (branch,) = (run for run in runs if trunk.identity_hash in run.needs)

    def cancel_once(queue: RunQueue) -> None:
        if queue.reached.get(trunk.name, 0) > 0 and not is_cancelled(folder.path):
            cancelled = cancel_runs(Workspace(longer), [trunk.name])
            assert cancelled.running == [trunk.name]
            assert cancelled.waiting == [branch.name]

    folder = folder_of(longer, trunk)
    outcome = LocalEngine(StudyFolder(longer), [Slot()], cancel_once).run(runs)
    assert sorted(outcome.cancelled) == sorted([trunk.name, branch.name])
    assert not outcome.failed
    assert sound.name in outcome.finished
    assert folder.checkpoint.exists()
    assert not folder.is_locked()
    states = {status.name: status.state for status in read_status(runs, StudyFolder(longer))}
    assert states[trunk.name] == states[branch.name] == "cancelled"

    log = run("logs", longer, trunk.name)
    assert log.startswith(f"{trunk.name}: cancelled, ")
    assert "train" in log
    left_out = CliRunner().invoke(app, ["run-grid", str(longer)])
    assert "2 runs are cancelled; `dcpt run-grid` with --cancelled" in left_out.output
    assert left_out.exit_code == 1
    assert not folder.is_done(trunk.config)

    ask_again(Workspace(longer), runs)
    assert not LocalEngine(StudyFolder(longer), [Slot()]).run(runs).cancelled
    assert not folder_of(longer, trunk).path.joinpath(CANCELLED).exists()
    LocalEngine(StudyFolder(other), [Slot()]).run(Workspace(other).planned)
    for planned in (trunk, branch):
        points = points_of(folder_of(longer, planned))
        assert points
        assert points == points_of(folder_of(other, planned))


def test_what_waits_for_a_cancelled_run_is_cancelled_too(study: Path) -> None:
    workspace = Workspace(study)
    base = workspace.planned[0]
    cancel(folder_of(study, base).path)
    queue = RunQueue(workspace.planned, StudyFolder(study))
    assert sorted(queue.outcome.cancelled) == sorted(run.name for run in workspace.planned)
    assert not queue.is_unfinished
    assert not queue.outcome.failed


def test_without_names_all_runs_are_cancelled(study: Path) -> None:
    names = [planned.name for planned in Workspace(study).planned]
    answer = json.loads(run("cancel", study, "--json"))
    assert answer == {"running": [], "waiting": names, "silent": []}
    assert "nothing to cancel" in run("cancel", study)
    assert "nothing left to train but what was cancelled" in run("status", study)


def test_a_run_whose_owner_has_long_been_silent_is_not_said_to_be_saved(study: Path) -> None:
    trunk, _ = trunks_of(Workspace(study).planned)
    lease = folder_of(study, trunk).path / "lease.1"
    lease.parent.mkdir(parents=True)
    owner = {"token": "t", "host": "node-7", "pid": 1, "started": 5, "space": "elsewhere"}
    lease.write_text(json.dumps({**owner, "device": 1, "inode": 1}) + "\n000000000000\n")
    hour_ago = time.time() - 3600
    os.utime(lease, (hour_ago, hour_ago))
    cancelled = cancel_runs(Workspace(study), [trunk.name])
    assert cancelled.silent == [trunk.name]
    assert cancelled.running == []
    assert is_cancelled(lease.parent)


def test_a_run_is_found_by_its_name_its_hash_and_the_start_of_its_name(study: Path) -> None:
    workspace = Workspace(study)
    trunk, _ = trunks_of(workspace.planned)
    start = trunk.name.removesuffix(f"-{trunk.identity_hash}")  # that of its decay, too
    for name in (trunk.name, trunk.identity_hash, start):
        assert find_run(workspace, name) is trunk
    with pytest.raises(InputError, match=r"runs of .* begin like this"):
        find_run(workspace, "a-")
    with pytest.raises(InputError, match=r"no run of .* is named like this; did you mean"):
        find_run(workspace, f"x{trunk.name}")


def test_a_run_that_is_done_cannot_be_cancelled(study: Path) -> None:
    workspace = Workspace(study)
    base = workspace.planned[0]
    assert not LocalEngine(StudyFolder(study), [Slot()]).run([base]).failed
    with pytest.raises(InputError, match="the run is done"):
        cancel_runs(workspace, [base.name])
