"""The training loop compared with a slow reference; its points and files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_runs import BATCH_TOKENS, Made
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from dcpt.errors import InputError
from dcpt.runs.course import channel_shares, learning_rate_at
from dcpt.runs.identity import RunConfig
from dcpt.runs.stored import read_stored
from dcpt.table.study_rows import read_study_rows
from dcpt.text.mixture import Mixture, Phase
from dcpt.text.shard_files import open_shard
from dcpt.training import loop, timing, watch
from dcpt.training.evaluate import evaluate_model
from dcpt.training.loop import train
from dcpt.training.models import save_model
from dcpt.training.timing import time_steps
from dcpt.training.watch import TrainingError


def train_slowly(made: Made, config: RunConfig) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Train a run with simple code: a sequence at a time, AdamW written out."""
    identity = config.identity
    model = AutoModelForCausalLM.from_pretrained(made.base, dtype=torch.float32)
    names = [channel.name for channel in identity.channels]
    shards = {name: open_shard(made.study / "data", name, "train") for name in names}
    shares = channel_shares(identity.channels, identity.ratio)
    mixture = Mixture(
        [Phase(0, shares)],
        shards,
        identity.sequence_tokens,
        identity.batch_sequences,
        identity.seed,
    )
    weights = dict(model.named_parameters())
    first = {name: torch.zeros_like(w) for name, w in weights.items()}
    second = {name: torch.zeros_like(w) for name, w in weights.items()}
    seen: dict[str, list[float]] = {name: [] for name in names}
    for step in range(config.n_steps):
        batch = mixture.batch(step)
        losses = []
        for row, channel in zip(batch.tokens, batch.channel_index, strict=True):
            ids = torch.from_numpy(row)[None]
            log_p = model(ids[:, :-1]).logits.log_softmax(-1)[0]
            loss = -log_p[torch.arange(len(row) - 1), ids[0, 1:]]
            losses.append(loss)
            seen[mixture.channels[channel]] += loss.tolist()
        grads = torch.autograd.grad(torch.cat(losses).mean(), list(weights.values()))
        norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in grads))
        rate = learning_rate_at(identity, step)
        for (name, w), grad in zip(weights.items(), grads, strict=True):
            g = grad * min(1.0, identity.optimizer.clip_norm / (norm + 1e-6))
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.95 * second[name] + 0.05 * g * g
            m = first[name] / (1 - 0.9 ** (step + 1))
            v = second[name] / (1 - 0.95 ** (step + 1))
            decays = w.ndim == 2 and "embed" not in name
            with torch.no_grad():
                w.mul_(1 - rate * 0.1 * decays).sub_(rate * m / (v.sqrt() + 1e-8))
    means = {name: float(np.mean(losses)) for name, losses in seen.items()}
    return {name: w.detach() for name, w in weights.items()}, means


def test_equals_a_slow_reference(made: Made) -> None:
    config = made.trunk(12)
    train(config, made.study)
    weights, means = train_slowly(made, config)
    state = load_file(made.folder(config).state(12 * BATCH_TOKENS))
    assert weights
    for name, weight in weights.items():
        torch.testing.assert_close(state[f"model.{name}"], weight, rtol=0, atol=2e-5)
    assert made.folder(config).points()[-1]["train_loss"] == pytest.approx(means, abs=1e-5)


