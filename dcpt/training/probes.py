"""Properties of a model, tested on eight tokens instead of inferred from its type."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dcpt.training.llama import STATIC_ROPE

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Names that configurations use for the number of experts."""


def _tokens(model: Any) -> Tensor:
    """Eight token ids to test a model with, shape (1, 8)."""
    embeddings = model.get_input_embeddings().weight
    return torch.arange(8, device=embeddings.device)[None] % len(embeddings)


@torch.no_grad()
def draws_random_numbers(model: nn.Module) -> bool:
    """Whether a training step draws random numbers, such as dropout or jitter."""
    ids = _tokens(model)
    devices = [ids.device] if ids.is_cuda else []
    was_training = model.training
    with torch.random.fork_rng(devices=devices):
        before = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
        model.train()(input_ids=ids, use_cache=False)
        after = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
    model.train(was_training)
    return not all(torch.equal(first, second) for first, second in zip(before, after, strict=True))


def is_static(model: Any) -> bool:
    """True if the model always runs the same sequence of operations, whatever the data.

    Then a CUDA graph can be recorded. ``transformers`` marks most models. Mixtures of experts route
    tokens by their content, and some rotary embeddings depend on the length of the sequence.
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
    """Name of the head's weight, if the logits are exactly hidden states times that weight.

    This is tested, since models may scale, cap or shift their logits, with little effect where
    these are small. So the output of the head is replaced by large numbers.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None or model.base_model is model:
        return None
    ids, inputs_of_head = _tokens(model), {}
    shape = (*ids.shape, head.out_features)
    with torch.random.fork_rng(devices=[]):
        large = (1e3 * torch.randn(shape)).to(head.weight.device)

    def replace(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        inputs_of_head["hidden"] = inputs[0]
        return large

    was_training, handle = model.training, head.register_forward_hook(replace)
    try:
        logits = model.eval()(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    model.train(was_training)
    if not torch.equal(logits, large) or not torch.allclose(
        hidden, inputs_of_head["hidden"], rtol=1e-3
    ):
        return None
    return next(name for name, p in model.named_parameters() if p is head.weight)
