"""Logs that the real packages write; skipped where a package is not installed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcpt.trainer_logs import Mapping, import_runs, read_logs
from dcpt.trainer_logs.mapping import Tokens

N_STEPS = 6


def values_of(folder: Path, name: str) -> dict[int, float]:
    (log,), _ = read_logs([folder])
    series = log.metrics[name]
    return dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def test_tensorboard_reads_the_scalars_of_the_writer_of_torch(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        for step in range(0, 300_000, 100_000):
            writer.add_scalar("eval/loss", 3.0 - step / 1e6, step)
            writer.add_scalar("eval/new", 1.5, step, new_style=True)
            writer.add_text("text", "no scalar", step)
            writer.add_histogram("histogram", np.arange(9.0), step)
    (log,), _ = read_logs([tmp_path])
    assert set(log.metrics) == {"eval/loss", "eval/new"}
    losses = values_of(tmp_path, "eval/loss")
    assert losses == pytest.approx({0: 3.0, 100_000: 2.9, 200_000: 2.8}, rel=1e-6)
    assert set(values_of(tmp_path, "eval/new").values()) == {1.5}


@pytest.mark.slow
def test_a_run_of_the_trainer_of_transformers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("accelerate", reason="the Trainer needs accelerate")
    transformers = pytest.importorskip("transformers")
    history = train(torch, transformers, tmp_path / "r0.3")
    mapping = Mapping(
        losses={name: (f"eval_{name}_loss",) for name in ("general", "domain")},
        tokens=Tokens(metric="num_input_tokens_seen"),
        learning_rate="learning_rate",
        run_names="r{ratio}",
        all_runs={"phase": "constant"},
    )
    logs, notes = read_logs([tmp_path])
    frame, _ = import_runs(logs, mapping, "mapping.yaml")
    assert (frame["n_tokens"] // 1024).tolist() == [0, 2, 4, 6]
    assert frame["phase"].tolist() == ["base", "constant", "constant", "constant"]
    for name in ("general", "domain"):
        logged = [
            record[f"eval_{name}_loss"] for record in history if f"eval_{name}_loss" in record
        ]
        assert frame[f"loss_{name}"].tolist() == pytest.approx(logged)
    assert frame["learning_rate"].eq(1e-3).all()
    assert len(notes) == 2  # earlier checkpoints; TensorBoard


def train(torch: Any, transformers: Any, folder: Path) -> Sequence[dict[str, float]]:
    """Train a tiny model for a few steps; returns what the Trainer logged."""
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    tokens = torch.randint(0, 64, (64, 128), generator=torch.Generator().manual_seed(0))
    data = [{"input_ids": row, "labels": row} for row in tokens]
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=N_STEPS,
        logging_steps=1,
        eval_steps=2,
        eval_strategy="steps",
        eval_on_start=True,
        save_steps=3,
        per_device_train_batch_size=8,
        include_num_input_tokens_seen=True,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        report_to=["tensorboard"],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(
        transformers.LlamaForCausalLM(config),
        arguments,
        train_dataset=data,
        eval_dataset={"general": data[:8], "domain": data[8:16]},
    )
    trainer.train()
    trainer.save_state()
    return trainer.state.log_history


@pytest.mark.slow
def test_an_offline_run_of_wandb(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    run = wandb.init(
        project="p",
        name="r0.3",
        mode="offline",
        dir=str(tmp_path),
        config={"data": {"ratio": 0.3}, "n_params": 5},
    )
    for step in range(0, 3000, 10):
        run.log({"eval/loss": 3.0 - step / 1e4, "nested": {"a": step}}, step=step)
    run.log({"eval/loss": float("nan")}, step=3000)
    run.finish()
    (log,), _ = read_logs([tmp_path / "wandb"])
    assert log.run == "r0.3"
    assert log.config["data.ratio"] == 0.3
    assert log.metrics["nested.a"].values.tolist() == list(range(0, 3000, 10))
    losses = log.metrics["eval/loss"]
    assert losses.steps.tolist() == list(range(0, 3001, 10))
    np.testing.assert_allclose(losses.values[:-1], 3.0 - losses.steps[:-1] / 1e4)
    assert np.isnan(losses.values[-1])


def test_a_log_of_json_is_what_the_trainer_writes(tmp_path: Path) -> None:
    """``log_history`` may come after the states of callbacks, beyond the first MiB."""
    callbacks = {"x": "y" * 2_000_000}
    state = {"stateful_callbacks": callbacks, "log_history": [{"step": 1, "eval_loss": 2.0}]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state, indent=2, sort_keys=False))
    assert values_of(tmp_path, "eval_loss") == {1: 2.0}
