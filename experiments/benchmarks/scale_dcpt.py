"""Runs of dcpt with random weights and text, for ``scale.py``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from scale_cases import SHAPES, Case, Clock
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from dcpt.runs.identity import ChannelIdentity, Identity, Recorded, RunConfig
from dcpt.text.mixture import Batch
from dcpt.training.forward import forward_of
from dcpt.training.loop import own_stream
from dcpt.training.memory import estimate_memory
from dcpt.training.sharded.divided import ReplicatedForward
from dcpt.training.sharded.forward import ShardedForward
from dcpt.training.sharded.layout import can_keep_gathered, fits_whole
from dcpt.training.sharded.load import allocate, compute_buffers
from dcpt.training.sharded.ranks import Ranks, join_ranks
from dcpt.training.state import TrainingState, start_state
from dcpt.training.step import Step


def time_run(case: Case, clock: Clock) -> dict[str, Any]:
    """Time steps of a run, on one device or over several."""
    config, batch = configure(case), random_batch(case)
    stack, layout = ExitStack(), "alone"
    if case.gpus == 1:
        stack.enter_context(own_stream(case.device))
        state = start_state(build(case), config.identity)
    else:
        state, layout = start_over(case, config, stack)
    step = Step(state, config.identity, case.micro_batch * case.gpus, checkpointing=case.recompute)
    for _ in range(case.warmup + case.steps):
        step(batch)
        clock.note_step()
    memory = estimate_memory(
        case.config(),
        case.sequence,
        case.micro_batch,
        checkpointing=case.recompute,
        n_gpus=case.gpus if layout.startswith("shared") else 1,
        dtype=config.identity.dtype,
    )
    return {**clock.describe(), "layout": layout, "estimated_gib": memory.n_bytes / 2**30}


def build(case: Case) -> Any:
    """A model with random weights on this process's device."""
    with torch.device(case.device):
        model = AutoModelForCausalLM.from_config(case.config(), dtype=torch.float32)
    return model.train()


def start_over(case: Case, config: RunConfig, stack: ExitStack) -> tuple[TrainingState, str]:
    """The state of a run over several devices, and its layout.

    The process group stays open to the end of the process, for ``scale.measure``.
    """
    index = int(os.environ["RANK"])
    ranks, on_cuda = Ranks(index, case.gpus), case.device == "cuda"
    device = f"cuda:{index}" if on_cuda else "cpu"
    stack.enter_context(join_ranks(ranks, device, "env://"))
    identity = config.identity
    if fits_whole(config, case.config(), device, case.gpus):
        torch.manual_seed(0)  # the same weights everywhere
        model = build(case)
        forward = ReplicatedForward(forward_of(model, identity.dtype), ranks)
        return start_state(model, identity, forward=forward, ranks=ranks), "whole"
    keeps = True
    if on_cuda:
        n_bytes = torch.cuda.get_device_properties(device).total_memory
        keeps = can_keep_gathered(config, case.config(), case.gpus, n_bytes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(case.config(), dtype=torch.float32)
    compute_buffers(model)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    sharded = ShardedForward(model, identity.dtype, ranks, device, keep_gathered=keeps)
    allocate(model, buffers, device)
    with torch.no_grad():
        for parameter in model.parameters():
            if isinstance(parameter, DTensor):
                parameter.to_local().normal_(mean=float(parameter.ndim == 1), std=0.02)
            else:  # the same on all processes
                parameter.fill_(1.0)
    sharded.examine(None)
    state = start_state(model, identity, forward=sharded, ranks=ranks)
    return state, "shared, layers gathered" if keeps else "shared"


def configure(case: Case) -> RunConfig:
    """Configure a run with two channels."""
    channels = tuple(
        ChannelIdentity(name=n, side=s, weight=1.0, train_sha256="", valid_sha256="")  # type: ignore[arg-type]
        for n, s in (("general", "general"), ("code", "domain"))
    )
    identity = Identity(
        kind="trunk",
        base="weights:",
        tokenizer_sha256="",
        channels=channels,
        ratio=0.5,
        learning_rate=1e-5,
        warmup_tokens=0,
        batch_sequences=case.batch,
        sequence_tokens=case.sequence,
        validation_tokens=case.sequence,
        seed=0,
        dtype="bfloat16" if case.device == "cuda" else "float32",
    )
    recorded = Recorded(
        size=case.size,
        n_tokens=case.batch_tokens,
        evaluation_at=(),
        micro_batch_sequences=case.micro_batch,
        activation_checkpointing=case.recompute,
    )
    return RunConfig(identity=identity, recorded=recorded)


def random_batch(case: Case) -> Batch:
    """A batch of random tokens."""
    shape = (case.batch, case.sequence + 1)
    tokens = np.random.default_rng(0).integers(SHAPES[case.size]["vocab_size"], size=shape)
    return Batch(tokens, np.arange(case.batch, dtype=np.int64) % 2)
