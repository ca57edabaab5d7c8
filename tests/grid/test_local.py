from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from engines import Remembering, folders, kill_worker, run_grid, wait_until

from dcpt.errors import InputError
from dcpt.grid import local, worker
from dcpt.grid.assign import Place, has_room_for
from dcpt.grid.local import LocalEngine, Worker
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import SHARED_PARAMS, Slot
from dcpt.grid.status import read_status, seconds_left
from dcpt.pipeline.workspace import Workspace
from dcpt.study.folder import StudyFolder


def test_workers_that_are_ready_leave_by_themselves(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_LEAVE_S", 600.0)  # A busy machine is slow.
    engine = Remembering(StudyFolder(study), [Slot(), Slot()])
    engine.run(Workspace(study).planned)
    ready = [worker for worker in engine.started if worker.is_ready]
    assert ready
    assert {worker.process.exitcode for worker in ready} == {0}


def test_a_failed_run_leaves_its_traceback_and_the_others_go_on(study: Path) -> None:
    runs = Workspace(study).planned
    trunks = [run for run in runs if run.config.identity.kind == "trunk"]
    broken, sound = folders(study, trunks)
    broken.path.mkdir(parents=True)
    broken.metrics.symlink_to(study.parent / "gone" / "metrics.jsonl")  # Cannot be written.

    engine = LocalEngine(StudyFolder(study), [Slot()])
    outcome = engine.run(runs)

    assert len(outcome.failed) == 2  # The trunk and the branch that needs it.
    assert "No such file" in outcome.failed[trunks[0].config.name]
    assert "Traceback" in broken.error()["traceback"]
    assert sound.is_done(trunks[1].config)
    states = [status.state for status in read_status(runs, StudyFolder(study))]
    assert sorted(states) == ["done", "done", "done", "failed", "waiting"]

    process = run_grid(study)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    first, *lines = output.splitlines()
    assert first == "grid: 2 runs to train, 3 done, 1 workers"  # There is no terminal.
    assert any(line.startswith(f"failed {trunks[0].name}: ") for line in lines)
    assert any(line.startswith("grid: 3 of 5 runs done, 2 failed; ") for line in lines)
    assert "No such file" in output

    broken.metrics.unlink()
    again = engine.run(runs)
    assert len(again.finished) == 2
    assert not again.failed
    assert broken.error() is None


def test_kill_9_loses_no_finished_run_and_the_rest_goes_on(study: Path) -> None:
    runs = Workspace(study).planned
    process = run_grid(study)
    watched = folders(study, runs)
    wait_until(lambda: sum(folder.result() is not None for folder in watched) >= 2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {
        folder.path: (folder.path / "result.json").stat().st_mtime_ns
        for folder in watched
        if folder.result() is not None
    }
    assert kept

    outcome = LocalEngine(StudyFolder(study), [Slot()]).run(runs)
    assert not outcome.failed
    for path, written in kept.items():
        assert (path / "result.json").stat().st_mtime_ns == written


def test_two_grids_at_once_train_no_run_twice(study: Path) -> None:
    runs = Workspace(study).planned
    processes = [run_grid(study) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    for folder in folders(study, runs):
        ends = [event for event in folder.events() if event["event"] == "point"]
        assert len(ends) == len({event["n_tokens"] for event in ends})


def test_the_time_left_needs_a_speed(study: Path) -> None:
    statuses = read_status(Workspace(study).planned, StudyFolder(study))
    assert seconds_left(statuses, [Slot(), Slot()]) is None
    assert {status.state for status in statuses} == {"waiting"}


def test_a_shared_folder_for_compiled_code_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/shared/inductor")
    worker._share_compiled_code()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/shared/inductor"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    worker._share_compiled_code()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"].endswith("inductor")


def test_runs_side_by_side_in_one_worker(longer: Path) -> None:
    study, runs = longer, Workspace(longer).planned
    most = 0

    def count(_: RunQueue) -> None:
        nonlocal most
        statuses = read_status(runs, StudyFolder(study))
        most = max(most, sum(status.state == "running" for status in statuses))

    outcome = LocalEngine(StudyFolder(study), [Slot(lanes=3)], count).run(runs)
    assert len(outcome.finished) == len(runs)
    assert most == 2  # Both trunks, or a branch and the other trunk.


def test_a_worker_that_dies_with_several_runs_fails_none_of_them(longer: Path) -> None:
    study, runs = longer, Workspace(longer).planned
    killed: list[int] = []

    def kill_once(_: RunQueue) -> None:
        running = [s for s in read_status(runs, StudyFolder(study)) if s.state == "running"]
        if len(running) == 2 and not killed:
            killed.append(kill_worker(engine.started[-1]))

    engine = Remembering(StudyFolder(study), [Slot(lanes=2)], kill_once)
    outcome = engine.run(runs)
    assert killed
    assert not outcome.failed
    assert len(outcome.finished) == len(runs)


def test_runs_go_to_the_worker_that_has_the_fewest(longer: Path) -> None:
    study, runs = longer, Workspace(longer).planned
    seen: set[tuple[int, ...]] = set()

    class Watched(LocalEngine):
        def _collect(self, queue: RunQueue, workers: list[Worker]) -> None:
            seen.add(tuple(sorted(len(worker.busy_with) for worker in workers)))
            super()._collect(queue, workers)

    engine = Watched(StudyFolder(study), [Slot(lanes=3), Slot(lanes=3)])
    assert len(engine.run(runs).finished) == len(runs)
    assert (1, 1) in seen
    assert (0, 2) not in seen


def test_large_models_train_alone(study: Path) -> None:
    small, other = Workspace(study).planned[:2]
    assert [Slot(lanes=3).lanes_for(n) for n in (1e6, 1e8, 1.4e8, 2e8, 3e8, 7e10)] == [
        3,
        3,
        2,
        1,
        1,
        1,
    ]
    large = PlannedRun(other.config, about_n_params=2 * SHARED_PARAMS)
    worker = Place(slot=Slot(lanes=2))
    assert has_room_for(worker, large)
    worker.busy_with["a"] = small
    assert has_room_for(worker, small)
    assert not has_room_for(worker, large)
    worker.busy_with["b"] = small
    assert not has_room_for(worker, small)


def test_a_run_without_room_beside_others_goes_on_alone(study: Path) -> None:
    first, second, third = Workspace(study).planned[:3]
    runs = [PlannedRun(run.config) for run in (first, third)]
    crowded = PlannedRun(second.config, about_n_params=10.0)  # It is sent first.
    queue = RunQueue([*runs, crowded], StudyFolder(study))
    queue.take(runs[0])
    queue.take(crowded)
    queue.end(crowded, "crowded", "out of memory")
    assert not queue.outcome.failed
    engine = LocalEngine(StudyFolder(study), [])
    workers = [Worker(process=None, connection=Sent(), slot=Slot(lanes=3)) for _ in range(2)]
    workers[0].busy_with[runs[0].name] = runs[0]
    engine._assign(queue, workers)
    assert [sorted(worker.busy_with) for worker in workers] == [
        sorted(run.name for run in runs),
        [crowded.name],
    ]
    assert not queue.pending


def test_runs_that_wait_for_a_failed_run_fail_with_it(study: Path) -> None:
    runs = Workspace(study).planned
    queue = RunQueue(runs, StudyFolder(study))
    base = runs[0]
    queue.take(base)
    queue.end(base, "failed", "no luck")
    assert queue.outcome.failed.keys() == {run.name for run in runs}
    assert queue.outcome.failed[runs[-1].name] == "the run it starts from failed"
    assert not queue.is_unfinished


class Sent:
    """A connection that discards what is sent."""

    def send(self, _: object) -> None:
        """Discard a message."""


def test_a_full_disk_fails_runs_and_loses_nothing(
    study: Path, tmp_path: Path, as_root: None
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this root may not mount a tmpfs")
    try:
        shutil.copytree(study.parent / "prepared", disk / "prepared")
        shutil.copy(study, disk)
        filler = disk / "filler"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        filler.write_bytes(b"x" * (free - 200_000))  # Space for some runs, but not for all.
        moved = disk / study.name
        process = run_grid(moved)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "No space left" in output
        assert "Traceback" not in output
        kept = {path: path.read_bytes() for path in disk.glob("runs/*/result.json")}

        filler.unlink()
        process = run_grid(moved)
        process.communicate(timeout=120)
        assert process.returncode == 0
        assert all(path.read_bytes() == content for path, content in kept.items())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_run_over_two_devices_trains_between_runs_on_one(study: Path) -> None:
    base, first, *others = Workspace(study).planned
    runs = [base, replace(first, n_devices=2), *others]
    engine = Remembering(StudyFolder(study), [Slot(), Slot()])
    outcome = engine.run(runs)
    assert not outcome.failed
    assert len(outcome.finished) == len(runs)
    counts = [len(worker.slot.devices) for worker in engine.started]
    assert counts.count(2) == 1
    result = folders(study, [first])[0].result()
    assert result is not None
    assert result["gpus"] == 2


def test_a_worker_of_two_devices_stays_for_a_run_that_another_process_trains(study: Path) -> None:
    base, first = Workspace(study).planned[:2]
    wide = replace(base, n_devices=2)
    queue = RunQueue([wide, first], StudyFolder(study))
    queue.take(wide)
    queue.end(wide, "elsewhere")
    replaced: list[Worker] = []

    class Noting(LocalEngine):
        def _replace(self, workers: list[Worker], old: object, slots: object) -> None:
            replaced.extend(workers)

    worker = Worker(process=None, connection=Sent(), slot=Slot(("cpu", "cpu")))
    engine = Noting(StudyFolder(study), [Slot(), Slot()])
    engine._split([worker], queue, [])
    assert not replaced
    engine._split([worker], queue, [first])  # It can start now, on one of the two devices.
    assert replaced == [worker]


def test_a_run_over_more_devices_than_there_are_is_refused(study: Path) -> None:
    base, *others = Workspace(study).planned
    engine = LocalEngine(StudyFolder(study), [Slot()])
    with pytest.raises(InputError, match="trains over 2 devices, and there are 1"):
        engine.run([replace(base, n_devices=2), *others])
