"""The forward pass of Llama and its relatives with fewer and larger products.

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
from torch.utils.checkpoint import checkpoint

from dcpt.training.compiling import compiled_on_cuda

STATIC_ROPE = ("default", "linear", "llama3")
"""Rotary embeddings whose frequencies do not depend on the length of the sequence."""

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Models whose layers are computed here."""

PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")

REQUIRED = (
    "input_layernorm.weight",
    *(f"{name}.weight" for name in PROJECTIONS),
    "self_attn.o_proj.weight",
    "post_attention_layernorm.weight",
    *(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
)
"""Weights of every layer."""

BIASES = tuple(f"{name}.bias" for name in PROJECTIONS)
"""Biases of query, key and value, as in Qwen2."""

NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
"""Norms of each query and each key, as in Qwen3."""

MOST_LAYERS = 6
"""Layers that are compiled together: thirty together compile three times as long as in five pieces.
In pieces of a single layer small models train 3 % fewer tokens, in pieces of six 1 % at most
(``experiments/benchmarks/train.md``)."""


def is_fusible(model: Any) -> bool:
    """Whether ``fused_hidden`` is this model's forward pass."""
    config = model.config
    if type(model).__name__ not in FAMILIES:
        return False
    layer = {name for name, _ in model.model.layers[0].named_parameters()}
    return (
        layer in [{*REQUIRED, *more} for more in ((), BIASES, NORMS)]
        and not config.attention_dropout
        and config.hidden_act == "silu"
        and getattr(config, "sliding_window", None) is None
        and config.rope_parameters["rope_type"] in STATIC_ROPE
    )


def computes_fused(model: Any, device: torch.device) -> bool:
    """Whether a model with a plain head is computed here: on CUDA; a CPU gains nothing."""
    return device.type == "cuda" and is_fusible(model)


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
    *,
    checkpointing: bool = False,
) -> Tensor:
    """Last hidden states of a model for which ``is_fusible`` holds.

    Args:
        config: Configuration of the model.
        weights: Tensors of the model, by name.
        ids: Token ids of shape (B, T).
        tables: The result of ``rotary_tables`` for T.
        dtype: Dtype of the matrix products; all else is float32, as under autocast.
        positions: Position of each token within its document, shape (B, T), if documents are
            separated.
        checkpointing: Whether the backward pass computes each layer again from its input.

    Returns:
        Shape (B, T, width), float32.
    """
    mask = document_mask(positions)
    x = compiled_on_cuda(_embed, ids)(ids, weights["model.embed_tokens.weight"], config)
    for some in _pieces(config.num_hidden_layers, 1 if checkpointing else MOST_LAYERS):
        own = [_of_layer(weights, i) for i in some]
        x = fused_layers(config, own, x, tables, mask, dtype, checkpointing=checkpointing)
    return normalize(x, weights["model.norm.weight"], config.rms_norm_eps)


def document_mask(positions: Tensor | None) -> Tensor | None:
    """The mask of attention for all heads, shape (B, 1, T, T); None if it is only causal.

    Args:
        positions: As in ``fused_hidden``. Rotary embeddings depend on distances only, so positions
            need not restart with a document.
    """
    return None if positions is None else same_document(positions)[:, None]


def fused_layers(
    config: Any,
    weights: list[dict[str, Tensor]],
    x: Tensor,
    tables: tuple[Tensor, Tensor],
    mask: Tensor | None,
    dtype: torch.dtype,
    *,
    checkpointing: bool,
    joins: bool = True,
) -> Tensor:
    """Apply some layers in turn; the same number of layers shares the compiled program.

    Args:
        config: Configuration of the model.
        weights: Tensors of each layer, by their names in it.
        x: Input of shape (B, T, width).
        tables: As in ``fused_hidden``.
        mask: The result of ``document_mask``.
        dtype: As in ``fused_hidden``.
        checkpointing: As in ``fused_hidden``.
        joins: Whether weights that multiply the same input are joined. The joined copy may be kept
            until the backward pass, which a model that is sharded to save memory has no room for.

    Returns:
        Shape (B, T, width).
    """
    arguments = config, weights, x, tables, mask, dtype, joins
    layers = compiled_on_cuda(_layers, x)
    if not checkpointing:
        return layers(*arguments)
    # Nothing random is drawn, and a recorded step may not read the random state.
    found: Tensor = checkpoint(layers, *arguments, use_reentrant=False, preserve_rng_state=False)
    return found


