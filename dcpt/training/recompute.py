"""Activation checkpointing for models of ``transformers`` that run at given weights.

``transformers`` has its own, but it computes a layer again with the weights that the module has
during the backward pass. Here these are empty: the weights are only lent for the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from dcpt.training.compiling import compiled_on_cuda


class Recompute:
    """Lets the layers of a model keep their inputs only, and compute the rest again.

    Args:
        model: The model, whose layers are changed.

    Attributes:
        is_possible: Whether ``transformers`` marks layers of this model.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
        self.is_possible = bool(layers)
        self._is_on = False
        for layer in layers:
            layer.forward = partial(self._forward, _Body(layer))

    @contextmanager
    def switched(self, on: bool) -> Iterator[None]:
        """Switch it on or off for forward passes inside."""
        before, self._is_on = self._is_on, on
        try:
            yield
        finally:
            self._is_on = before

    def _forward(self, body: _Body, *args: Any, **kwargs: Any) -> Any:
        if not self._is_on or not torch.is_grad_enabled():
            return body(*args, **kwargs)
        lent = {**dict(body.named_parameters()), **dict(body.named_buffers())}
        run = compiled_on_cuda(_run, args[0])
        return checkpoint(run, body, lent, args, kwargs, use_reentrant=False)


class _Body(nn.Module):
    """The forward pass of a layer as its class defines it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self._own: Callable[..., Any] = type(layer).forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._own(self.layer, *args, **kwargs)


def _run(body: nn.Module, weights: dict[str, Any], args: Any, kwargs: dict[str, Any]) -> Any:
    return functional_call(body, weights, args, kwargs, tie_weights=False)
