"""Runs that share a device give the same results as alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_runs import BATCH_TOKENS, Made, points_of
from test_resume import assert_same_weights, elsewhere

from dcpt.errors import InputError
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.text.mixture import Batch
from dcpt.training import loop
from dcpt.training.lanes import Ended, Lanes
from dcpt.training.loop import train
from dcpt.training.state import read_step
from dcpt.training.step import Step
from dcpt.training.trackers import Trackers
from dcpt.training.watch import TrainingError, kind_of


@pytest.fixture
def other(made: Made, tmp_path: Path) -> Made:
    return elsewhere(made, tmp_path / "other")


def take_over(folder: RunFolder) -> None:
    """Do what another process does that takes a run over."""
    (lease,) = folder.path.glob("lease.*")
    lease.unlink()
    (folder.path / "lease.2").write_text("the lease of another process")


def train_together(made: Made, configs: list[RunConfig]) -> list[Ended]:
    lanes, ended = Lanes(made.study, ["cpu"]), []
    for config in configs:
        lanes.add(config)
    while len(lanes):
        ended += lanes.advance()
    return ended


def test_together_and_alone_are_the_same_to_the_last_bit(made: Made, other: Made) -> None:
    trunk = made.trunk(9, points=(4,), keep=(6,))
    train(trunk, made.study)
    train(trunk, other.study)
    configs = [
        made.trunk(12, points=(5,), ratio=0.2),
        made.trunk(7, learning_rate=1e-3, points=(7,)),
        made.branch(trunk, 6, 3, keep_state_at=(9 * BATCH_TOKENS,)),
    ]
    ended = train_together(made, configs)
    assert [(e.run, e.state) for e in ended] == [
        (config.name, "finished") for config in (configs[2], configs[1], configs[0])
    ]
    for config, steps in zip(configs, (12, 7, 9), strict=True):
        train(config, other.study)
        assert points_of(made.folder(config)) == points_of(other.folder(config))
        n = steps * BATCH_TOKENS
        assert_same_weights(made.folder(config).state(n), other.folder(config).state(n))


def test_a_run_that_fails_leaves_the_others_alone(made: Made, other: Made) -> None:
    poisoned = made.trunk(30, learning_rate=1e30, warmup_tokens=0)
    sound = made.trunk(30)
    ended = {e.run: e for e in train_together(made, [poisoned, sound])}
    assert ended[poisoned.name].state == "failed"
    assert "lower the learning rate" in ended[poisoned.name].words
    error = made.folder(poisoned).error()
    assert error is not None
    assert "TrainingError" in error["traceback"]
    assert error["kind"] == "not_finite"
    assert made.folder(poisoned).result() is None
    assert ended[sound.name].state == "finished"
    train(sound, other.study)
    assert points_of(made.folder(sound)) == points_of(other.folder(sound))


class Killed(BaseException):
    """Stands for the end of a process that is killed in the middle of its work."""


def test_runs_are_saved_before_another_size_is_compiled(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that compiles answers only afterwards, so it may be killed while it does."""
    monkeypatch.setattr("dcpt.training.lanes.is_compiled_on", lambda _: True)
    lanes, trained, same = Lanes(made.study, ["cpu"]), made.trunk(30), made.trunk(30, seed=5)
    other = made.trunk(30, seed=6)
    other = other.model_copy(update={"recorded": other.recorded.model_copy(update={"size": "b"})})
    lanes.add(trained)
    for _ in range(4):
        lanes.advance()
    lanes.add(same)
    lanes.advance()  # nothing is compiled for the second run
    is_saved = made.folder(trained).checkpoint.exists()

    take_step = Step.__call__

    def compile_for_ever(step: Step, batch: Batch) -> torch.Tensor:
        if step._identity == other.identity:
            raise Killed
        return take_step(step, batch)

    monkeypatch.setattr(Step, "__call__", compile_for_ever)
    lanes.add(other)
    with pytest.raises(Killed):
        lanes.advance()
    checkpoints = [made.folder(config).checkpoint for config in (trained, same, other)]
    saved = [read_step(path) if path.exists() else None for path in checkpoints]
    lanes.stop()
    lanes.advance()  # a suspended run keeps its lease
    assert not is_saved
    assert saved == [5, 1, None]


def test_what_is_done_or_under_way_elsewhere_is_not_trained(made: Made) -> None:
    done, locked = made.trunk(4), made.trunk(4, seed=5)
    train(done, made.study)
    before = made.folder(done).metrics.read_bytes()
    with made.folder(locked).lock() as mine:
        assert mine
        ended = {e.run: e.state for e in train_together(made, [done, locked])}
    assert ended == {done.name: "finished", locked.name: "elsewhere"}
    assert made.folder(done).metrics.read_bytes() == before
    assert not made.folder(locked).metrics.exists()


