"""What every engine must do; the test class of an engine says how it is opened."""

from __future__ import annotations

import os
import shutil
import signal
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

import pytest

from dcpt.engines.engine import Engine, Tick
from dcpt.errors import Stopped
from dcpt.grid.local import LocalEngine
from dcpt.grid.planned import PlannedRun, find_folders
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import Slot
from dcpt.pipeline.workspace import Workspace
from dcpt.study.folder import StudyFolder
from dcpt.training.loop import train


def points(study: Path) -> dict[str, list[dict[str, object]]]:
    """All measured points of all runs, without times."""
    found = find_folders(Workspace(study).planned, StudyFolder(study).runs)
    return {
        name: [{**point, "wall_s": None} for point in folder.points()]
        for name, folder in found.items()
    }


def results(study: Path) -> dict[str, int]:
    """When the result of each finished run was written."""
    runs = StudyFolder(study).runs
    return {path.parent.name: path.stat().st_mtime_ns for path in runs.glob("*/result.json")}


def without_text(run: PlannedRun) -> PlannedRun:
    """The run with a path where no text is, so that it fails."""
    recorded = run.config.recorded.model_copy(update={"data_path": "absent"})
    return replace(run, config=run.config.model_copy(update={"recorded": recorded}))


class EngineConformance(ABC):
    """The tests that every engine passes."""

    @abstractmethod
    def open(self, study: Path, on_tick: Tick | None = None) -> Engine:
        """Open the engine."""

    def test_it_trains_what_the_local_engine_trains(self, study: Path, tmp_path: Path) -> None:
        other = Path(shutil.copytree(study.parent, tmp_path / "other")) / study.name
        planned = Workspace(study).planned
        # A run that was interrupted goes on from its checkpoint.
        base, trunk = planned[0], planned[1]
        train(base.config, study.parent)
        train(trunk.config, study.parent, stop_at_step=8)
        written = results(study)

        outcome = self.open(study).run(planned)
        assert not outcome.failed
        assert sorted(outcome.finished) == sorted(run.name for run in planned[1:])
        assert written.items() <= results(study).items()  # the base was not trained again
        LocalEngine(StudyFolder(other), [Slot()]).run(Workspace(other).planned)
        assert points(study) == points(other)

        written = results(study)
        assert not self.open(study).run(planned).finished
        assert results(study) == written

    @pytest.mark.usefixtures("listening")
    def test_a_stopped_call_goes_on_where_it_was(self, study: Path) -> None:
        planned = Workspace(study).planned

        def stop(queue: RunQueue) -> None:
            if queue.outcome.finished and not stopped:
                stopped.append(True)
                os.kill(os.getpid(), signal.SIGINT)

        stopped: list[bool] = []
        with pytest.raises(Stopped):
            self.open(study, stop).run(planned)
        written = results(study)
        assert written
        assert not self.open(study).run(planned).failed
        assert len(results(study)) == len(planned)
        assert written.items() <= results(study).items()

    def test_a_failed_run_is_named_and_the_others_go_on(self, study: Path) -> None:
        planned = Workspace(study).planned
        trunks = [run for run in planned if run.config.identity.kind == "trunk"]
        doomed = trunks[0]
        runs = [without_text(run) if run is doomed else run for run in planned]
        outcome = self.open(study).run(runs)
        behind = [run.name for run in planned if doomed.identity_hash in run.needs]
        assert sorted(outcome.failed) == sorted([doomed.name, *behind])
        assert "absent" in outcome.failed[doomed.name]
        assert outcome.failed[behind[0]] == "the run it starts from failed"
        assert trunks[1].name in outcome.finished
        assert not self.open(study).run(planned).failed
