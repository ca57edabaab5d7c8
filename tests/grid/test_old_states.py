"""States that no run needs are deleted where the study says so, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import folders

from dcpt.grid.old_states import delete_unneeded
from dcpt.grid.planned import PlannedRun
from dcpt.grid.slots import Slot
from dcpt.pipeline.train import train_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder
from dcpt.study.folder import StudyFolder


def trunks_of(study: Path) -> list[tuple[PlannedRun, RunFolder]]:
    runs = Workspace(study).planned
    pairs = zip(runs, folders(study, runs), strict=True)
    return [(run, folder) for run, folder in pairs if run.config.identity.kind == "trunk"]


def states(study: Path) -> set[Path]:
    return set((study.parent / "runs").glob("*/state-*.safetensors"))


def change(study: Path, old: str, new: str) -> None:
    text = study.read_text(encoding="utf-8")
    assert old in text
    study.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def trained(study: Path) -> Path:
    assert not train_study(Workspace(study), [Slot()]).failed
    return study


def test_states_of_finished_trunks_are_deleted_if_the_study_says_so(trained: Path) -> None:
    assert len(states(trained)) == len(trunks_of(trained)) == 2
    change(trained, "training: {", "training: {delete_states: true, ")
    (first, folder), _ = trunks_of(trained)
    end = first.config.recorded.n_tokens
    foreign = folder.path / "state-1.safetensors"
    foreign.write_bytes(b"of a person")

    assert not train_study(Workspace(trained), [Slot()]).finished  # Nothing was left to train.
    assert states(trained) == {foreign}
    assert folder.deleted_states() == [end]
    assert all(folder.is_done(run.config) for run, folder in trunks_of(trained))
    assert not train_study(Workspace(trained), [Slot()]).finished

    change(trained, "decay: 20%", "decay: 40%")  # Branches without the state that they need.
    outcome = train_study(Workspace(trained), [Slot()])
    assert len(outcome.finished) == 2
    assert not outcome.failed
    assert states(trained) == {foreign}


def test_a_state_of_another_run_stays(trained: Path) -> None:
    (run, folder), (_, other) = trunks_of(trained)
    path = folder.state(run.config.recorded.n_tokens)
    path.write_bytes(other.state(run.config.recorded.n_tokens).read_bytes())
    delete_unneeded(Workspace(trained).planned, StudyFolder(trained))
    assert path.exists()
    assert not other.state(run.config.recorded.n_tokens).exists()
    assert folder.deleted_states() == []


def test_states_of_a_trunk_that_another_process_holds_stay(trained: Path) -> None:
    (run, folder), _ = trunks_of(trained)
    path = folder.state(run.config.recorded.n_tokens)
    with folder.lock() as is_ours:
        assert is_ours
        delete_unneeded(Workspace(trained).planned, StudyFolder(trained))
    assert path.exists()
    assert folder.deleted_states() == []


def test_a_state_that_is_already_gone_is_noted_as_deleted(trained: Path) -> None:
    (run, folder), _ = trunks_of(trained)
    end = run.config.recorded.n_tokens
    folder.state(end).unlink()
    folder.delete_states([end])
    assert folder.deleted_states() == [end]
