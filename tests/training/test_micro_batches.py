"""Runs that pass a part of the batch at a time train as runs that pass it at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from made_runs import BATCH_TOKENS, Made, points_of
from safetensors.torch import load_file
from test_lanes import train_together
from test_resume import assert_same_weights, elsewhere

from dcpt.runs.identity import RunConfig
from dcpt.training.bases import load_base
from dcpt.training.forward import Forward
from dcpt.training.loop import train
from dcpt.training.state import start_state
from dcpt.training.step import Step

EVERY_STEP = tuple(range(1, 21))


@pytest.fixture
def other(made: Made, tmp_path: Path) -> Made:
    return elsewhere(made, tmp_path / "other")


def assert_close_points(
    found: list[dict[str, Any]], expected: list[dict[str, Any]], within: float
) -> None:
    """Validation and training losses of every channel at every point agree."""
    assert len(found) == len(expected) > 1
    for point, wanted in zip(found, expected, strict=True):
        assert point["tokens"] == wanted["tokens"]
        for kind in ("loss", "train_loss"):
            assert point[kind] == pytest.approx(wanted[kind], rel=0, abs=within)


@pytest.mark.parametrize("packing", ["concatenated", "documents"])
@pytest.mark.parametrize("sequences", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "within"), [("float32", 1e-5), ("bfloat16", 1e-3)])
def test_losses_do_not_depend_on_the_micro_batch(
    made: Made, other: Made, sequences: int, packing: str, dtype: str, within: float
) -> None:
    how = {"points": EVERY_STEP, "dtype": dtype, "packing": packing}
    at_once = made.trunk(20, **how)
    in_parts = made.trunk(20, micro_batch_sequences=sequences, **how)
    assert in_parts.identity.hash == at_once.identity.hash
    train(at_once, made.study)
    train(in_parts, other.study)
    assert_close_points(
        points_of(other.folder(in_parts)), points_of(made.folder(at_once)), within=within
    )


@pytest.mark.parametrize("packing", ["concatenated", "documents"])
def test_losses_do_not_depend_on_checkpointing(made: Made, other: Made, packing: str) -> None:
    how = {"points": EVERY_STEP, "packing": packing}
    kept = made.trunk(20, **how)
    again = made.trunk(20, activation_checkpointing=True, micro_batch_sequences=2, **how)
    assert again.identity.hash == kept.identity.hash
    assert again.recorded.activation_checkpointing
    train(kept, made.study)
    train(again, other.study)
    assert_close_points(points_of(other.folder(again)), points_of(made.folder(kept)), within=1e-5)


def test_master_weights_and_moments_are_float32(made: Made) -> None:
    config = made.trunk(3, dtype="bfloat16", micro_batch_sequences=2)
    train(config, made.study)
    state = load_file(made.folder(config).state(3 * BATCH_TOKENS))
    kinds = {t.dtype for name, t in state.items() if not name.startswith("loss_")}
    assert kinds == {torch.float32}


def test_a_micro_batch_of_the_whole_batch_changes_no_bit(made: Made, other: Made) -> None:
    config = made.trunk(8, points=(4,))
    whole = made.trunk(8, points=(4,), micro_batch_sequences=64)
    train(config, made.study)
    train(whole, other.study)
    assert points_of(made.folder(config)) == points_of(other.folder(whole))
    n = 8 * BATCH_TOKENS
    assert_same_weights(made.folder(config).state(n), other.folder(whole).state(n))


def test_a_run_resumes_with_another_micro_batch(made: Made, other: Made) -> None:
    config = made.trunk(20, points=EVERY_STEP)
    train(config, made.study)
    for stop, sequences in ((6, None), (13, 1), (None, 3)):
        part = made.trunk(20, points=EVERY_STEP, micro_batch_sequences=sequences)
        train(part, other.study, stop_at_step=stop)
    assert_close_points(
        points_of(other.folder(config)), points_of(made.folder(config)), within=1e-5
    )


def limit_memory(patch: pytest.MonkeyPatch, sequences: int) -> list[int]:
    """Let training passes of more sequences fail; returns the sizes of the passes."""
    losses, passes = Forward.losses, []

    def limited(
        self: Forward, weights: Any, tokens: Any, *, training: bool = False, **how: Any
    ) -> Any:
        if training:
            passes.append(len(tokens))
            if len(tokens) > sequences:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(self, weights, tokens, training=training, **how)

    patch.setattr(Forward, "losses", limited)
    return passes


def notes_of(made: Made, config: RunConfig) -> list[str]:
    lines = made.folder(config).metrics.read_text().splitlines()
    return [event["words"] for line in lines if (event := json.loads(line))["event"] == "note"]


def test_out_of_memory_tries_half_the_micro_batch(
    made: Made, other: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = made.trunk(20, points=EVERY_STEP)
    train(config, other.study)
    passes = limit_memory(monkeypatch, 2)
    (ended,) = train_together(made, [config])
    assert ended.state == "finished"
    assert passes == [4] + [2] * 40
    assert any("micro_batch_sequences: 2" in words for words in notes_of(made, config))
    assert_close_points(
        points_of(made.folder(config)), points_of(other.folder(config)), within=1e-5
    )


@pytest.mark.parametrize(
    ("first", "tried", "remedy"),
    [
        (None, [4, 2], "micro_batch_sequences: 1"),
        (2, [2, 1], "activation_checkpointing: true"),
        (1, [1, 1], "training.sequence_tokens"),
    ],
)
def test_out_of_memory_again_says_what_to_set(
    made: Made, monkeypatch: pytest.MonkeyPatch, first: int | None, tried: list[int], remedy: str
) -> None:
    passes = limit_memory(monkeypatch, 0)
    config = made.trunk(4, micro_batch_sequences=first)
    (ended,) = train_together(made, [config])
    assert ended.state == "failed"
    assert passes == tried
    assert remedy in ended.words
    error = made.folder(config).error()
    assert error is not None
    assert error["kind"] == "out_of_memory"


def test_the_first_step_allocates_no_moments(made: Made) -> None:
    """So a run that does not fit fails before it changes anything."""
    config = made.trunk(4)
    state = start_state(load_base(config, made.study), config.identity)
    Step(state, config.identity, 4)
    for parameter in state.model.parameters():
        moments = state.optimizer.state[parameter]
        assert {name: tuple(tensor.shape) for name, tensor in moments.items()} == {
            "step": (),
            "exp_avg": tuple(parameter.shape),
            "exp_avg_sq": tuple(parameter.shape),
        }
        assert not any(tensor.any() for tensor in moments.values())


def test_runs_side_by_side_keep_their_micro_batch(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = limit_memory(monkeypatch, 2)
    configs = [made.trunk(4), made.trunk(4, seed=5)]
    first, *_ = train_together(made, configs)
    assert first.state == "crowded"  # the engine tries it again alone, with the whole batch
    assert passes[0] == 4