def normalize(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Divide each row by its root mean square, and multiply it by the weight."""
    return compiled_on_cuda(_normalize, x)(x, weight, epsilon)


def _of_layer(weights: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """The weights of a layer by their names in it."""
    prefix = f"model.layers.{number}."
    names = (name for name in (*REQUIRED, *BIASES, *NORMS) if prefix + name in weights)
    return {name: weights[prefix + name] for name in names}


def _pieces(n_layers: int, most: int) -> Iterator[range]:
    """Cut the layers into as few pieces as possible, of at most two lengths."""
    n_pieces = -(-n_layers // most)
    for k in range(n_pieces):
        yield range(n_layers * k // n_pieces, n_layers * (k + 1) // n_pieces)


def _embed(ids: Tensor, embed: Tensor, config: Any) -> Tensor:
    return functional.embedding(
        ids, embed, padding_idx=config.pad_token_id
    )  # padding gets no gradient


def _layers(
    config: Any,
    weights: list[dict[str, Tensor]],
    x: Tensor,
    tables: tuple[Tensor, Tensor],
    mask: Tensor | None,
    dtype: torch.dtype,
    joins: bool,
) -> Tensor:
    for own in weights:
        x = _layer(config, own, x, tables, mask, dtype, joins)
    return x


def _layer(
    config: Any,
    weights: dict[str, Tensor],
    x: Tensor,
    tables: tuple[Tensor, Tensor],
    mask: Tensor | None,
    dtype: torch.dtype,
    joins: bool,
) -> Tensor:
    """Apply a layer; ``weights`` by their names in it, ``x`` of shape (B, T, width)."""
    epsilon = config.rms_norm_eps

    def multiply(x: Tensor, *names: str) -> Tensor:
        x, groups = x.to(dtype), [names] if joins else [(name,) for name in names]
        return _join([functional.linear(x, *joined(group)) for group in groups], dim=-1)

    def joined(names: tuple[str, ...]) -> list[Tensor]:
        kinds = ("weight", "bias") if f"{names[0]}.bias" in weights else ("weight",)
        return [_join([weights[f"{n}.{kind}"].to(dtype) for n in names], dim=0) for kind in kinds]

    h = _normalize(x, weights["input_layernorm.weight"], epsilon)
    qkv = multiply(h, *PROJECTIONS)
    norms = [weights[name] for name in NORMS if name in weights]
    mixed = _attend(config, qkv, tables, mask, norms)
    x = x + multiply(mixed, "self_attn.o_proj")
    h = _normalize(x, weights["post_attention_layernorm.weight"], epsilon)
    opened, passed = multiply(h, "mlp.gate_proj", "mlp.up_proj").chunk(2, -1)
    return x + multiply(functional.silu(opened) * passed, "mlp.down_proj")


def _join(tensors: list[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def _attend(
    config: Any,
    qkv: Tensor,
    tables: tuple[Tensor, Tensor],
    mask: Tensor | None,
    norms: list[Tensor],
) -> Tensor:
    """Rotate queries and keys and attend; input and output have shape (B, T, ...)."""
    B, T, _ = qkv.shape
    heads, shared = config.num_attention_heads, config.num_key_value_heads
    size = qkv.shape[-1] // (heads + 2 * shared)
    cos_T1D, sin_T1D = tables

    def rotate(x_BTHD: Tensor) -> Tensor:
        swapped = x_BTHD.roll(size // 2, -1)  # swaps the halves, in the backward pass too
        return (x_BTHD * cos_T1D + swapped * sin_T1D).to(qkv.dtype)

    qk, v = torch.split(qkv.view(B, T, -1, size), [heads + shared, shared], dim=2)
    if norms:
        of_query, of_key = norms
        q, k = torch.split(qk.float(), [heads, shared], dim=2)
        epsilon = config.rms_norm_eps
        qk = torch.cat([_normalize(q, of_query, epsilon), _normalize(k, of_key, epsilon)], dim=2)
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
    return mixed.transpose(1, 2).reshape(B, T, -1)


def _normalize(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon))
