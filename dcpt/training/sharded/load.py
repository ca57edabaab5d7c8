"""Load a base into sharded parameters, each process its own rows."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from dcpt.runs.identity import RunConfig
from dcpt.training.bases import build_new, find_base
from dcpt.training.checkpoints import checkpoint_files
from dcpt.training.forward import aliases_of
from dcpt.training.models import build_shape, check_positions, load_model
from dcpt.training.sharded.forward import ShardedForward
from dcpt.training.sharded.layout import can_keep_gathered
from dcpt.training.sharded.ranks import Ranks
from dcpt.training.state import copy_saved

Places = dict[str, tuple[Path, str]]
"""Where the tensors of a model are: name in the model -> file and name in the file."""


def load_sharded(
    config: RunConfig,
    study: Path,
    ranks: Ranks,
    device: str,
    border_id: int | None,
) -> tuple[nn.Module, ShardedForward]:
    """Load the model that a run starts from, sharded over its processes.

    A checkpoint that holds the model's tensors by their names is read row by row, so no process
    holds a copy of the model. Others are loaded whole by ``transformers`` on each process, in host
    memory, and so are the small bases that the study pre-trains itself.

    Args:
        config: The run.
        study: The study's folder.
        ranks: The processes.
        device: Device of this process.
        border_id: As in ``Forward``.

    Raises:
        InputError: As ``load_base``.
    """
    place = ranks.decide(lambda: find_base(config, study))
    model = build_new(config) if place is None else build_shape(place)
    places = None if place is None else find_tensors(model, place)
    if place is not None and (places is None or not compute_buffers(model)):
        model, places = load_model(place), None
    check_positions(model, config.identity.sequence_tokens, f"run {config.name}")
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    keeps = True
    if device.startswith("cuda"):
        n_bytes = torch.cuda.get_device_properties(device).total_memory
        keeps = can_keep_gathered(config, model.config, ranks.count, n_bytes)
    forward = ShardedForward(model, config.identity.dtype, ranks, device, keep_gathered=keeps)
    if places is not None:
        allocate(model, buffers, device)
        _read_rows(model, places)
    forward.examine(border_id)
    return model, forward


def find_tensors(model: nn.Module, place: str) -> Places | None:
    """Find the tensors of a model in a checkpoint; None if some are not there by their names.

    Of a shared tensor (tied embeddings) exactly one name must be there: with two it may not be
    shared in the checkpoint.
    """
    there: dict[str, tuple[Path, list[int]]] = {}
    for file in checkpoint_files(place)[:-1]:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                there[name] = file, tensors.get_slice(name).get_shape()
    stored = model.state_dict(keep_vars=True)
    places: Places = {}
    for alias, name in aliases_of(model).items():
        if alias in there and alias in stored:
            file, shape = there[alias]
            if name in places or shape != list(stored[alias].shape):
                return None
            places[name] = file, alias
    wanted = {name for alias, name in aliases_of(model).items() if alias in stored}
    return places if places.keys() == wanted else None


@torch.no_grad()
def compute_buffers(model: Any) -> bool:
    """Compute the buffers that no checkpoint holds (frequencies of rotary embeddings).

    Returns:
        Whether ``transformers`` knows how to compute all of them.
    """
    for module in model.modules():
        own = dict(module.named_buffers(recurse=False))
        names = [name for name in own if name in module._non_persistent_buffers_set]
        for name in names:
            if not own[name].is_floating_point():
                return False
            unset = torch.full_like(own[name], torch.nan, device="cpu")
            module.register_buffer(name, unset, persistent=False)
        if names:
            model._init_weights(module)
        if any(module.get_buffer(name).isnan().any() for name in names):
            return False
    return True


@torch.no_grad()
def allocate(model: nn.Module, buffers: Mapping[str, Tensor], device: str) -> None:
    """Allocate a model that was sharded on ``meta``; its parameters are not set.

    Args:
        model: The model.
        buffers: Its buffers by name; those on ``meta`` are not set.
        device: Device of this process.
    """
    model.to_empty(device=device)
    for name, buffer in model.named_buffers():
        if not buffers[name].is_meta:
            buffer.copy_(buffers[name])


@torch.no_grad()
def _read_rows(model: nn.Module, places: Places) -> None:
    """Read the rows that this process holds from the files of a checkpoint."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    with ExitStack() as stack:
        files = {file for file, _ in places.values()}
        opened = {f: stack.enter_context(safe_open(f, framework="pt")) for f in files}
        for name, (file, stored) in places.items():
            copy_saved(tensors[name], opened[file], stored)
