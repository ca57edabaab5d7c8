"""The same runs on an accelerator."""

from __future__ import annotations

import pytest
import torch
from made_runs import BATCH_TOKENS, Made

from dcpt.training.loop import train
from dcpt.training.timing import time_steps

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 3e-2)])
def test_losses_are_those_of_the_cpu(made: Made, dtype: str, tolerance: float) -> None:
    on_gpu = made.trunk(12, points=(6,), keep=(8,), save_model=True, dtype=dtype)
    on_cpu = made.trunk(12, points=(6,), keep=(8,))
    train(on_gpu, made.study, device="cuda:0", stop_at_step=7)
    train(on_gpu, made.study, device="cuda:0")
    branch = made.branch(on_gpu, 8, 3)
    train(branch, made.study, device="cuda:0")
    found = made.folder(on_gpu).points() + made.folder(branch).points()

    if dtype == "float32":  # the same identity: put the first one away
        made.folder(on_gpu).path.rename(made.runs / "put-away")
        made.folder(branch).path.rename(made.runs / "put-away-too")
    train(on_cpu, made.study)
    decayed = made.branch(on_cpu, 8, 3)
    train(decayed, made.study)
    expected = made.folder(on_cpu).points() + made.folder(decayed).points()
    assert [p["n_tokens"] for p in found] == [n * BATCH_TOKENS for n in (0, 6, 12, 11)]
    for one, two in zip(found, expected, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=tolerance)
        assert one["train_loss"] == pytest.approx(two["train_loss"], abs=tolerance)


def test_timing(made: Made) -> None:
    assert time_steps(made.trunk(4), made.study, device="cuda:0").tokens_per_s > 100
