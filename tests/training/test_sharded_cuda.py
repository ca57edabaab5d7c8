"""Runs over two GPUs train as runs on one GPU, and go on with another number of GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_runs import Made
from test_micro_batches import EVERY_STEP, assert_close_points
from test_resume import elsewhere
from test_sharded import finish, report

from dcpt.runs.identity import Architecture
from dcpt.training.loop import train
from dcpt.training.models import build_llama, save_model
from dcpt.training.sharded.launch import train_over

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
    pytest.mark.filterwarnings("default"),  # torch's compiler has its own
]

BOTH = ("cuda:0", "cuda:1")
MEDIUM = Architecture(width=256, layers=6, heads=4, vocab_size=300, max_sequence_tokens=256)


@pytest.fixture
def medium(made: Made, tmp_path: Path) -> Made:
    """A base of 5M parameters, so that rounding has something to round."""
    base = tmp_path / "base"
    save_model(build_llama(MEDIUM, seed=3), made.study / "data/tokenizer", base)
    return Made(made.study, base, {"batch_sequences": 8, "sequence_tokens": 64})


def points(made: Made, config: Any) -> list[dict[str, Any]]:
    return made.folder(config).points()


@pytest.mark.parametrize(("dtype", "within"), [("float32", 1e-5), ("bfloat16", 1e-3)])
def test_layouts_agree(medium: Made, tmp_path: Path, dtype: str, within: float) -> None:
    n = medium.fields["batch_sequences"] * medium.fields["sequence_tokens"]
    how: dict[str, Any] = {"dtype": dtype, "learning_rate": 1e-3, "warmup_tokens": 0}
    config = medium.trunk(0, **how)

    def at(**recorded: Any) -> Any:
        about = {"n_tokens": 20 * n, "evaluation_at": tuple(step * n for step in EVERY_STEP)}
        return config.model_copy(
            update={"recorded": config.recorded.model_copy(update={**about, **recorded})}
        )

    train(at(), medium.study, device="cuda:0")
    expected, found = points(medium, config), {}
    for label, steps in {
        "one GPU, micro-batches of 2": [(BOTH[:1], at(micro_batch_sequences=2), None)],
        "two GPUs, sharded": [(BOTH, at(), None)],
        "two GPUs, whole on each": [(BOTH, at(), None)],
        "two GPUs, sharded, micro-batches of 1, layers computed again": [
            (BOTH, at(micro_batch_sequences=1, activation_checkpointing=True), None)
        ],
        "two GPUs, sharded, then one, then two": [
            (BOTH, at(), 6),
            (BOTH[:1], at(), 13),
            (BOTH, at(), None),
        ],
    }.items():
        other = elsewhere(medium, tmp_path / label.replace(" ", "-").replace(",", ""))
        for devices, run, stop in steps:
            if len(devices) == 1:
                train(run, other.study, device=devices[0], stop_at_step=stop)
            else:
                how = {"stop_at_step": stop, "always_shards": "sharded" in label}
                finish(train_over(run, other.study, devices, **how))
        found[label] = points(other, config)
        result = other.folder(config).result()
        assert result is not None
        assert result["layout"] == ("sharded" if "sharded" in label else "whole"), label
        report(f"{dtype}, {label}", found[label], expected)
    for losses in found.values():
        assert_close_points(losses, expected, within=within)
