from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dcpt import stations
from dcpt.grid.local import SHARED_PARAMS, LocalEngine, Slot, _Queue, _Worker
from dcpt.grid.planned import PlannedRun
from dcpt.grid.status import read_status, seconds_left
from dcpt.run_folders import RunFolder
from dcpt.study import StudyFolder

ONE_SIZE = "bases: [a, b], ratios: [0.25, 0.5, 0.75]", "bases: [a], ratios: [0.25, 0.5]"


@pytest.fixture
def study(tiny_study: Path) -> Path:
    """One size and two ratios, prepared; the larger target is left out."""
    text = tiny_study.read_text(encoding="utf-8").replace(*ONE_SIZE)
    text = text[: text.index("target:")]
    tiny_study.write_text(text, encoding="utf-8")
    stations.prepare_study(tiny_study, workers=1)
    return tiny_study


def folders(study: Path, runs: list[PlannedRun]) -> list[RunFolder]:
    return [RunFolder.of(run.config, StudyFolder(study).runs) for run in runs]


def run_grid(study: Path) -> subprocess.Popen[str]:
    code = "from dcpt.cli import main; main()"
    command = [sys.executable, "-c", code, "run-grid", str(study), "--workers", "1"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def kill_workers() -> list[int]:
    """Kill -9 the worker processes of this one."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("needs Linux's list of a process's children")
    pids = [
        int(pid)
        for pid in children.read_text().split()
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return pids


class Remembering(LocalEngine):
    """Keeps its workers for a look at how they ended."""

    def _start(self, slot: Slot) -> _Worker:
        worker = super()._start(slot)
        self.__dict__.setdefault("started", []).append(worker)
        return worker


def test_idle_workers_leave_by_themselves(study: Path) -> None:
    engine = Remembering(StudyFolder(study), [Slot(), Slot()])
    engine.run(stations.plan_study(study))
    assert [worker.process.exitcode for worker in engine.__dict__["started"]] == [0, 0]


def test_workers_under_way_are_killed(study: Path) -> None:
    def stop() -> None:
        if any(worker.busy_with for worker in engine.__dict__["started"]):
            raise KeyboardInterrupt

    engine = Remembering(StudyFolder(study), [Slot()], stop)
    with pytest.raises(KeyboardInterrupt):
        engine.run(stations.plan_study(study))
    assert [worker.process.exitcode for worker in engine.__dict__["started"]] == [-signal.SIGKILL]


def test_a_failed_run_leaves_its_traceback_and_the_others_go_on(study: Path) -> None:
    runs = stations.plan_study(study)
    trunks = [run for run in runs if run.config.identity.kind == "trunk"]
    broken, sound = folders(study, trunks)
    broken.path.mkdir(parents=True)
    broken.metrics.symlink_to(study.parent / "gone" / "metrics.jsonl")  # cannot be written

    engine = LocalEngine(StudyFolder(study), [Slot()])
    outcome = engine.run(runs)

    assert len(outcome.failed) == 2  # the trunk and the branch that needed it
    assert "No such file" in outcome.failed[trunks[0].config.name]
    assert "Traceback" in broken.error()["traceback"]
    assert sound.is_done(trunks[1].config)
    states = [status.state for status in read_status(runs, StudyFolder(study))]
    assert sorted(states) == ["done", "done", "done", "failed", "waiting"]

    process = run_grid(study)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "No such file" in told

    broken.metrics.unlink()
    again = engine.run(runs)
    assert len(again.finished) == 2
    assert not again.failed
    assert broken.error() is None


def test_kill_9_loses_no_finished_run_and_the_rest_goes_on(study: Path) -> None:
    runs = stations.plan_study(study)
    process = run_grid(study)
    watched = folders(study, runs)
    deadline = time.monotonic() + 120
    while sum(folder.result() is not None for folder in watched) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
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
    runs = stations.plan_study(study)
    processes = [run_grid(study) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    for folder in folders(study, runs):
        ends = [event for event in folder.events() if event["event"] == "point"]
        assert len(ends) == len({event["n_tokens"] for event in ends})


def test_the_time_left_needs_a_speed(study: Path) -> None:
    statuses = read_status(stations.plan_study(study), StudyFolder(study))
    assert seconds_left(statuses, [Slot(), Slot()]) is None
    assert {status.state for status in statuses} == {"waiting"}


def test_a_dead_worker_fails_its_run_alone(study: Path) -> None:
    runs = stations.plan_study(study)
    killed = False

    def kill_once() -> None:
        nonlocal killed
        running = [s for s in read_status(runs, StudyFolder(study)) if s.state == "running"]
        if running and not killed:
            killed = True
            kill_workers()

    outcome = LocalEngine(StudyFolder(study), [Slot()], kill_once).run(runs)
    assert killed
    assert any("exit code -9" in words for words in outcome.failed.values())
    errors = [json.loads(p.read_text()) for p in StudyFolder(study).runs.glob("*/error.json")]
    assert any("exit code -9" in error["message"] for error in errors)
    assert not LocalEngine(StudyFolder(study), [Slot()]).run(runs).failed


@pytest.fixture
def longer(study: Path) -> Path:
    """Trunks that outlast many looks at them."""
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("tokens: 5120", "tokens: 256000"), encoding="utf-8")
    return study


def test_runs_side_by_side_in_one_worker(longer: Path) -> None:
    study, runs = longer, stations.plan_study(longer)
    most = 0

    def count() -> None:
        nonlocal most
        statuses = read_status(runs, StudyFolder(study))
        most = max(most, sum(status.state == "running" for status in statuses))

    outcome = LocalEngine(StudyFolder(study), [Slot(lanes=3)], count).run(runs)
    assert len(outcome.finished) == len(runs)
    assert most == 2  # both trunks, or a branch and the other trunk


def test_a_worker_that_dies_with_several_runs_fails_none_of_them(longer: Path) -> None:
    study, runs = longer, stations.plan_study(longer)
    killed: set[int] = set()

    def kill_once() -> None:
        running = [s for s in read_status(runs, StudyFolder(study)) if s.state == "running"]
        if len(running) == 2 and not killed:
            killed.update(kill_workers())

    outcome = LocalEngine(StudyFolder(study), [Slot(lanes=2)], kill_once).run(runs)
    assert killed
    assert not outcome.failed
    assert len(outcome.finished) == len(runs)


def test_runs_go_to_the_worker_that_has_the_fewest(longer: Path) -> None:
    study, runs = longer, stations.plan_study(longer)
    seen: set[tuple[int, ...]] = set()

    class Watched(LocalEngine):
        def _collect(self, queue: _Queue, workers: list[_Worker]) -> None:
            seen.add(tuple(sorted(len(worker.busy_with) for worker in workers)))
            super()._collect(queue, workers)

    engine = Watched(StudyFolder(study), [Slot(lanes=3), Slot(lanes=3)])
    assert len(engine.run(runs).finished) == len(runs)
    assert (1, 1) in seen
    assert (0, 2) not in seen


def test_large_models_train_alone(study: Path) -> None:
    small, other = stations.plan_study(study)[:2]
    assert [Slot(lanes=3).lanes_for(n) for n in (1e6, 1e8, 1.4e8, 2e8, 3e8, 7e10)] == [
        3,
        3,
        2,
        1,
        1,
        1,
    ]
    large = PlannedRun(other.config, about_n_params=2 * SHARED_PARAMS)
    worker = _Worker(None, None, Slot(lanes=2))
    assert worker.has_room_for(large)
    worker.busy_with["a"] = small
    assert worker.has_room_for(small)
    assert not worker.has_room_for(large)
    worker.busy_with["b"] = small
    assert not worker.has_room_for(small)


def test_a_run_without_room_beside_others_goes_on_alone(study: Path) -> None:
    first, second = stations.plan_study(study)[:2]
    queue = _Queue([first, second], set())
    queue.pending.clear()
    queue.end(second, "crowded", "out of memory")
    assert queue.pending == [second]
    assert not queue.outcome.failed
    engine, workers = LocalEngine(StudyFolder(study), []), []
    for busy in ({"x": first}, {}):
        worker = _Worker(None, Sent(), Slot(lanes=3))
        worker.busy_with |= busy
        workers.append(worker)
    second_alone = PlannedRun(second.config, about_n_params=10.0)  # asked for first
    queue.pending[:] = [second_alone, PlannedRun(first.config)]
    engine._assign(queue, workers)
    assert [sorted(worker.busy_with) for worker in workers] == [
        sorted({"x", first.config.name}),
        [second.config.name],
    ]


class Sent:
    """A connection that takes everything."""

    def send(self, _: object) -> None:
        """Take it."""


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
        filler.write_bytes(b"x" * (free - 200_000))  # room for some runs, not for all
        moved = disk / study.name
        process = run_grid(moved)
        told, _ = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "No space left" in told
        assert "Traceback" not in told
        kept = {path: path.read_bytes() for path in disk.glob("runs/*/result.json")}

        filler.unlink()
        process = run_grid(moved)
        process.communicate(timeout=120)
        assert process.returncode == 0
        assert all(path.read_bytes() == content for path, content in kept.items())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_ctrl_c_says_what_is_kept(longer: Path) -> None:
    watched = folders(longer, stations.plan_study(longer))
    process = run_grid(longer)
    deadline = time.monotonic() + 120
    while not any(folder.path.exists() for folder in watched):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    told, errors = process.communicate(timeout=60)
    assert process.returncode not in (0, 2)
    assert "the same command goes on from here" in told
    assert "Traceback" not in errors
