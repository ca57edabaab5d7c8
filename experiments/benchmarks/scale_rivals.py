"""The ``Trainer`` of transformers and that of torchtitan, for ``scale.py``."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import torch
from scale_cases import SHAPES, Case, Clock
from torch import Tensor


# ----------------------------------------------------------------------------- transformers
def time_hf_trainer(case: Case, clock: Clock) -> dict[str, Any]:
    """Time steps of ``transformers.Trainer``."""
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    class Note(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: object, **__: object) -> None:
            clock.note_step()

    on_cuda = case.device == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=case.warmup + case.steps,
            per_device_train_batch_size=case.micro_batch,
            gradient_accumulation_steps=case.passes,
            gradient_checkpointing=case.recompute and case.gpus == 1,
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            weight_decay=0.1,
            max_grad_norm=1.0,
            bf16=on_cuda,
            use_cpu=not on_cuda,
            torch_compile=on_cuda,
            optim="adamw_torch_fused",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_steps=1000,
            **(_fsdp(case) if case.gpus > 1 else {}),
        )
        with torch.device(case.device):
            model = AutoModelForCausalLM.from_config(
                case.config(), dtype=torch.float32, attn_implementation="sdpa"
            )
        data = _Rows(case)
        Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Note()]).train()
    return clock.describe()


def _fsdp(case: Case) -> dict[str, Any]:
    """Settings of FSDP2 through accelerate."""
    config = {
        "version": 2,
        "transformer_layer_cls_to_wrap": ["Qwen2DecoderLayer"],
        "activation_checkpointing": case.recompute,
    }
    return {"fsdp": "full_shard auto_wrap", "fsdp_config": config}


class _Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Random sequences."""

    def __init__(self, case: Case) -> None:
        n_rows = (case.warmup + case.steps) * case.batch
        ids = SHAPES[case.size]["vocab_size"]
        self._rows = torch.randint(ids, (min(n_rows, 256), case.sequence))
        self._n_rows = n_rows

    def __len__(self) -> int:
        return self._n_rows

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self._rows[index % len(self._rows)]
        return {"input_ids": row, "labels": row}


# ------------------------------------------------------------------------------- torchtitan
UNUSED = ("datasets", "datasets.distributed", "torch.utils.tensorboard")
"""Modules that torchtitan imports for text and logs, which this benchmark does not have."""


def time_torchtitan_trainer(case: Case, clock: Clock) -> dict[str, Any]:
    """Time steps of torchtitan's ``Trainer``."""
    _replace_missing()
    from torchtitan.protocols.train_spec import register_train_spec
    from torchtitan.tools.logging import init_logger
    from torchtitan.train import Trainer

    init_logger()
    register_train_spec("scale", _spec(case))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(_job(case, folder))
        batches = trainer.batch_generator(trainer.dataloader)
        for _ in range(case.warmup + case.steps):
            trainer.step += 1
            trainer.gc_handler.run(trainer.step)
            trainer.train_step(batches)
            clock.note_step()
        trainer.close()
    return clock.describe()


def _replace_missing() -> None:
    for name in UNUSED:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = MagicMock()


def _spec(case: Case) -> Any:
    """Describe the model to torchtitan, with random batches."""
    from torchtitan.components.loss import build_cross_entropy_loss
    from torchtitan.components.lr_scheduler import build_lr_schedulers
    from torchtitan.components.optimizer import build_optimizers
    from torchtitan.models.qwen3 import Qwen3Model, Qwen3ModelArgs, parallelize_qwen3
    from torchtitan.protocols.train_spec import TrainSpec

    shape = SHAPES[case.size]
    heads = shape["num_attention_heads"]
    arguments = Qwen3ModelArgs(
        vocab_size=shape["vocab_size"],
        max_seq_len=case.sequence,
        head_dim=shape["hidden_size"] // heads,
        dim=shape["hidden_size"],
        n_layers=shape["num_hidden_layers"],
        n_heads=heads,
        n_kv_heads=shape["num_key_value_heads"],
        qk_norm=False,
        hidden_dim=shape["intermediate_size"],
        enable_weight_tying=shape["tie_word_embeddings"],
    )
    return TrainSpec(
        model_cls=Qwen3Model,
        model_args={"scale": arguments},
        parallelize_fn=parallelize_qwen3,
        pipelining_fn=None,
        build_optimizers_fn=build_optimizers,
        build_lr_schedulers_fn=build_lr_schedulers,
        build_dataloader_fn=lambda **_: _Batches(case),
        build_tokenizer_fn=None,
        build_loss_fn=build_cross_entropy_loss,
    )


class _Batches:
    """Random micro-batches, as torchtitan reads them."""

    def __init__(self, case: Case) -> None:
        shape = (case.micro_batch, case.sequence + 1)
        self._tokens = torch.randint(SHAPES[case.size]["vocab_size"], shape)

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        while True:
            yield {"input": self._tokens[:, :-1]}, self._tokens[:, 1:]


def _job(case: Case, folder: str) -> Any:
    """Configure torchtitan's trainer."""
    from torchtitan.config import JobConfig

    os.environ.setdefault("LOCAL_RANK", "0")
    job = JobConfig()
    job.job.dump_folder = folder
    job.model.name, job.model.flavor = "scale", "scale"
    job.optimizer.implementation = "fused"
    job.optimizer.lr = 1e-5
    job.lr_scheduler.warmup_steps = 1
    job.training.seq_len = case.sequence
    job.training.local_batch_size = case.micro_batch
    job.training.global_batch_size = case.batch
    job.training.steps = case.warmup + case.steps
    job.activation_checkpoint.mode = "full" if case.recompute else "none"
    job.compile.enable = True
    job.metrics.log_freq = 10**6
    job.checkpoint.enable = False
    return job
