"""Memory of a training step, estimated from the model's configuration.

The estimate counts what a step holds when it holds most: at the start of the backward pass.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from dcpt.errors import InputError
from dcpt.runs.identity import RunConfig
from dcpt.training.bases import shape_of
from dcpt.training.losses import rows_at_a_time

FLOAT = 4
"""Bytes of a float32 number: weights, gradients, moments and the residual stream."""

CONTEXT = 3 * 2**29
"""Bytes of the CUDA context, of the workspaces of cuBLAS, and of gaps between tensors."""


USABLE = 0.9
"""Share of a GPU's memory that a step may need by its estimate."""

ENOUGH_TOKENS = 2048
"""Tokens of a pass from which on layers are not computed again to make room for more of them. That
would cost a fourth of the speed; passes of fewer tokens lose as much, since each reads and writes
all weights and gradients."""


TRANSFORMED = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Fields of models that change their logits after the head: those of a whole pass are stored then
(``dcpt.training.forward``)."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a training step holds on each of its GPUs.

    Attributes:
        weights: Weights in float32.
        gradients: Their gradients in float32.
        moments: The two moments of AdamW in float32.
        copies: Copies of the weights that the matrix products read: in bfloat16, or gathered from
            the other GPUs.
        activations: What the backward pass reads of a micro-batch.
        head: Logits that are computed at a time, with their gradient, and the gradient of the head.
        context: Memory of CUDA itself.
    """

    weights: int
    gradients: int
    moments: int
    copies: int
    activations: int
    head: int
    context: int = CONTEXT

    @property
    def n_bytes(self) -> int:
        """All parts together."""
        held = self.weights + self.gradients + self.moments + self.copies
        return held + self.activations + self.head + self.context


def estimate_memory(
    config: Any,
    sequence_tokens: int,
    micro_batch: int,
    *,
    checkpointing: bool = False,
    n_gpus: int = 1,
    dtype: Literal["float32", "bfloat16"] = "bfloat16",
) -> Memory:
    """Estimate the memory of a training step.

    Args:
        config: The model's configuration (of ``transformers``).
        sequence_tokens: Tokens of a sequence.
        micro_batch: Sequences that a GPU passes at a time.
        checkpointing: Whether the backward pass computes each layer again from its input.
        n_gpus: GPUs that share weights, gradients and moments.
        dtype: Dtype of the matrix products.

    Returns:
        Bytes on each GPU, by what they hold.
    """
    shape = _Shape.of(config)
    n_params = count_from_config(config)
    e = 2 if dtype == "bfloat16" else FLOAT
    tokens = micro_batch * sequence_tokens
    outer = shape.vocabulary * shape.width
    share = math.ceil(n_params / n_gpus) * FLOAT
    if n_gpus > 1:  # two layers at a time, and embeddings and head, are gathered from all GPUs
        inner = max(0, n_params - outer * (1 if shape.is_tied else 2))
        gathered = 2 * math.ceil(inner / shape.layers) + n_params - inner
        copies = gathered * (e + FLOAT)  # and their gradients before they are reduced
    else:
        copies = n_params * e if e < FLOAT else 0
    rows = tokens
    if not shape.stores_logits:
        rows = rows_at_a_time(tokens, shape.vocabulary, on_cuda=True)
    return Memory(
        weights=share,
        gradients=share,
        moments=2 * share,
        copies=copies,
        activations=tokens * shape.activation_bytes(e, checkpointing),
        head=rows * shape.vocabulary * (e + FLOAT) + outer * (e + 2 * FLOAT),
    )


def memory_of(
    config: RunConfig, shape: Any, micro_batch: int, *, checkpointing: bool, n_gpus: int = 1
) -> Memory:
    """Estimate the memory of a step of a run; see :func:`estimate_memory`.

    Args:
        config: The run.
        shape: Configuration of its model (of ``transformers``).
        micro_batch: Sequences that a GPU passes at a time.
        checkpointing: Whether the backward pass computes each layer again from its input.
        n_gpus: GPUs that share weights, gradients and moments.
    """
    return estimate_memory(
        shape,
        config.identity.sequence_tokens,
        micro_batch,
        checkpointing=checkpointing,
        n_gpus=n_gpus,
        dtype=config.identity.dtype,
    )


def fitted_to(
    device: str,
    config: RunConfig,
    study: Path,
    n_gpus: int = 1,
    lanes_for: Callable[[float], int] = lambda _: 1,
) -> RunConfig:
    """Choose the micro-batch and activation checkpointing where a run leaves them open.

    Args:
        device: Where the run trains. The CPU changes nothing.
        config: The run; its base must be planned, not trained.
        study: The study's folder.
        n_gpus: GPUs that share the run.
        lanes_for: The number of runs that share a GPU, by their parameters; each has a part of the
            memory.

    Returns:
        The run with both settings. The run's first step shows whether the estimate was right.

    Raises:
        InputError: If the study asks for activation checkpointing and the model has none.
    """
    recorded = config.recorded
    if recorded.activation_checkpointing:
        check_recomputable(config, shape_of(config, study))
    is_set = None not in (recorded.micro_batch_sequences, recorded.activation_checkpointing)
    if is_set or not device.startswith("cuda"):
        return config
    shape = shape_of(config, study)
    n_bytes = torch.cuda.get_device_properties(device).total_memory
    return choose_passes(config, shape, n_bytes // lanes_for(count_from_config(shape)), n_gpus)


def choose_passes(config: RunConfig, shape: Any, n_bytes: int, n_gpus: int = 1) -> RunConfig:
    """Choose the largest micro-batch that fits, without checkpointing where that is faster.

    Args:
        config: The run.
        shape: Configuration of its model (of ``transformers``).
        n_bytes: Memory of a GPU.
        n_gpus: GPUs that share the run; each passes a part of the batch, and holds the whole state
            or a part of it.

    Returns:
        The run with both settings; if nothing fits, with those that need least.

    Raises:
        InputError: If the study asks for activation checkpointing and the model has none.
    """
    identity, recorded = config.identity, config.recorded
    batch, tokens = -(-identity.batch_sequences // n_gpus), identity.sequence_tokens
    # Equal parts of the batch: each other length is compiled for itself.
    parts = [n for n in range(batch, 0, -1) if batch % n == 0]
    if recorded.micro_batch_sequences is not None:
        parts = [sequences_per_pass(config, n_gpus)]
    given = recorded.activation_checkpointing
    if given:
        check_recomputable(config, shape)
    if given is None and not can_recompute(shape):
        given = False
    # The faster ways first: what is whole on each GPU is not gathered, what is kept not computed.
    ways = [
        (checkpointing, shared)
        for checkpointing in ([False, True] if given is None else [given])
        for shared in ([1, n_gpus] if n_gpus > 1 else [1])
    ]

    def fits(n: int, checkpointing: bool, shared: int) -> bool:
        memory = memory_of(config, shape, n, checkpointing=checkpointing, n_gpus=shared)
        return memory.n_bytes <= USABLE * n_bytes

    chosen = parts[-1], ways[-1][0]
    for way in ways:
        largest = next((n for n in parts if fits(n, *way)), None)
        is_enough = largest == parts[0] or (largest or 0) * tokens >= ENOUGH_TOKENS
        if largest is not None and (is_enough or way == ways[-1]):
            chosen = largest, way[0]
            break
    n, checkpointing = chosen
    update = {"micro_batch_sequences": n, "activation_checkpointing": checkpointing}
    return config.model_copy(update={"recorded": recorded.model_copy(update=update)})


def fewest_gpus(config: RunConfig, shape: Any, n_bytes: int, most: int) -> int:
    """Number of GPUs that a run needs at least, by the estimate.

    Args:
        config: The run.
        shape: Configuration of its model (of ``transformers``).
        n_bytes: Memory of a GPU.
        most: GPUs there are.

    Raises:
        InputError: If not even all of them are enough.
    """
    recorded, needs = config.recorded, 0
    checkpointing = recorded.activation_checkpointing is not False and can_recompute(shape)
    for n_gpus in range(1, most + 1):
        is_set = recorded.micro_batch_sequences is not None
        micro_batch = sequences_per_pass(config, n_gpus) if is_set else 1
        memory = memory_of(config, shape, micro_batch, checkpointing=checkpointing, n_gpus=n_gpus)
        needs = memory.n_bytes
        if needs <= USABLE * n_bytes:
            return n_gpus
    there = "on 1 GPU, which has" if most == 1 else f"on each of {most} GPUs, which have"
    raise InputError(
        f"size {recorded.size}: a run needs about {needs / 2**30:.0f} GiB {there} "
        f"{n_bytes / 2**30:.0f} GiB; use more GPUs or a smaller base, or shorten "
        "training.sequence_tokens"
    )


def sequences_per_pass(config: RunConfig, n_gpus: int) -> int:
    """Sequences that each GPU of a run passes at a time: at most its part of the batch."""
    return min(config.micro_batch_sequences, -(-config.identity.batch_sequences // n_gpus))


def is_held_whole(config: RunConfig, shape: Any, n_bytes: int, n_gpus: int) -> bool:
    """Whether each GPU of a run holds the whole state: it is shared only where it has to be.

    Args:
        config: The run, with its micro-batch chosen.
        shape: Configuration of its model (of ``transformers``).
        n_bytes: Memory of a GPU.
        n_gpus: GPUs of the run.
    """
    micro_batch = sequences_per_pass(config, n_gpus)
    checkpointing = bool(config.recorded.activation_checkpointing)
    memory = memory_of(config, shape, micro_batch, checkpointing=checkpointing)
    return memory.n_bytes <= USABLE * n_bytes


def check_recomputable(config: RunConfig, shape: Any) -> None:
    """Refuse activation checkpointing of a model whose layers cannot be computed again.

    Raises:
        InputError: Names the family of the model.
    """
    if not can_recompute(shape):
        raise InputError(
            f"size {config.recorded.size}: training.activation_checkpointing is true, and "
            f"transformers marks no layers of the family {shape.model_type} to be computed again; "
            "remove it, or lower training.micro_batch_sequences to save memory"
        )


def can_recompute(config: Any) -> bool:
    """Whether ``transformers`` marks layers of a model to be computed again."""
    return _describe(config.to_json_string(use_diff=False))[1]


def count_from_config(config: Any) -> int:
    """Count the parameters of a model, each once, without allocating them."""
    return _describe(config.to_json_string(use_diff=False))[0]


@lru_cache(maxsize=64)
def _describe(fields: str) -> tuple[int, bool]:
    """Parameters of a model, and whether its layers can be computed again."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_layers import GradientCheckpointingLayer

    shape = json.loads(fields)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(shape.pop("model_type"), **shape)
        )
    has_marked = any(isinstance(part, GradientCheckpointingLayer) for part in model.modules())
    return sum(p.numel() for p in model.parameters()), has_marked