def test_a_trunk_and_its_branch_give_rows_of_the_runs_table(made: Made) -> None:
    trunk = made.trunk(12, points=(4, 8), keep=(8,))
    branch = made.branch(trunk, 8, 4)
    train(trunk, made.study)
    train(branch, made.study)
    rows = read_study_rows(read_stored(made.runs), [trunk, branch]).rows
    found = {(row["phase"], row["n_tokens"] // BATCH_TOKENS): row for row in rows}
    assert sorted(found) == [
        ("annealed", 12),
        ("base", 0),
        ("constant", 4),
        ("constant", 8),
        ("constant", 12),
    ]
    assert len({row["run"] for row in rows}) == 1
    end = found["annealed", 12]
    assert end["branch_n_tokens"] == 8 * BATCH_TOKENS
    assert end["n_params"] == 11536
    assert end["n_params_non_embedding"] == 11536 - 300 * 16
    assert end["share_domain"] == pytest.approx(0.4, abs=1 / 48)
    assert "share_domain" not in found["base", 0]
    result = made.folder(branch).result()
    assert result is not None
    assert (result["n_steps"], result["n_tokens"]) == (12, 12 * BATCH_TOKENS)
    assert sum(result["tokens"].values()) == 12 * BATCH_TOKENS
    assert result["tokens_per_s"] > 0


def test_a_pretrain_run_makes_a_base_for_a_trunk(made: Made) -> None:
    base = made.pretrain(12, 4)
    train(base, made.study)
    (point,) = made.folder(base).points()
    assert set(point["loss"]) == {"en", "code", "law"}
    assert point["tokens"]["law"] == 0
    assert point["tokens"]["en"] == pytest.approx(2 * point["tokens"]["code"], abs=32)
    trunk = made.trunk(2, base=f"run:{base.identity.hash}", base_path=None)
    train(trunk, made.study)
    start = made.folder(trunk).points()[0]
    assert start["loss"] == point["loss"]
    assert start["eval_id"] == point["eval_id"]


def test_the_model_folder_is_an_ordinary_one(made: Made) -> None:
    config = made.trunk(6, save_model=True)
    train(config, made.study)
    folder = made.folder(config)
    measured = evaluate_model(folder.model, made.study / "data", ["en", "code", "law"], 16, 160)
    point = folder.points()[-1]
    assert measured["loss"] == point["loss"]
    assert measured["se"] == point["se"]
    assert measured["eval_id"] == point["eval_id"]
    assert (measured["phase"], measured["n_tokens"]) == ("base", 0)
    assert len(AutoTokenizer.from_pretrained(folder.model)) == 300
    assert [p.name for p in folder.model.glob("*.bin")] == []


def test_training_losses_are_told_by_channel_between_points(made: Made) -> None:
    config = made.trunk(10, points=(4,))
    train(config, made.study)
    middle, end = made.folder(config).points()[1:]
    tokens = {name: end["tokens"][name] - middle["tokens"][name] for name in end["tokens"]}
    assert all(tokens.values())
    whole = made.trunk(10)
    (made.folder(config).path).rename(made.runs / "put-away")
    train(whole, made.study)
    together = made.folder(whole).points()[-1]
    for name in tokens:
        weighted = (
            middle["train_loss"][name] * middle["tokens"][name]
            + end["train_loss"][name] * tokens[name]
        ) / end["tokens"][name]
        assert together["train_loss"][name] == pytest.approx(weighted, rel=1e-12)


def test_a_loss_that_is_not_finite_stops_the_run(made: Made) -> None:
    poisoned = made.trunk(40, learning_rate=1e30, warmup_tokens=0)
    with pytest.raises(
        TrainingError, match=r"run tiny-.* (loss|gradient) .* is nan.*lower the learning rate"
    ):
        train(poisoned, made.study)
    assert made.folder(poisoned).result() is None
    assert not made.folder(poisoned).checkpoint.exists()
    for line in made.folder(poisoned).metrics.read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} in metrics.jsonl"))


def test_a_channel_that_runs_dry_is_noted(made: Made) -> None:
    config = made.trunk(130, ratio=0.9)
    train(config, made.study)
    notes = [e["words"] for e in made.folder(config).events() if e["event"] == "note"]
    last = made.folder(config).points()[-1]
    dry_at = last["unique_tokens"]["law"] / 0.9
    assert len(notes) == 1
    assert notes[0].startswith("law text ended at ")
    assert notes[0].endswith("epoch 2 begins")
    assert int(notes[0].split()[4]) == pytest.approx(dry_at, abs=2 * BATCH_TOKENS)
    assert last["epochs"]["law"] == pytest.approx(130 * BATCH_TOKENS / dry_at, abs=0.01)


def test_text_prepared_anew_is_refused(made: Made) -> None:
    config = made.trunk(4)
    other = config.identity.channels[0].model_copy(update={"train_sha256": "0" * 64})
    stale = config.model_copy(
        update={
            "identity": config.identity.model_copy(
                update={"channels": (other, *config.identity.channels[1:])}
            )
        }
    )
    with pytest.raises(InputError, match=r"channel en is not what run .* was planned with"):
        train(stale, made.study)


def test_scalars_for_tensorboard(made: Made) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    config = made.trunk(6, points=(3,))
    train(config, made.study)
    (file,) = (made.folder(config).path / "tensorboard").iterdir()
    found: dict[str, list[int]] = {}
    values: dict[tuple[str, int], float] = {}
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            found.setdefault(value.tag, []).append(event.step)
            values[value.tag, event.step] = value.tensor.float_val[0]
    assert found["loss/law"] == [0, 3 * BATCH_TOKENS, 6 * BATCH_TOKENS]
    assert found["loss/total"] == [3 * BATCH_TOKENS, 6 * BATCH_TOKENS]
    for name in ("en", "code", "law"):
        assert found[f"tokens/{name}"] == found[f"epochs/{name}"] == found["loss/law"]
    point = made.folder(config).points()[-1]
    general = (2 * point["loss"]["en"] + point["loss"]["code"]) / 3
    assert values["loss/general_total", 6 * BATCH_TOKENS] == pytest.approx(general, abs=1e-5)
    assert values["tokens/law", 6 * BATCH_TOKENS] == point["tokens"]["law"]


def test_scalars_of_a_resumed_run_go_forward(made: Made) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = made.trunk(8, points=(2, 3, 5))
    folder = made.folder(config)
    train(config, made.study, stop_at_step=3)
    earlier = folder.checkpoint.read_bytes()
    train(config, made.study, stop_at_step=6)
    folder.checkpoint.write_bytes(earlier)  # Killed at step 6, long after a checkpoint.
    train(config, made.study)
    scalars = EventAccumulator(str(folder.path / "tensorboard")).Reload()
    steps = [event.step // BATCH_TOKENS for event in scalars.Scalars("loss/law")]
    assert steps == [0, 2, 3, 5, 8]


def test_timing_refuses_sequences_beyond_the_positions(made: Made, tmp_path: Path) -> None:
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 8}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", vocab_size=304, **shape))
    save_model(model, made.study / "data/tokenizer", tmp_path / "short")
    with pytest.raises(InputError, match="the model has 8 positions; shorten"):
        time_steps(Made(made.study, tmp_path / "short").trunk(4), made.study)


def test_a_model_too_large_for_memory_is_named(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*arguments: object, **options: object) -> None:
        torch.empty(2**62, dtype=torch.uint8)  # what torch raises for it is the test's input

    monkeypatch.setattr(timing, "_TimedRun", build)
    with pytest.raises(InputError, match="memory of cpu with 4 sequences at a time; lower"):
        time_steps(made.trunk(4), made.study)


def test_a_batch_too_large_for_memory_is_named(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def take_step(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(timing._TimedRun, "take_step", take_step)
    with pytest.raises(InputError, match="micro_batch_sequences, or choose a smaller"):
        time_steps(made.trunk(4), made.study)


def test_timing_needs_no_trained_base(made: Made) -> None:
    found = time_steps(made.pretrain(4, 1), made.study / "nowhere")
    assert found.n_params == 11536
    assert found.tokens_per_s > 100
    assert found.evaluation_s > 0
    assert time_steps(made.trunk(4), made.study).n_params == 11536


def test_nothing_is_done_twice(made: Made, tmp_path: Path) -> None:
    config = made.trunk(4)
    train(config, made.study)
    before = made.folder(config).metrics.read_bytes()
    train(config, made.study)
    assert made.folder(config).metrics.read_bytes() == before


def test_a_line_tells_of_whole_windows_whatever_is_evaluated_meanwhile(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch.Watch, "is_log_due", lambda watch: watch._state.step % 5 == 0)
    lines = []
    for points in ((), (7, 9, 10, 13)):
        config = made.trunk(20, points=points)
        train(config, made.study)
        folder = made.folder(config)
        found = [event for event in folder.events() if event["event"] == "train"]
        lines.append([(e["step"], e["loss"], e["channel_loss"]) for e in found])
        folder.path.rename(made.runs / f"put-away-{len(points)}")
    undisturbed, evaluated = lines
    assert [step for step, _, _ in undisturbed] == [5, 10, 15, 20]
    for expected, logged in zip(undisturbed, evaluated, strict=True):
        assert logged[:2] == expected[:2]
        assert logged[2] == pytest.approx(expected[2], abs=1e-9)


def test_seconds_of_evaluation_make_no_line_due(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, real = SimpleNamespace(now=0.0), loop.make_point

    def slow(*arguments: Any) -> dict[str, Any]:
        clock.now += 60.0
        return real(*arguments)

    def tick() -> float:
        clock.now += 0.001
        return clock.now

    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=tick))
    monkeypatch.setattr(loop, "make_point", slow)
    config = made.trunk(4, points=(1, 2, 3))
    train(config, made.study)
    assert [e for e in made.folder(config).events() if e["event"] == "train"] == []
