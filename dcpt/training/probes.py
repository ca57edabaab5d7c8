"""What a model does, tried out on eight tokens and not read off its type."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dcpt.training.llama import STATIC_ROPE

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""What configurations call the number of experts of a mixture."""


def _tokens(model: Any) -> Tensor:
    """Eight tokens to try a model out on, shape (1, 8)."""
    embeddings = model.get_input_embeddings().weight
    return torch.arange(8, device=embeddings.device)[None] % len(embeddings)


@torch.no_grad()
def draws_random_numbers(model: nn.Module) -> bool:
    """Whether a training step draws: dropout, jitter, in whatever way the model does it."""
    ids = _tokens(model)
    devices = [ids.device] if ids.is_cuda else []
    was_training = model.training
    with torch.random.fork_rng(devices=devices):
        before = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
        model.train()(input_ids=ids, use_cache=False)
        after = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
    model.train(was_training)
    return not all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def is_static(model: Any) -> bool:
    """Whether no operation hangs on what was computed before it, but for its numbers.

    ``transformers`` knows of most models. Mixtures of experts send tokens to where they were
    found to belong, and some rotary embeddings look at how long the sequence is.
    """
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {rope["rope_type"]} if "rope_type" in rope else set()
    return (
        bool(model._can_compile_fullgraph)
        and not any(getattr(config, name, None) for name in EXPERTS)
        and kinds <= {*STATIC_ROPE, "yarn"}
    )


@torch.no_grad()
def plain_head(model: Any) -> str | None:
    """Name of the head's weight, if logits are hidden states times that weight and no more.

    Tried out and not read off the type: models scale, cap or shift their logits, and may do so by
    little where these are small. So the head is made to say something large.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None or model.base_model is model:
        return None
    ids, seen = _tokens(model), {}
    shape = (*ids.shape, head.out_features)
    with torch.random.fork_rng(devices=[]):
        said = (1e3 * torch.randn(shape)).to(head.weight.device)

    def replace(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen["hidden"] = inputs[0]
        return said

    was_training, handle = model.training, head.register_forward_hook(replace)
    try:
        logits = model.eval()(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    model.train(was_training)
    if not torch.equal(logits, said) or not torch.allclose(hidden, seen["hidden"], rtol=1e-3):
        return None
    return next(name for name, p in model.named_parameters() if p is head.weight)
