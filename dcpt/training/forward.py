"""The forward pass of a model as a function of its weights, compiled once for each shape.

All runs of a size share a ``Forward``: bases, trunks and branches, at any share and learning rate,
are the same function of different weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from dcpt.errors import InputError
from dcpt.training.compiling import compiled_on_cuda
from dcpt.training.llama import computes_fused, fused_hidden, rotary_tables
from dcpt.training.losses import mean_loss
from dcpt.training.probes import draws_random_numbers, is_static, plain_head
from dcpt.training.recompute import Recompute

Dtype = Literal["float32", "bfloat16"]
Weights = dict[str, Tensor]

STORED_LOGITS = 2**30
"""Logits that an evaluation computes at a time where they are stored: 4 GiB in float32."""

_forwards: dict[str, Forward] = {}


def forward_of(model: nn.Module, dtype: Dtype, border_id: int | None = None) -> Forward:
    """The forward pass of a model; models of the same shape, dtype, border and device share it."""
    device = next(model.parameters()).device
    config: Any = model.config
    shape = sorted((k, v) for k, v in config.to_dict().items() if k != "_name_or_path")
    # Tying is part of the key: a checkpoint may have an untied head despite its configuration.
    aliases = sorted(aliases_of(model).items())
    key = f"{type(model).__qualname__} {device} {dtype} {border_id} {shape} {aliases}"
    if key not in _forwards:
        _forwards[key] = Forward(model, dtype, border_id)
    return _forwards[key]


def weights_of(model: nn.Module) -> Weights:
    """All tensors of a model by name, shared tensors once; the input of ``Forward``."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


