"""Interrupted, extended and repeated runs end bit for bit like uninterrupted runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_runs import BATCH_TOKENS, Made, points_of
from safetensors.torch import load_file

from dcpt.atomic_files import partial_path
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training import watch
from dcpt.training.loop import train
from dcpt.training.watch import TrainingError

CHILD = """
import sys, torch
from pathlib import Path
from dcpt.runs.identity import RunConfig
from dcpt.training.loop import train
torch.set_num_threads(1)
train(RunConfig.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
"""


def assert_same_weights(left: Path, right: Path) -> None:
    """Check that all tensors of two states are equal to the last bit."""
    left_tensors, right_tensors = load_file(left), load_file(right)
    assert left_tensors.keys() == right_tensors.keys()
    for name, tensor in left_tensors.items():
        assert torch.equal(tensor, right_tensors[name]), name


def elsewhere(made: Made, folder: Path) -> Made:
    """Another study on the same text."""
    folder.mkdir()
    (folder / "data").symlink_to((made.study / "data").resolve())
    return Made(folder, made.base)


@pytest.fixture
def other(made: Made, tmp_path: Path) -> Made:
    return elsewhere(made, tmp_path / "other")


def test_killed_in_mid_run_and_resumed(made: Made, other: Made) -> None:
    config = made.trunk(150, points=(4, 60, 100), keep=(100,), checkpoint_every_s=0.05)
    file = made.study / "config.json"
    file.write_text(config.model_dump_json())
    command = [sys.executable, "-c", CHILD, str(file), str(made.study)]
    child = subprocess.Popen(command, start_new_session=True)
    checkpoint = made.folder(config).checkpoint
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert checkpoint.exists()
    assert made.folder(config).result() is None
    with made.folder(config).metrics.open("a") as torn:
        torn.write('{"event": "poi')  # As after a kill in the middle of a line.

    train(config, made.study)
    train(config, other.study)
    assert points_of(made.folder(config)) == points_of(other.folder(config))
    for step in (100, 150):
        n = step * BATCH_TOKENS
        assert_same_weights(made.folder(config).state(n), other.folder(config).state(n))
    assert not checkpoint.exists()


@pytest.mark.parametrize("stop", [1, 5, 6, 11])
def test_stopped_anywhere_and_resumed(made: Made, other: Made, stop: int) -> None:
    config = made.trunk(12, points=(5, 8), keep=(6,))
    train(config, made.study, stop_at_step=stop)
    assert made.folder(config).result() is None
    train(config, made.study)
    train(config, other.study)
    assert points_of(made.folder(config)) == points_of(other.folder(config))
    n = 12 * BATCH_TOKENS
    assert_same_weights(made.folder(config).state(n), other.folder(config).state(n))


def test_dropout_draws_the_same_after_a_resume(made: Made, other: Made, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from dcpt.training.models import save_model

    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=300, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    assert shape.resid_pdrop > 0
    save_model(GPT2LMHeadModel(shape), made.study / "data/tokenizer", tmp_path / "gpt2")
    config = Made(made.study, tmp_path / "gpt2").trunk(8)
    train(config, made.study, stop_at_step=3)
    train(config, made.study)
    train(config, other.study)
    assert points_of(made.folder(config)) == points_of(other.folder(config))


def test_a_longer_trunk_and_a_new_branch_at_its_end(made: Made, other: Made) -> None:
    short, long = made.trunk(8, points=(8,)), made.trunk(14, points=(8,), keep=(14,))
    assert short.identity.hash == long.identity.hash
    train(short, made.study)
    result = made.folder(short).result()
    assert result is not None
    first_steps = made.folder(short).metrics.read_text()
    assert not made.folder(long).is_done(long)
    train(long, made.study)
    assert made.folder(long).metrics.read_text().startswith(first_steps)
    train(long, other.study)
    branch = made.branch(long, 14, 3, keep_state_at=(17 * BATCH_TOKENS,))
    for runs in (made, other):
        train(branch, runs.study)
    for config, step in ((long, 14), (branch, 17)):
        n = step * BATCH_TOKENS
        assert points_of(made.folder(config)) == points_of(other.folder(config))
        assert_same_weights(made.folder(config).state(n), other.folder(config).state(n))
    longer = made.folder(long).result()
    assert longer is not None
    assert longer["n_tokens"] == 14 * BATCH_TOKENS
    assert longer["wall_s"] > result["wall_s"]


@pytest.mark.parametrize("kept", [(), (3,)])
def test_a_branch_from_a_state_that_was_not_kept(
    made: Made, other: Made, kept: tuple[int, ...]
) -> None:
    without, having = made.trunk(10, keep=kept), made.trunk(10, points=(5,), keep=(5,))
    train(without, made.study)
    train(having, other.study)
    before = {p: p.read_bytes() for p in made.folder(without).path.glob("*") if p.is_file()}
    branch = made.branch(having, 5, 4, keep_state_at=(9 * BATCH_TOKENS,))
    train(branch, made.study, stop_at_step=4)  # Still in the trunk's part.
    train(branch, made.study)
    train(branch, other.study)
    (point,) = points_of(made.folder(branch))
    assert [point] == points_of(other.folder(branch))
    assert point["phase"] == "annealed"
    n = 9 * BATCH_TOKENS
    assert_same_weights(made.folder(branch).state(n), other.folder(branch).state(n))
    after = {p: p.read_bytes() for p in made.folder(without).path.glob("*") if p.is_file()}
    assert before == after


def test_a_finished_trunk_makes_up_for_a_state_and_a_model(made: Made, other: Made) -> None:
    plain = made.trunk(10, points=(4,))
    asked = made.trunk(10, points=(4,), keep=(6, 10), save_model=True)
    train(plain, made.study)
    points = points_of(made.folder(plain))
    train(asked, made.study)
    assert made.folder(asked).is_done(asked)
    assert points_of(made.folder(asked)) == points
    train(asked, other.study)
    n = 6 * BATCH_TOKENS
    assert_same_weights(made.folder(asked).state(n), other.folder(asked).state(n))
    models = [runs.folder(asked).model / "model.safetensors" for runs in (made, other)]
    assert_same_weights(*models)


def test_a_full_disk_fails_in_one_sentence_and_loses_nothing(
    made: Made, tmp_path: Path, as_root: None
) -> None:
    config = made.trunk(30, keep=(10, 20, 25), checkpoint_every_s=0.0)
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        (small / "data").symlink_to((made.study / "data").resolve())
        with pytest.raises(TrainingError, match=r"No space left .* the last checkpoint"):
            train(config, small)
        folder = RunFolder.of(config, small / "runs")
        assert folder.result() is None
        assert folder.states()
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        train(config, small)
        assert folder.is_done(config)
        train(config, made.study)
        assert points_of(folder) == points_of(made.folder(config))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_states_are_of_one_run_only(made: Made, other: Made) -> None:
    config = made.trunk(4)
    train(config, made.study, stop_at_step=2)
    stranger: RunConfig = made.trunk(4, seed=9)
    train(stranger, made.study, stop_at_step=3)
    folder = made.folder(stranger)
    made.folder(config).checkpoint.rename(folder.checkpoint)
    train(stranger, made.study)
    assert folder.checkpoint.with_name("checkpoint.safetensors.damaged").is_file()
    train(stranger, other.study)
    assert points_of(folder) == points_of(other.folder(stranger))


def test_what_killed_saves_left_is_deleted(made: Made) -> None:
    config = made.trunk(4)
    train(config, made.study, stop_at_step=2)
    folder = made.folder(config).path
    left = [partial_path(folder / f"{name}.safetensors") for name in ("checkpoint", "state-64")]
    foreign = folder / "notes.partial"
    for path in (*left, foreign):
        path.write_bytes(b"x")
    train(config, made.study)
    assert not any(path.exists() for path in left)
    assert foreign.exists()


def test_slow_saves_are_further_apart(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now))
    zeros = torch.zeros(2, dtype=torch.float64)
    state: Any = SimpleNamespace(step=0, loss_sum_C=zeros, loss_tokens_C=zeros)
    kept = watch.Watch(made.trunk(4, checkpoint_every_s=60.0), state, 0.0)
    state.step = 1
    for seconds, spacing in ((0.0, 60), (10.0, 200), (1.0, 60)):
        with kept.checkpoint():
            now += seconds
        assert not kept.is_checkpoint_due(is_asked=True)  # it is saved already
        state.step += 1
        assert kept.is_checkpoint_due(is_asked=True)
        now += spacing - 1
        assert not kept.is_checkpoint_due()
        now += 1
        assert kept.is_checkpoint_due()
