"""Runs on GPUs: sharded, in parts, and over several devices they train as a run on one GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_runs import Made
from test_micro_batches import EVERY_STEP, assert_close_points
from test_resume import elsewhere
from test_sharded import differences, finish, report

from dcpt.runs.identity import Architecture, RunConfig
from dcpt.training import compiling, loop
from dcpt.training.data import RunData
from dcpt.training.loop import train
from dcpt.training.models import build_llama, save_model
from dcpt.training.sharded.launch import train_over
from dcpt.training.sharded.load import load_sharded
from dcpt.training.sharded.ranks import Ranks, join_ranks
from dcpt.training.state import TrainingState, start_state

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),  # torch's compiler has its own
]

BOTH = ("cuda:0", "cuda:1")
MEDIUM = Architecture(width=256, layers=6, heads=4, vocab_size=300, max_sequence_tokens=256)

Points = list[dict[str, Any]]

MEAN_IN_BFLOAT16 = 1e-3
"""Largest mean difference of losses in bfloat16, nats.

Every change of kernels moves single losses by more: on one H200 those of a step that is compiled
and of one that is not differ by 3.5e-3 at most and by 4.8e-4 on average, and bfloat16 and float32
by 1.05e-2 at most. So a single loss is compared with the last of these."""


@pytest.fixture
def medium(made: Made, tmp_path: Path) -> Made:
    """A base of 5M parameters, so that rounding has something to round."""
    base = tmp_path / "base"
    save_model(build_llama(MEDIUM, seed=3), made.study / "data/tokenizer", base)
    return Made(made.study, base, {"batch_sequences": 8, "sequence_tokens": 64})


def twenty_steps(medium: Made, dtype: str, **recorded: Any) -> RunConfig:
    n = medium.fields["batch_sequences"] * medium.fields["sequence_tokens"]
    config = medium.trunk(0, dtype=dtype, learning_rate=1e-3, warmup_tokens=0)
    about = {"n_tokens": 20 * n, "evaluation_at": tuple(step * n for step in EVERY_STEP)}
    return config.model_copy(
        update={"recorded": config.recorded.model_copy(update={**about, **recorded})}
    )


def points(made: Made, config: RunConfig) -> Points:
    return made.folder(config).points()


def on_one_gpu(medium: Made, work: Path, dtype: str, **recorded: Any) -> Points:
    other, config = elsewhere(medium, work), twenty_steps(medium, dtype, **recorded)
    train(config, other.study, device=BOTH[0])
    return points(other, config)


def assert_same(found: dict[str, Points], medium: Made, work: Path, dtype: str) -> None:
    """All losses are those of a run on one GPU with the whole batch, up to rounding."""
    expected = on_one_gpu(medium, work / "expected", dtype)
    for label, losses in found.items():
        report(f"{dtype}, {label}", losses, expected)
    if dtype == "float32":
        for losses in found.values():
            assert_close_points(losses, expected, within=1e-5)
        return
    exact = on_one_gpu(medium, work / "exact", "float32")
    report("float32, whole batch", exact, expected)
    for label, losses in found.items():
        gaps = differences(losses, expected)
        assert sum(gaps) / len(gaps) < MEAN_IN_BFLOAT16, label
        assert max(gaps) < max(differences(exact, expected)), label


def load_sharded_alone(
    config: RunConfig, study: Path, device: str, data: RunData, ranks: Ranks
) -> TrainingState:
    """The state of a sharded run, also where a single process holds it."""
    model, forward = load_sharded(config, study, ranks, device, data.validation.border_id)
    return start_state(model, config.identity, forward=forward, ranks=ranks)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layouts_agree_on_one_device(
    medium: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    found = {
        "micro-batches of 2": on_one_gpu(medium, tmp_path / "2", dtype, micro_batch_sequences=2)
    }
    with monkeypatch.context() as patch:
        patch.setattr(compiling, "_compile", lambda function: function)
        found["not compiled"] = on_one_gpu(medium, tmp_path / "eager", dtype)
    monkeypatch.setattr(loop, "load_start", load_sharded_alone)
    with join_ranks(Ranks(), BOTH[0], f"file://{tmp_path}/meeting"):
        found["sharded"] = on_one_gpu(medium, tmp_path / "sharded", dtype)
    monkeypatch.undo()
    assert_same(found, medium, tmp_path, dtype)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layouts_agree(medium: Made, tmp_path: Path, dtype: str) -> None:
    config = twenty_steps(medium, dtype)
    recomputed: dict[str, Any] = {"micro_batch_sequences": 1, "activation_checkpointing": True}
    found = {}
    for label, steps in {
        "two GPUs, sharded": [(BOTH, config, None)],
        "two GPUs, whole on each": [(BOTH, config, None)],
        "two GPUs, sharded, micro-batches of 1, layers computed again": [
            (BOTH, twenty_steps(medium, dtype, **recomputed), None)
        ],
        "two GPUs, sharded, then one, then two": [
            (BOTH, config, 6),
            (BOTH[:1], config, 13),
            (BOTH, config, None),
        ],
    }.items():
        other = elsewhere(medium, tmp_path / label.replace(" ", "-").replace(",", ""))
        for devices, run, stop in steps:
            if len(devices) == 1:
                train(run, other.study, device=devices[0], stop_at_step=stop)
            else:
                how: dict[str, Any] = {"stop_at_step": stop, "always_shards": "sharded" in label}
                finish(train_over(run, other.study, devices, **how))
        found[label] = points(other, config)
        result = other.folder(config).result()
        assert result is not None
        assert result["layout"] == ("sharded" if "sharded" in label else "whole"), label
    assert_same(found, medium, tmp_path, dtype)
