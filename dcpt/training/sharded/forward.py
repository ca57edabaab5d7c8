"""The forward pass of a sharded model, whose batches are divided over the processes of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from dcpt.training.compiling import compiled_on_cuda
from dcpt.training.forward import (
    Dtype,
    Weights,
    check_borders,
    document_positions,
    losses_in_parts,
    losses_of_targets,
)
from dcpt.training.llama import (
    computes_fused,
    document_mask,
    fused_layers,
    normalize,
    rotary_tables,
)
from dcpt.training.probes import draws_random_numbers, is_static, plain_head
from dcpt.training.sharded.divided import divided_losses, sum_over_ranks
from dcpt.training.sharded.ranks import Ranks

T = TypeVar("T")


class ShardedForward:
    """Losses of a model whose parameters are sharded over the processes of a run.

    ``fully_shard`` gathers the parameters of a decoder layer when the layer is computed. Those
    outside the layers (norm, head, and a tied embedding) are gathered once for a pass, so that the
    chunked loss can read the head.

    The numbers are those of ``dcpt.training.forward.Forward``: products run in the run's dtype,
    master weights are float32, and gradients are summed over the processes in float32. Each process
    holds the vectors of the layers (norms, biases) whole and in float32: gathered in bfloat16, a
    norm's weights of about 1 would lose each change below 0.4 %.

    Args:
        model: A causal LM of ``transformers`` on the CPU or on ``meta``; its parameters become
            sharded tensors on the device.
        dtype: As in ``Forward``.
        ranks: The processes.
        device: Device of this process.
        keep_gathered: Whether layers stay gathered between forward and backward pass. That saves a
            third of the communication and needs room for the whole model in ``dtype``.

    Attributes:
        draws: Whether training draws random numbers (dropout).
        is_static: Always False: steps with collective operations are not recorded.
    """

    is_static = False

    def __init__(
        self, model: Any, dtype: Dtype, ranks: Ranks, device: str, *, keep_gathered: bool
    ) -> None:
        self.draws, self._checkpointing = False, False
        self._model, self._ranks, self._device = model, ranks, torch.device(device)
        self._dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        self._border_id: int | None = None
        self._head: str | None = None
        self._can_fuse = computes_fused(model, self._device)
        self._rotary: dict[int, tuple[Tensor, Tensor]] = {}
        compiles = is_static(model)
        for layer in layers_of(model):
            self._wrap_forward(layer, compiles)
        self._gathered = _shard(model, self._dtype, ranks, self._device, keep_gathered)

    @torch.no_grad()
    def examine(self, border_id: int | None) -> None:
        """Find out how the model computes its losses; its weights must be loaded.

        Args:
            border_id: As in ``Forward``.

        Raises:
            InputError: If documents are to be separated and the model does not separate them.
        """
        with self._precision():
            self._head = self._apply(plain_head)
            self.draws = self._apply(draws_random_numbers)
        self._border_id = border_id
        if border_id is not None:
            kind = type(self._model).__name__
            self._model.eval()
            check_borders(
                lambda ids: self._apply(lambda _: self._hidden(ids)), border_id, kind, self._device
            )

    def losses(
        self,
        weights: Weights,
        tokens: Tensor,
        *,
        training: bool = False,
        checkpointing: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Compute the cross entropy of every target, each process that of its sequences.

        Args:
            weights: Not used: a sharded model has its own weights.
            tokens: Ids of shape (B, T + 1), the same on all processes.
            training: Whether dropout is on.
            checkpointing: Whether the backward pass computes each layer again from its input.

        Returns:
            The result of ``divided_losses``.
        """
        del weights
        self._model.train(training)
        self._checkpointing = checkpointing
        if self._head is not None or torch.is_grad_enabled():
            return self._divided_losses(tokens)
        return losses_in_parts(tokens, self._model.config, self._divided_losses, self._ranks.count)

    def _divided_losses(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return divided_losses(
            tokens, self._ranks, lambda own: self._apply(lambda _: self._own_losses(own))
        )

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum those of whole parameters; FSDP sums the others in the backward pass."""
        sum_over_ranks(p for p in parameters if not isinstance(p, DTensor))

    def _own_losses(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self._hidden(tokens[:, :-1].contiguous())
        head = None if self._head is None else self._model.get_parameter(self._head)
        return losses_of_targets(hidden, head, tokens[:, 1:], self._dtype)

    def _hidden(self, ids: Tensor) -> Tensor:
        """Last hidden states if the model has a plain head, else logits."""
        has_head = self._head is not None
        if has_head and self._can_fuse:
            return self._fused_hidden(ids)
        module = self._model.base_model if has_head else self._model
        arguments = {"input_ids": ids, "use_cache": False}
        if self._border_id is not None:
            arguments["position_ids"] = document_positions(ids, self._border_id)
        with self._precision():
            result: Tensor = module(**arguments)["last_hidden_state" if has_head else "logits"]
        return result

    def _fused_hidden(self, ids: Tensor) -> Tensor:
        """Last hidden states, layer by layer as ``fused_hidden`` computes them on one device."""
        base, T = self._model.base_model, ids.shape[1]
        if T not in self._rotary:
            self._rotary[T] = rotary_tables(base.rotary_emb.inv_freq, T)
        positions = None
        if self._border_id is not None:
            positions = document_positions(ids, self._border_id)
        mask = document_mask(positions)
        x = self._model.get_input_embeddings()(ids)
        for layer in base.layers:
            x = layer(x, fused=(self._rotary[T], mask))
        return normalize(x, base.norm.weight, self._model.config.rms_norm_eps)

    def _wrap_forward(self, layer: Any, compiles: bool) -> None:
        """Compile a layer's forward pass on CUDA, and let the backward pass compute it again.

        The method is replaced and not the module, so that parameters keep their names and FSDP's
        hooks stay outside. (``Recompute`` is for a model that runs at given weights.) With
        ``fused``, its tables and mask, the layer is computed by ``fused_layers``.
        """
        like = torch.empty(0, device=self._device)
        compute = compiled_on_cuda(layer.forward, like) if compiles else layer.forward

        @wraps(layer.forward)
        def forward(*arguments: Any, fused: Any = None, **named: Any) -> Any:
            checkpoints = self._checkpointing and torch.is_grad_enabled()
            if fused is not None:
                gathered = dict(layer.named_parameters())
                about = self._model.config, [gathered], *arguments, *fused, self._dtype
                return fused_layers(*about, checkpointing=checkpoints, joins=False)
            if checkpoints:
                return checkpoint(compute, *arguments, use_reentrant=False, **named)
            return compute(*arguments, **named)

        layer.forward = forward

    def _precision(self) -> torch.autocast:
        bf16 = self._dtype == torch.bfloat16
        return torch.autocast(self._device.type, torch.bfloat16, enabled=bf16)

    def _apply(self, function: Callable[[Any], T]) -> T:
        """Call a function of the model while the parameters outside its layers are gathered."""
        result: T = self._gathered(function)
        if not torch.is_grad_enabled():  # after a backward pass FSDP frees them itself
            for module in self._gathered.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()
        return result


class _Gathered(nn.Module):
    """The root of a sharded model: its forward pass is any function of the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[nn.Module], Any]) -> Any:
        return function(self.model)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The decoder layers: the members of the list of modules with the most parameters."""
    found: list[nn.Module] = []
    most = 0
    for module in model.modules():
        count = sum(p.numel() for p in module.parameters())
        if isinstance(module, nn.ModuleList) and count > most:
            found, most = list(module), count
    return found


def _shard(
    model: Any, dtype: torch.dtype, ranks: Ranks, device: torch.device, keep_gathered: bool
) -> nn.Module:
    """Shard a model in place; returns its root."""
    mesh = init_device_mesh(device.type, (ranks.count,))
    inner = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    outer = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in layers_of(model):
        vectors = {p for p in layer.parameters() if p.ndim < 2}
        for vector in vectors:
            if not vector.is_meta:
                vector.data = vector.data.to(device)
        fully_shard(
            layer,
            mesh=mesh,
            mp_policy=inner,
            reshard_after_forward=not keep_gathered,
            ignored_params=vectors,
        )
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is not None and head.weight is not embedding.weight:
        # The embedding is needed at the ends of a pass only: 2.2 GB of a 7B model with 152,000 ids.
        fully_shard(embedding, mesh=mesh, mp_policy=outer, reshard_after_forward=True)
    root: Any = fully_shard(_Gathered(model), mesh=mesh, mp_policy=outer)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            # A sum, not a mean: each process weights its losses by its share of the sequences.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum
    sharded: nn.Module = root
    return sharded
