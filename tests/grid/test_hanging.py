"""Workers that make no progress: their stacks are kept, and their runs go on in a new process."""

from __future__ import annotations

from pathlib import Path

from engines import Hanging, folders

from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import Slot
from dcpt.pipeline.workspace import Workspace
from dcpt.study.folder import StudyFolder


def test_a_worker_that_makes_no_step_is_replaced_and_its_runs_go_on(study: Path) -> None:
    runs = Workspace(study).planned
    (study.parent / "hangs").write_text("1")
    outcome = Hanging(StudyFolder(study), [Slot(lanes=2)]).run(runs)
    assert len(outcome.finished) == len(runs)
    stacks = [folder.path / "stacks.txt" for folder in folders(study, runs)]
    (text,) = [path.read_text() for path in stacks if path.exists()]
    assert "wait_for_ever" in text
    assert not any(folder.error() for folder in folders(study, runs))


def test_a_run_that_makes_no_step_twice_fails(study: Path) -> None:
    runs = Workspace(study).planned
    (study.parent / "hangs").write_text("2")
    outcome = Hanging(StudyFolder(study), [Slot()]).run(runs)
    base = runs[0]
    assert "made no progress twice" in outcome.failed[base.name]
    error = folders(study, [base])[0].error()
    assert error is not None
    assert error["kind"] == "hung"
    assert "wait_for_ever" in error["traceback"]


def test_a_pause_of_all_processes_fails_no_run(study: Path) -> None:
    runs = Workspace(study).planned
    (study.parent / "hangs").write_text("2")

    def pause(_: RunQueue) -> None:
        engine._looked -= 1000  # As if this process had not run.

    engine = Hanging(StudyFolder(study), [Slot()], pause)
    outcome = engine.run(runs)
    assert len(outcome.finished) == len(runs)
    assert not list(study.parent.glob("runs/*/stacks.txt"))