class Losses(Protocol):
    """The losses of a model, on a device (``Forward``) or over several.

    Attributes:
        draws: Whether training draws random numbers (dropout).
        is_static: Whether a training step always runs the same sequence of kernels.
    """

    draws: bool
    is_static: bool

    def losses(
        self,
        weights: Weights,
        tokens: Tensor,
        *,
        training: bool = False,
        checkpointing: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The mean, a scalar to differentiate, and the losses of all targets, as ``Forward``."""

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of a step over all processes, where its passes did not."""


class Forward:
    """Losses of a causal LM of ``transformers`` at any weights of its shape.

    The head is applied in chunks of rows (``losses.mean_loss``) where it is a plain product with
    the last hidden states. If a model transforms its logits further, all are computed at once.

    Args:
        model: A model of the shape; its weights are not kept.
        dtype: ``bfloat16`` runs the matrix products in bfloat16 and leaves the weights float32.
        border_id: Token that ends a document, if documents are separated: the token after it starts
            at position 0 and attends to nothing before it. None does not separate them.

    Raises:
        InputError: If documents are to be separated and the model does not separate them.

    Attributes:
        draws: Whether training draws random numbers (dropout).
        is_static: Whether a training step always runs the same sequence of kernels.
        can_checkpoint: Whether layers can be computed again in the backward pass.
    """

    def __init__(self, model: nn.Module, dtype: Dtype, border_id: int | None = None) -> None:
        self._border_id = border_id
        self._dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        self._shell: Any = _empty_copy(model)
        self._recompute = Recompute(self._shell)
        self._aliases = aliases_of(model)
        self._head = plain_head(model)
        self.draws = draws_random_numbers(model)
        self.is_static = is_static(model) and not self.draws
        self.can_checkpoint = self._recompute.is_possible
        device = next(model.parameters()).device
        self._is_fused = self._head is not None and computes_fused(model, device)
        self._rotary: dict[int, tuple[Tensor, Tensor]] = {}
        if border_id is not None:
            self._check_borders(weights_of(model), border_id)

    def losses(
        self,
        weights: Weights,
        tokens: Tensor,
        *,
        training: bool = False,
        checkpointing: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Compute the cross entropy of every target, in float32.

        Args:
            weights: The result of ``weights_of``.
            tokens: Ids of shape (B, T + 1): inputs and targets.
            training: Whether dropout is on.
            checkpointing: Whether the backward pass computes each layer again from its input, if
                the model has marked layers. It changes the memory, not the losses.

        Returns:
            The mean, a scalar to differentiate, and the losses in nats, shape (B, T), without
            gradient.
        """
        self._shell.train(training)
        if self._head is None and not torch.is_grad_enabled():
            compute = partial(self._losses, weights, checkpointing=False)
            return losses_in_parts(tokens, self._shell.config, compute)
        return self._losses(weights, tokens, checkpointing=checkpointing)

    def _losses(
        self, weights: Weights, tokens: Tensor, *, checkpointing: bool
    ) -> tuple[Tensor, Tensor]:
        inputs = tokens[:, :-1].contiguous()
        hidden = self._hidden(weights, inputs, checkpointing)
        head = None if self._head is None else weights[self._head]
        return losses_of_targets(hidden, head, tokens[:, 1:], self._dtype)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Nothing is to be summed on a single device."""

    def _hidden(self, weights: Weights, ids: Tensor, checkpointing: bool) -> Tensor:
        """Last hidden states if the model has a plain head, else logits."""
        if not self._is_fused:
            if self.is_static and not checkpointing:
                return compiled_on_cuda(self._call, ids)(weights, ids)
            # Each layer is compiled by itself: what computes it again is not part of a program.
            with self._recompute.switched(checkpointing):
                return self._call(weights, ids)
        T = ids.shape[1]
        if T not in self._rotary:
            self._rotary[T] = rotary_tables(weights["model.rotary_emb.inv_freq"], T)
            torch.cuda.synchronize()  # other runs read the tables from their own streams
        return fused_hidden(
            self._shell.config,
            weights,
            ids,
            self._rotary[T],
            self._dtype,
            self._positions(ids),
            checkpointing=checkpointing,
        )

    def _check_borders(self, weights: Weights, border_id: int) -> None:
        device = next(iter(weights.values())).device
        self._shell.eval()
        check_borders(
            lambda ids: self._call(weights, ids), border_id, type(self._shell).__name__, device
        )

    def _positions(self, ids: Tensor) -> Tensor | None:
        return None if self._border_id is None else document_positions(ids, self._border_id)

    def _call(self, weights: Weights, ids: Tensor) -> Tensor:
        """The same as ``_hidden``, by the model's own code."""
        module, prefix, wanted = self._shell, "", "logits"
        if self._head is not None:
            module, wanted = self._shell.base_model, "last_hidden_state"
            prefix = f"{self._shell.base_model_prefix}."
        own = {
            alias.removeprefix(prefix): weights[name]
            for alias, name in self._aliases.items()
            if alias.startswith(prefix)
        }
        arguments = {"input_ids": ids, "use_cache": False}
        positions = self._positions(ids)
        if positions is not None:  # transformers masks the tokens before a position of 0
            arguments["position_ids"] = positions
        bf16 = self._dtype == torch.bfloat16
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=bf16):
            result: Tensor = functional_call(module, own, (), arguments, tie_weights=False)[wanted]
        assert result.device == ids.device, "a weight of the empty shell was used"
        return result


def losses_of_targets(
    hidden: Tensor, head: Tensor | None, targets: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute the cross entropy of targets, in float32.

    Args:
        hidden: Last hidden states of shape (B, T, width), or logits if there is no head.
        head: The weight of a plain head; None if the model computes its logits itself.
        targets: Ids of shape (B, T).
        dtype: Dtype of the product with the head.

    Returns:
        The mean, a scalar to differentiate, and the losses in nats, shape (B, T), without gradient.
    """
    rows, ids = hidden.flatten(0, 1), targets.flatten()
    if head is None:
        losses = functional.cross_entropy(rows.float(), ids, reduction="none")
        return losses.mean(), losses.detach().view_as(targets)
    mean, losses = mean_loss(rows.to(dtype), head, ids)
    return mean, losses.view_as(targets)


def losses_in_parts(
    tokens: Tensor,
    shape: Any,
    compute: Callable[[Tensor], tuple[Tensor, Tensor]],
    n_ranks: int = 1,
) -> tuple[Tensor, Tensor]:
    """Compute the losses of an evaluation, whose batch may be larger than that of a step.

    Args:
        tokens: Ids of shape (B, T + 1).
        shape: Configuration of the model (of ``transformers``).
        compute: Mean and losses of some sequences; stores all their logits.
        n_ranks: Processes that divide each part; none stores more than ``STORED_LOGITS`` logits,
            or those of one sequence.

    Returns:
        The mean, and the losses of shape (B, T).
    """
    per_sequence = (tokens.shape[1] - 1) * shape.get_text_config().vocab_size
    parts = torch.split(tokens, n_ranks * max(1, STORED_LOGITS // per_sequence))
    losses = torch.cat([compute(part)[1] for part in parts])
    return losses.mean(), losses


@torch.no_grad()
def check_borders(
    call: Callable[[Tensor], Tensor], border_id: int, kind: str, device: torch.device
) -> None:
    """Test that tokens after a border do not depend on the tokens before it.

    Args:
        call: Hidden states or logits of token ids of shape (B, T).
        border_id: The token that ends a document.
        kind: Name of the model's type.
        device: Device of the ids.

    Raises:
        InputError: If they do.
    """
    others = [i for i in range(8) if i != border_id]
    behind = [border_id, *others[:4]]
    ids = torch.tensor([[*others[4:6], *behind], [*others[5:7], *behind]], device=device)
    first, second = call(ids)[:, 3:].float()
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-3):
        raise InputError(
            f"training.packing: documents: a {kind} lets tokens attend to the text before "
            "their own document; write packing: concatenated, or use another model"
        )


def document_positions(ids: Tensor, border_id: int) -> Tensor:
    """Compute the position of each token in its document; a border ends its document.

    Args:
        ids: Token ids of shape (B, T).
        border_id: The token that ends a document.

    Returns:
        Shape (B, T). The first token of a sequence has position 0.
    """
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    begins = functional.pad(ids[:, :-1] == border_id, (1, 0))
    return place - torch.where(begins, place, 0).cummax(dim=1).values


def aliases_of(model: nn.Module) -> dict[str, str]:
    """Map every name of every tensor to the name that ``weights_of`` uses."""
    names = {id(tensor): name for name, tensor in weights_of(model).items()}
    every = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    return {alias: names[id(tensor)] for alias, tensor in every}


def _empty_copy(model: nn.Module) -> nn.Module:
    """Copy the model's structure with tensors on ``meta``, which hold no data."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.to("meta")) for p in model.parameters()}
    memo |= {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    return copy.deepcopy(model, memo)
