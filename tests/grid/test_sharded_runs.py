"""Runs of a study over several devices, trained by the engine."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from engines import Remembering, folders
from test_stopping import often_saved

from dcpt.errors import InputError
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import Slot
from dcpt.pipeline.gpus import spread_runs
from dcpt.pipeline.train import train_study
from dcpt.pipeline.workspace import Workspace
from dcpt.study.folder import StudyFolder


def children_of(pid: int) -> list[int]:
    """Ids of the living processes that a process has started, by ``/proc``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # It has just ended.
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_process_counts_as_the_death_of_its_worker(longer: Path) -> None:
    base = [run for run in Workspace(longer).planned if run.config.identity.kind == "pretrain"]
    runs, killed = often_saved(base), []

    def kill_once(queue: RunQueue) -> None:
        checkpoint = queue.folders[runs[0].name].checkpoint
        if checkpoint.exists() and not killed:
            killed.extend(children_of(engine.started[-1].process.pid))
            os.kill(max(killed), signal.SIGKILL)

    runs = [replace(run, n_devices=2) for run in runs]
    engine = Remembering(StudyFolder(longer), [Slot(), Slot()], kill_once)
    outcome = engine.run(runs)
    assert len(killed) >= 2
    assert outcome.finished == [runs[0].name]
    assert not outcome.failed
    assert engine.started[-1].slot.devices == ("cpu", "cpu")
    (result,) = (folder.result() for folder in folders(longer, runs))
    assert result is not None
    assert result["gpus"] == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in killed)


def test_more_devices_than_there_are_is_bad_input(study: Path) -> None:
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("training: {", "training: {gpus_per_run: 3, "), encoding="utf-8")
    with pytest.raises(InputError, match=r"over 3 devices, and there are 2; lower training.gpus_"):
        train_study(Workspace(study), [Slot(), Slot()])
    assert not list((study.parent / "runs").glob("*/metrics.jsonl"))


def test_runs_take_as_few_gpus_as_hold_their_base(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gpu:
        total_memory = 6 * 2**30

    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: Gpu)
    monkeypatch.setattr("dcpt.pipeline.gpus.SHARED_PARAMS", 1e4)
    text = study.read_text(encoding="utf-8")
    study.write_text(
        text.replace("a: {width: 16, layers: 1", "a: {width: 2048, layers: 8").replace(
            "heads: 1}", "heads: 16}"
        ),
        encoding="utf-8",
    )
    workspace = Workspace(study)
    slots = [Slot((f"cuda:{i}",)) for i in range(4)]

    def spread(slots: list[Slot]) -> set[int]:
        spread_out = spread_runs(workspace, workspace.planned, slots, workspace.study.engine)
        return {run.n_devices for run in spread_out}

    assert spread(slots) == {2}
    with pytest.raises(InputError, match="on 1 GPU, which has 6 GiB"):
        spread(slots[:1])
    assert spread([Slot()]) == {1}
