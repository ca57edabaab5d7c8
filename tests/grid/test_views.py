"""Views of a grid in training; the tests change the queue, nothing is trained."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live

from dcpt.cli.show_grid import LiveView, LogView, _end_live, time
from dcpt.cli.show_text import watch_progress
from dcpt.errors import Stopped
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import Slot
from dcpt.grid.status import read_run_status
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.failures import write_error
from dcpt.runs.folders import RunFolder
from dcpt.study.folder import StudyFolder


@pytest.fixture
def queue(study: Path) -> RunQueue:
    """Five planned runs: a base, two trunks and a branch of each."""
    return RunQueue(Workspace(study).planned, StudyFolder(study))


def finish(queue: RunQueue, index: int) -> None:
    """Take a run and end it, as a worker would."""
    run = queue.planned[index]
    folder, n_tokens = queue.folders[run.name], run.config.recorded.n_tokens
    queue.take(run)
    folder.write_config(run.config)
    folder.metrics.touch()
    (folder.path / "model").mkdir()
    for n_kept in run.config.recorded.keep_state_at:
        folder.state(n_kept).touch()
    result = {"n_tokens": n_tokens, "loss": {"en": 2.5, "law": 1.25}, "wall_s": 12.4}
    folder.write_result({**result, "tokens_per_s": 1000.0})
    queue.end(run, "finished")


def log_view(out: io.StringIO) -> LogView:
    return LogView(Console(file=out, width=40), [Slot(), Slot()], "grid")


def test_lines_where_there_is_no_terminal(queue: RunQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    out = io.StringIO()
    view = log_view(out)
    base, trunk, *_ = queue.planned
    view.tick(queue)
    finish(queue, 0)
    view.tick(queue)
    view.tick(queue)
    now += 61
    view.tick(queue)
    view.tick(queue)
    queue.take(trunk)
    queue.end(trunk, "failed", "TrainingError: the loss is nan")
    view.tick(queue)
    view.finish()
    branch = next(run for run in queue.planned if trunk.identity_hash in run.needs)
    assert out.getvalue().splitlines() == [
        "grid: 5 runs to train, 0 done, 2 workers",
        f"finished {base.name}: 8,192 tokens, 12 s, en 2.500  law 1.250",
        "grid: 1 of 5 runs done; 61 s elapsed, about 6 s left",
        f"failed {trunk.name}: TrainingError: the loss is nan",
        f"failed {branch.name}: the run it starts from failed",
        "grid: 1 of 5 runs done, 2 failed; 61 s elapsed, about 6 s left",
    ]


def test_a_cancelled_run_has_a_line_where_there_is_no_terminal(queue: RunQueue) -> None:
    out = io.StringIO()
    view = log_view(out)
    finish(queue, 0)
    view.tick(queue)
    trunk = queue.planned[1]
    queue.take(trunk)
    queue.end(trunk, "cancelled")
    view.tick(queue)
    branch = next(run for run in queue.planned if trunk.identity_hash in run.needs)
    lines = out.getvalue().splitlines()
    assert f"cancelled {trunk.name}: 0 tokens" in lines
    assert f"cancelled {branch.name}: 0 tokens" in lines


def test_a_redraw_reads_only_the_runs_in_training(
    queue: RunQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    result = RunFolder.result

    def counted(folder: RunFolder) -> Any:
        read.append(folder.path.name)
        return result(folder)

    finish(queue, 0)
    monkeypatch.setattr(RunFolder, "result", counted)
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    live = Live(console=console, auto_refresh=False)
    view = LiveView(console, [Slot()], "grid", live)
    view.tick(queue)
    assert set(read) == {run.name for run in queue.planned}  # Once, at the beginning.

    assert view.status is not None
    read.clear()
    view.draw(view.status)
    assert read == []
    trunk = queue.planned[1]
    queue.take(trunk)
    folder = queue.folders[trunk.name]
    folder.write_config(trunk.config)
    with folder.lock():
        line = {"event": "train", "n_tokens": 1024, "tokens_per_s": 50.0, "channel_loss": {}}
        folder.metrics.write_text(json.dumps(line) + "\n")
        view.draw(view.status)
    assert set(read) == {trunk.name}
    (running,) = [run for run in view.status.statuses if run.state == "running"]
    assert (running.name, running.n_tokens) == (trunk.name, 1024)

    read.clear()
    queue.end(trunk, "failed", write_error(folder, "no luck", "", "other"))
    view.draw(view.status)
    branch = next(run for run in queue.planned if trunk.identity_hash in run.needs)
    assert set(read) == {trunk.name, branch.name}  # Both have just failed.
    read.clear()
    view.draw(view.status)
    assert read == []
    assert view.status.n_failed == 2  # With its branch.
    assert "1 of 5 runs done, 2 failed" in view.totals(view.status)


def test_one_listing_finds_all_folders(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Workspace(study).planned
    renamed = StudyFolder(study).runs / f"another-slug-{runs[1].identity_hash}"
    renamed.mkdir(parents=True)
    (StudyFolder(study).runs / "stray").touch()

    def refuse(*_: object) -> None:
        raise AssertionError("a listing for one run")

    monkeypatch.setattr(RunFolder, "find", refuse)
    queue = RunQueue(runs, StudyFolder(study))
    assert queue.folders[runs[1].name].path == renamed
    assert queue.folders[runs[0].name].path.name == runs[0].name


def test_a_torn_result_is_a_state_and_is_trained_again(queue: RunQueue, study: Path) -> None:
    finish(queue, 0)
    base = queue.planned[0]
    path = queue.folders[base.name].path / "result.json"
    path.write_text("{", encoding="utf-8")
    again = RunQueue(queue.planned, StudyFolder(study))
    assert base.name in again.pending
    view = read_run_status(base, again.folders[base.name])
    assert view.state == "damaged"
    assert view.error is not None
    assert str(path) in view.error.sentence


def test_a_line_for_each_channel_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with watch_progress(Console(file=out, width=40)) as progress:
        progress("en", 1_000_000, 3_000_000)
        progress("en", 3_000_000, 3_000_000)
        assert not out.getvalue()
        progress("law", 500_000, 9_000_000)
    lines = out.getvalue().splitlines()
    assert [line.partition(" in ")[0] for line in lines] == [
        "prepared en: read 3.0 MB",
        "prepared law: read 0.5 MB",
    ]


class Gone:
    """A live view in a terminal that was closed."""

    def stop(self) -> None:
        raise OSError("the terminal is gone")


def test_a_closed_terminal_hides_no_stop() -> None:
    with pytest.raises(OSError, match="the terminal is gone"):
        _end_live(Gone())
    with pytest.raises(Stopped):
        stop_under(Gone())


def stop_under(live: Any) -> None:
    try:
        raise Stopped(1, "saved 1 run")
    finally:
        _end_live(live)


def test_bfloat16_on_a_cpu_is_pointed_out(study: Path) -> None:
    text = study.read_text(encoding="utf-8")
    queue = RunQueue(Workspace(study).planned, StudyFolder(study))
    out = io.StringIO()
    log_view(out).tick(queue)
    assert "bfloat16" not in out.getvalue()
    study.write_text(text.replace("training: {", "training: {dtype: bfloat16, "), encoding="utf-8")
    queue = RunQueue(Workspace(study).planned, StudyFolder(study))
    log_view(out).tick(queue)
    assert "note: training.dtype is bfloat16 and the runs train on a CPU" in out.getvalue()