@dataclass(frozen=True)
class _Shape:
    """What activations depend on: widths of the residual stream, queries, keys and the MLP."""

    width: int
    layers: int
    heads: int
    queries: int
    keys: int
    mlp: int
    vocabulary: int
    is_tied: bool
    stores_logits: bool

    @classmethod
    def of(cls, config: Any) -> _Shape:
        """Read it from a configuration, by the names that ``transformers`` maps to all models."""
        text = config.get_text_config()
        width, heads = text.hidden_size, getattr(text, "num_attention_heads", None) or 1
        size = getattr(text, "head_dim", None) or width // heads
        mlp = getattr(text, "moe_intermediate_size", None)
        mlp = mlp and mlp * getattr(text, "num_experts_per_tok", 1)
        wide = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None)
        return cls(
            width=width,
            layers=text.num_hidden_layers,
            heads=heads,
            queries=heads * size,
            keys=(getattr(text, "num_key_value_heads", None) or heads) * size,
            mlp=mlp or wide or 4 * width,
            vocabulary=text.vocab_size,
            is_tied=bool(text.tie_word_embeddings),
            stores_logits=any(getattr(text, name, None) not in (None, 1.0) for name in TRANSFORMED),
        )

    def activation_bytes(self, e: int, checkpointing: bool) -> int:
        """Bytes per token that the backward pass reads; ``e`` are those of a product's input.

        A layer keeps its input and the sum after attention in float32, and the inputs of its
        products: twice the normalized sum, queries, keys, values and the output of attention, and
        three times the width of the MLP. The layer whose backward pass runs holds as much again.
        """
        products = 2 * self.width + 2 * self.queries + 2 * self.keys + 3 * self.mlp
        layer = 2 * FLOAT * self.width + e * products + FLOAT * self.heads
        kept = FLOAT * self.width if checkpointing else layer
        head = 2 * FLOAT * self.width + 3 * e * self.width
        return self.layers * kept + 2 * layer + head
