"""Llama's forward pass with fewer and larger products.

``transformers`` multiplies the same hidden states by three weights in attention and by two in the
MLP. In a small model each of these products is too short to fill an accelerator: with a single
product for query, key and value and another for gate and up, an H100 trains 14 to 19 % more tokens
than with the compiled model (1.8M to 91M parameters, ``experiments/benchmarks/train.md``). A CPU
gains nothing and copies more. Weights keep the names and shapes of ``transformers``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dcpt.training.compiling import compiled_on_cuda

STATIC_ROPE = ("default", "linear", "llama3")
"""Rotary embeddings whose frequencies do not depend on the length of the sequence."""

LAYER = (
    "input_layernorm",
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    "post_attention_layernorm",
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
"""Modules of a layer, each with a single weight."""

MOST_LAYERS = 6
"""Layers that are compiled together: thirty together compile three times as long as in five pieces.
In pieces of a single layer small models train 3 % fewer tokens, in pieces of six 1 % at most
(``experiments/benchmarks/train.md``)."""


def is_plain_llama(model: Any) -> bool:
    """Whether ``fused_hidden`` is this model's forward pass."""
    config = model.config
    return (
        type(model).__name__ == "LlamaForCausalLM"
        and not config.attention_bias
        and not config.mlp_bias
        and not config.attention_dropout
        and config.hidden_act == "silu"
        and config.rope_parameters["rope_type"] in STATIC_ROPE
    )


def rotary_tables(inv_freq: Tensor, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of the rotary embedding, both of shape (T, 1, head size).

    Computed once: a compiled kernel would compute them again for every head of every layer.
    """
    angles_T1D = torch.arange(n_tokens, device=inv_freq.device)[:, None, None] * inv_freq
    cos, sin = angles_T1D.cos(), angles_T1D.sin()
    return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def same_document(positions: Tensor) -> Tensor:
    """Mask of what each token may attend to: itself and earlier tokens of its document.

    Args:
        positions: Position of each token within its document, shape (B, T).

    Returns:
        Booleans of shape (B, T, T), from query to key.
    """
    place = torch.arange(positions.shape[1], device=positions.device)
    begin = place - positions
    return (begin[:, :, None] == begin[:, None, :]) & (place[:, None] >= place)


def fused_hidden(
    config: Any,
    weights: dict[str, Tensor],
    ids: Tensor,
    tables: tuple[Tensor, Tensor],
    dtype: torch.dtype,
    positions: Tensor | None = None,
) -> Tensor:
    """Last hidden states of a ``LlamaForCausalLM``.

    Args:
        config: Configuration of the model.
        weights: Tensors of the model, by name.
        ids: Token ids of shape (B, T).
        tables: The result of ``rotary_tables`` for T.
        dtype: Dtype of the matrix products; all else is float32, as under autocast.
        positions: Position of each token within its document, shape (B, T), if documents are
            separated.

    Returns:
        Shape (B, T, width), float32.
    """
    # Rotary embeddings depend on distances only, so positions need not restart with a document.
    mask = None if positions is None else same_document(positions)[:, None]
    x = compiled_on_cuda(_embed, ids)(ids, weights["model.embed_tokens.weight"], config)
    layers = compiled_on_cuda(_layers, ids)
    for some in _pieces(config.num_hidden_layers):
        own = [[weights[f"model.layers.{i}.{name}.weight"] for name in LAYER] for i in some]
        x = layers(config, own, x, tables, mask, dtype)
    normalize = compiled_on_cuda(_normalize, ids)
    return normalize(x, weights["model.norm.weight"], config.rms_norm_eps)


def _pieces(n_layers: int) -> Iterator[range]:
    """Cut the layers into as few pieces as possible, of at most two lengths."""
    n_pieces = -(-n_layers // MOST_LAYERS)
    for k in range(n_pieces):
        yield range(n_layers * k // n_pieces, n_layers * (k + 1) // n_pieces)


def _embed(ids: Tensor, embed: Tensor, config: Any) -> Tensor:
    return functional.embedding(
        ids, embed, padding_idx=config.pad_token_id
    )  # padding gets no gradient


def _layers(
    config: Any,
    weights: list[list[Tensor]],
    x: Tensor,
    tables: tuple[Tensor, Tensor],
    mask: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Apply some layers in turn; all pieces of the same length share the compiled program."""
    for own in weights:
        x = _layer(config, own, x, tables, mask, dtype)
    return x


def _layer(
    config: Any,
    weights: list[Tensor],
    x: Tensor,
    tables: tuple[Tensor, Tensor],
    mask: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Apply a layer with weights in the order of ``LAYER``; ``x`` has shape (B, T, width)."""
    B, T, _ = x.shape
    heads, shared, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    before_attention, query, key, value, out, before_mlp, gate, up, down = weights
    cos_T1D, sin_T1D = tables

    def multiply(x: Tensor, *matrices: Tensor) -> Tensor:
        return x.to(dtype) @ torch.cat([matrix.to(dtype) for matrix in matrices]).T

    def rotate(x_BTHD: Tensor) -> Tensor:
        swapped = x_BTHD.roll(size // 2, -1)  # swaps the halves, in the backward pass too
        return (x_BTHD * cos_T1D + swapped * sin_T1D).to(dtype)

    h = _normalize(x, before_attention, config.rms_norm_eps)
    qkv = multiply(h, query, key, value).view(B, T, -1, size)
    qk, v = torch.split(qkv, [heads + shared, shared], dim=2)
    q, k = torch.split(rotate(qk), [heads, shared], dim=2)
    if mask is not None:  # the fast kernels do not support shared heads under a mask
        k, v = (x.repeat_interleave(heads // shared, dim=2) for x in (k, v))
    mixed = functional.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=mask is None and heads != shared,
    )
    x = x + multiply(mixed.transpose(1, 2).reshape(B, T, -1), out)
    h = _normalize(x, before_mlp, config.rms_norm_eps)
    opened, passed = multiply(h, gate, up).chunk(2, -1)
    return x + multiply(functional.silu(opened) * passed, down)


def _normalize(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon))
