"""Memory of a training step, estimated from the model's configuration.

The estimate counts what a step holds when it holds most: at the start of the backward pass.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch

from dcpt.runs.identity import RunConfig
from dcpt.training.losses import rows_at_a_time

FLOAT = 4
"""Bytes of a float32 number: weights, gradients, moments and the residual stream."""

CONTEXT = 3 * 2**29
"""Bytes of the CUDA context, of the workspaces of cuBLAS, and of gaps between tensors."""

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