def test_a_run_that_another_process_took_over_ends_without_a_trace(made: Made) -> None:
    config = made.trunk(12)
    folder = made.folder(config)
    lanes = Lanes(made.study, ["cpu"])
    lanes.add(config)
    for _ in range(2):
        assert lanes.advance() == []
    take_over(folder)
    before = folder.metrics.read_bytes()
    lanes.stop()  # it would save a checkpoint now
    (ended,) = lanes.advance()
    assert (ended.run, ended.state) == (config.name, "elsewhere")
    assert "another process took over" in ended.words
    assert not folder.checkpoint.exists()
    assert folder.error() is None
    assert folder.metrics.read_bytes() == before
    assert (folder.path / "lease.2").read_text() == "the lease of another process"


def test_an_error_after_another_process_took_over_is_no_failure(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = made.trunk(12, keep=(6,))
    folder = made.folder(config)

    def save(path: Path, *_: object) -> None:  # the new owner deletes the unfinished file
        take_over(folder)
        raise FileNotFoundError(2, "No such file or directory", f"{path}.7.partial")

    monkeypatch.setattr(loop, "save_state", save)
    ends: list[str] = []
    monkeypatch.setattr(Trackers, "close", lambda _, end: ends.append(end))
    (ended,) = train_together(made, [config])
    assert ended.state == "elsewhere"
    assert "another process took over" in ended.words
    assert folder.error() is None
    assert ends == ["stopped"]


def test_a_run_that_is_taken_over_while_its_model_is_saved_writes_no_result(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = made.pretrain(6, 2)
    folder = made.folder(config)
    monkeypatch.setattr(loop, "save_whole_model", lambda *_: take_over(folder))
    (ended,) = train_together(made, [config])
    assert ended.state == "elsewhere"
    assert folder.result() is None
    assert folder.error() is None


def test_a_run_whose_folder_cannot_be_made_fails_alone(made: Made) -> None:
    blocked, sound = made.trunk(4, seed=5), made.trunk(4)
    made.runs.mkdir()
    (made.runs / blocked.name).write_text("a file where the folder should be")
    ended = {e.run: e for e in train_together(made, [blocked, sound])}
    assert ended[blocked.name].state == "failed"
    assert "File exists" in ended[blocked.name].words
    assert ended[sound.name].state == "finished"


def test_stopped_runs_are_saved_where_they_are(made: Made, other: Made) -> None:
    first, second = made.trunk(12, points=(5,)), made.trunk(12, seed=5)
    late = made.trunk(12, seed=6)
    lanes = Lanes(made.study, ["cpu"])
    lanes.add(first)
    for _ in range(2):
        assert lanes.advance() == []
    lanes.add(second)
    for _ in range(3):
        assert lanes.advance() == []
    lanes.add(late)
    lanes.stop()
    assert [(e.run, e.state) for e in lanes.advance()] == [
        (config.name, "stopped") for config in (first, second, late)
    ]
    assert not len(lanes)
    assert [read_step(made.folder(config).checkpoint) for config in (first, second)] == [5, 3]
    assert not made.folder(late).metrics.exists()  # None of its steps ran.
    for config in (first, second):
        train(config, made.study)
        train(config, other.study)
        assert points_of(made.folder(config)) == points_of(other.folder(config))
        n = 12 * BATCH_TOKENS
        assert_same_weights(made.folder(config).state(n), other.folder(config).state(n))


def test_a_released_run_goes_on_elsewhere_and_the_others_stay(made: Made, other: Made) -> None:
    moved, stays = made.trunk(12, points=(5,)), made.trunk(12, seed=5)
    lanes, there = Lanes(made.study, ["cpu"]), Lanes(made.study, ["cpu"])
    lanes.add(moved)
    lanes.add(stays)
    for _ in range(3):
        assert lanes.advance() == []
    assert lanes.reached() == {config.name: 3 * BATCH_TOKENS for config in (moved, stays)}
    lanes.release(moved.name)
    lanes.release("a run that ended")
    assert [(e.run, e.state) for e in lanes.advance()] == [(moved.name, "released")]
    assert len(lanes) == 1
    assert read_step(made.folder(moved).checkpoint) == 3
    there.add(moved)
    while len(there):
        there.advance()
    train(moved, other.study)
    assert points_of(made.folder(moved)) == points_of(other.folder(moved))
    lanes.add(moved)  # It may come back.
    assert [(e.run, e.state) for e in lanes.advance()] == [(moved.name, "finished")]


def test_a_run_at_its_end_finishes_though_it_is_asked_to_stop(made: Made) -> None:
    config, lanes = made.trunk(2), Lanes(made.study, ["cpu"])
    lanes.add(config)
    for _ in range(2):
        assert lanes.advance() == []
    lanes.stop()
    assert [end.state for end in lanes.advance()] == ["finished"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TrainingError("the loss is nan", "not_finite"), "not_finite"),
        (TrainingError("no space left", "disk"), "disk"),
        (InputError("no such base"), "input"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (torch.AcceleratorError("CUDA error: an illegal memory access"), "device"),
        (FileExistsError("runs"), "disk"),
        (ValueError("anything"), "other"),
    ],
)
def test_errors_have_kinds(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind
