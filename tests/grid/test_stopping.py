"""Signals and dead workers: runs in training are saved, resumed, or fail with a message."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engines import Remembering, folders, kill_worker, run_grid, wait_until
from safetensors.torch import load_file

from dcpt.errors import Stopped
from dcpt.grid import local
from dcpt.grid.end_words import death_words
from dcpt.grid.local import LocalEngine, Worker
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import Slot
from dcpt.grid.status import read_status
from dcpt.pipeline.workspace import Workspace
from dcpt.processes import STOP_SIGNALS, note_signals
from dcpt.runs.folders import RunFolder
from dcpt.study.folder import StudyFolder
from dcpt.training.state import read_step

pytestmark = pytest.mark.usefixtures("listening")


def copy_of(study: Path, folder: Path) -> Path:
    """Copy the prepared study to another folder, without trained runs."""
    shutil.copytree(study.parent, folder)
    return folder / study.name


def assert_same_runs(study: Path, other: Path) -> None:
    """Check that all runs of two studies have the same points and bit-identical states."""
    for here, there in zip(
        folders(study, Workspace(study).planned),
        folders(other, Workspace(other).planned),
        strict=True,
    ):
        points = [[{**p, "wall_s": None} for p in folder.points()] for folder in (here, there)]
        assert points[0]
        assert points[0] == points[1]
        assert here.states().keys() == there.states().keys()
        for n_tokens, path in here.states().items():
            tensors, others = load_file(path), load_file(there.state(n_tokens))
            assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())


def last_tokens(folder: RunFolder) -> int:
    """How far the journal of a run tells of it."""
    return max((event.get("n_tokens", 0) for event in folder.events()), default=0)


def saved_tokens(folder: RunFolder, run: PlannedRun) -> int:
    return read_step(folder.checkpoint) * run.config.identity.batch_tokens


def often_saved(runs: list[PlannedRun]) -> list[PlannedRun]:
    """Return the runs without a least time between checkpoints.

    They are still as far apart as 20 times the last save took.
    """
    recorded = {"checkpoint_every_s": 0.0}
    return [
        replace(
            run,
            config=run.config.model_copy(
                update={"recorded": run.config.recorded.model_copy(update=recorded)}
            ),
        )
        for run in runs
    ]


def the_saved_run(study: Path) -> tuple[PlannedRun, RunFolder]:
    """Return the only run that has a checkpoint."""
    runs = Workspace(study).planned
    pairs = zip(runs, folders(study, runs), strict=True)
    (found,) = [(run, folder) for run, folder in pairs if folder.checkpoint.exists()]
    return found


def trunks_of(runs: list[PlannedRun]) -> list[PlannedRun]:
    return [run for run in runs if run.config.identity.kind == "trunk"]


def shorter(study: Path) -> Path:
    """Trunks long enough to be killed half-way, but done in seconds."""
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("tokens: 5120", "tokens: 40960"), encoding="utf-8")
    return study


def test_a_run_whose_worker_was_killed_ends_as_if_nothing_had_happened(
    study: Path, tmp_path: Path
) -> None:
    study = shorter(study)
    other = copy_of(study, tmp_path / "other")
    runs, killed = often_saved(Workspace(study).planned), []
    trunk = trunks_of(runs)[0]

    def kill_once(queue: RunQueue) -> None:
        if trunk.name in queue.running and not killed:
            checkpoint = queue.folders[trunk.name].checkpoint
            wait_until(checkpoint.exists)
            killed.append(kill_worker(engine.started[-1]))
            assert read_step(checkpoint) > 0

    engine = Remembering(StudyFolder(study), [Slot()], kill_once)
    outcome = engine.run(runs)
    assert killed
    assert len(engine.started) == 2
    assert not outcome.failed
    assert len(outcome.finished) == len(runs)
    notes = RunFolder.of(trunk.config, StudyFolder(study).runs).path / "error.json"
    assert not notes.exists()
    LocalEngine(StudyFolder(other), [Slot()]).run(Workspace(other).planned)
    assert_same_runs(study, other)


def test_a_run_whose_process_dies_twice_fails_and_the_others_go_on(study: Path) -> None:
    runs = Workspace(study).planned
    doomed, sound = trunks_of(runs)
    killed = []

    def kill_always(queue: RunQueue) -> None:
        if doomed.name in queue.running:
            killed.append(kill_worker(engine.started[-1]))
            engine.started[-1].process.join()

    class Hesitating(Remembering):
        """Sends the doomed run to a worker that cannot finish it before it is killed."""

        def _start(self, slot: Slot) -> Worker:
            worker = super()._start(slot)
            if len(killed) < 2:
                os.kill(worker.process.pid, signal.SIGSTOP)
            return worker

    bases = [run for run in runs if run.config.identity.kind == "pretrain"]
    LocalEngine(StudyFolder(study), [Slot()]).run(bases)
    doomed = replace(doomed, about_n_params=10 * doomed.about_n_params)  # It is sent first.
    runs = [doomed if run.name == doomed.name else run for run in runs]
    engine = Hesitating(StudyFolder(study), [Slot()], kill_always)
    outcome = engine.run(runs)

    assert len(killed) == 2
    assert len(outcome.failed) == 2  # With the branch that needs it.
    assert outcome.failed[doomed.name] == (
        "its process was killed twice, the last time by SIGKILL, probably because memory ran out; "
        "use fewer --workers or free memory, then rerun the same command to resume from the "
        "last checkpoint"
    )
    assert sound.name in outcome.finished
    error = RunFolder.of(doomed.config, StudyFolder(study).runs).error()
    assert error is not None
    assert error["kind"] == "killed"
    assert not LocalEngine(StudyFolder(study), [Slot()]).run(runs).failed


@pytest.mark.parametrize(
    ("exit_code", "expected"),
    [(-11, "by SIGSEGV; rerun the same"), (-9, "by SIGKILL, probably"), (3, "exit code 3; rerun")],
)
def test_a_death_is_named(exit_code: int, expected: str) -> None:
    assert expected in death_words(exit_code)


@pytest.mark.parametrize(
    ("number", "send"), [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)]
)
def test_a_signal_saves_the_runs_in_training(
    longer: Path, tmp_path: Path, number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    other = copy_of(longer, tmp_path / "other")
    watched = folders(longer, trunks_of(Workspace(longer).planned))
    process = run_grid(longer)
    wait_until(lambda: any(last_tokens(folder) for folder in watched))
    send(process.pid, number)  # A terminal sends Ctrl-C to all processes.
    output, errors = process.communicate()

    assert process.returncode == 128 + number
    assert "Traceback" not in output + errors
    assert f"dcpt: stopped by {number.name}; saved 1 run in training; rerun the same" in errors
    run, folder = the_saved_run(longer)
    assert saved_tokens(folder, run) >= last_tokens(folder) > 0
    assert not folder.is_locked()

    if number == signal.SIGTERM:  # The rest is the same for both.
        points = []
        for study in (longer, other):
            needed = [
                planned
                for planned in Workspace(study).planned
                if planned.name == run.name or planned.identity_hash in run.needs
            ]
            assert not LocalEngine(StudyFolder(study), [Slot()]).run(needed).failed
            (end,) = folders(study, [run])
            points.append([{**point, "wall_s": None} for point in end.points()])
        assert points[0] == points[1]


def test_workers_save_and_leave_when_their_parent_is_killed(longer: Path) -> None:
    watched = folders(longer, trunks_of(Workspace(longer).planned))
    process = run_grid(longer)
    wait_until(lambda: any(last_tokens(folder) for folder in watched))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()  # Returns when the worker has closed its side too.
    run, folder = the_saved_run(longer)
    assert saved_tokens(folder, run) >= last_tokens(folder) > 0
    assert not folder.is_locked()


class Interrupting:
    """Sends this process signals as soon as a run has begun; its worker may be frozen before."""

    def __init__(self, freeze: bool) -> None:
        self.engine: Any = None
        self.freeze = freeze

    def __call__(self, queue: RunQueue) -> None:
        (worker,) = self.engine.started
        if worker.is_ready and queue.running:
            if self.freeze:
                os.kill(worker.process.pid, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGINT)


def interrupted(study: Path, runs: list[PlannedRun], freeze: bool) -> tuple[Stopped, Remembering]:
    tick = Interrupting(freeze)
    tick.engine = Remembering(StudyFolder(study), [Slot()], tick)
    with pytest.raises(Stopped) as stopped:
        tick.engine.run(runs)
    return stopped.value, tick.engine


def test_runs_that_cannot_be_saved_in_time_are_named(
    longer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Workspace(longer).planned
    monkeypatch.setattr(local, "_SAVE_S", 0.0)
    stopped, engine = interrupted(longer, runs, freeze=True)
    assert stopped.exit_code == 130
    assert f"not saved in time, so reset to their last checkpoint: {runs[0].name}" in str(stopped)
    assert [worker.process.exitcode for worker in engine.started] == [-signal.SIGKILL]


def test_a_second_interrupt_does_not_wait(longer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    def wait_and_interrupt(*arguments: Any, timeout: float) -> list[Any]:
        waits.append(timeout)
        assert len(waits) < 1000
        if timeout == 0.1:  # The engine waits for its workers to save.
            os.kill(os.getpid(), signal.SIGINT)
        return wait(*arguments, timeout=timeout)

    wait = local.wait
    monkeypatch.setattr(local, "_SAVE_S", float("inf"))
    monkeypatch.setattr(local, "wait", wait_and_interrupt)
    stopped, engine = interrupted(longer, Workspace(longer).planned, freeze=True)
    assert "not saved in time" in str(stopped)
    assert [worker.process.exitcode for worker in engine.started] == [-signal.SIGKILL]


def test_an_error_of_the_view_saves_the_runs_too(longer: Path) -> None:
    def fail(queue: RunQueue) -> None:
        trunks = trunks_of([*queue.running.values()])
        if any(last_tokens(queue.folders[run.name]) for run in trunks):
            raise OSError("the terminal is gone")

    engine = Remembering(StudyFolder(longer), [Slot()], fail)
    with pytest.raises(OSError, match="the terminal is gone"):
        engine.run(Workspace(longer).planned)
    run, folder = the_saved_run(longer)
    assert saved_tokens(folder, run) >= last_tokens(folder)


def test_signals_are_only_noted_where_that_is_wanted() -> None:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As nohup does.
    try:
        with note_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[signal.SIGHUP])
    assert {number: signal.getsignal(number) for number in STOP_SIGNALS} == before

    found: list[object] = []

    def elsewhere() -> None:
        with note_signals() as received:
            found.extend([received, signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [[], before[signal.SIGTERM]]


def test_a_signal_is_noted_inside_and_outside() -> None:
    with note_signals() as outer:
        os.kill(os.getpid(), signal.SIGTERM)
        with note_signals() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner == [signal.SIGTERM] * 2
        os.kill(os.getpid(), signal.SIGTERM)
        assert outer == [signal.SIGTERM] * 3


def test_an_old_error_file_has_no_kind(study: Path) -> None:
    runs = Workspace(study).planned
    (folder, *_) = folders(study, runs)
    folder.path.mkdir(parents=True)
    (folder.path / "error.json").write_text(json.dumps({"message": "no luck", "traceback": ""}))
    (status, *_) = read_status(runs, StudyFolder(study))
    assert status.error is not None
    assert (status.state, status.error.sentence) == ("failed", "no luck")
