from __future__ import annotations

from pathlib import Path

import pytest
from tiny_study import write_tiny_study

from dcpt.errors import InputError
from dcpt.grid.slots import Slot
from dcpt.pipeline.train import failed_trackers, prepare_study, train_study
from dcpt.pipeline.workspace import Workspace
from dcpt.training import trackers


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    file = write_tiny_study(tmp_path)
    file.write_text(file.read_text() + "logging: {trackers: [wandb]}\n")
    workspace = Workspace(file)
    prepare_study(workspace, workers=1)
    return workspace


def test_a_failed_tracker_is_one_sentence_for_all_runs(study: Workspace) -> None:
    runs = study.planned
    assert runs[0].config.recorded.trackers == ("wandb",)
    assert runs[0].config.recorded.study_name == "tiny"
    note = '{"event": "note", "words": "...", "tracker": "wandb", "reason": "no route"}\n'
    for run in runs[:2]:
        folder = study.folder.runs / run.name
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(note + note)  # in a resumed run, twice
    names = [run.name for run in runs]
    assert failed_trackers(names, runs, study.folder) == [
        f"2 of {len(runs)} runs went on without wandb (no route); their losses are in "
        "metrics.jsonl and in TensorBoard"
    ]


def test_a_missing_tracker_is_refused_before_a_run_starts(
    study: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "_is_installed", lambda _: False)
    with pytest.raises(InputError, match="wandb cannot be imported"):
        train_study(study, [Slot()])
    assert not study.folder.runs.exists()
