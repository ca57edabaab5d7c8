"""The state of training: saved and loaded by any number of processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dcpt.atomic_files import DamagedFileError, make_room, replace_file
from dcpt.runs.identity import Identity
from dcpt.training.forward import Losses, Weights, forward_of, weights_of
from dcpt.training.models import count_parameters, embedding_ids
from dcpt.training.sharded.ranks import ALONE, Ranks, by_layout, own_rows, whole
from dcpt.training.state_file import REMEDY, check_content, open_state, write_state_file
from dcpt.training.watchdog import WATCHDOG

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""AdamW's state of a parameter, by torch's names."""


@dataclass
class TrainingState:
    """All that a training step changes.

    Attributes:
        model: The model, weights in float32; over several devices each holds a part of the rows.
        forward: Its losses as a function of its weights.
        optimizer: AdamW over its parameters.
        loss_sum_C: Training loss of each channel since the last point, summed over tokens, float64.
        loss_tokens_C: Tokens behind these sums, float64.
        step: Optimizer steps since D = 0.
        wall_s: Seconds spent on this run by earlier processes.
        ranks: The processes of the run.
    """

    model: nn.Module
    forward: Losses
    optimizer: torch.optim.Optimizer
    loss_sum_C: Tensor
    loss_tokens_C: Tensor
    step: int = 0
    wall_s: float = 0.0
    ranks: Ranks = ALONE

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            if isinstance(
                group["lr"], Tensor
            ):  # on CUDA a recorded graph reads it from this tensor
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    @property
    def layout(self) -> Literal["whole", "sharded"]:
        """Whether each device holds the whole model or a part of its rows."""
        sharded = any(isinstance(parameter, DTensor) for parameter in self.model.parameters())
        return "sharded" if sharded else "whole"

    @property
    def weights(self) -> Weights:
        """Parameters and buffers by name."""
        return weights_of(self.model)


def start_state(
    model: nn.Module,
    identity: Identity,
    border_id: int | None = None,
    *,
    forward: Losses | None = None,
    ranks: Ranks = ALONE,
) -> TrainingState:
    """State at D = 0: the base's weights and fresh moments.

    Args:
        model: The base.
        identity: The run.
        border_id: As in ``Forward``.
        forward: The losses of a sharded model; None makes those of a model on a single device.
        ranks: The processes of the run.
    """
    device = next(model.parameters()).device
    zeros_C = torch.zeros(len(identity.channels), dtype=torch.float64, device=device)
    forward = forward or forward_of(model, identity.dtype, border_id)
    optimizer = make_optimizer(model, identity)
    return TrainingState(model, forward, optimizer, zeros_C, zeros_C.clone(), ranks=ranks)


def make_optimizer(model: nn.Module, identity: Identity) -> torch.optim.AdamW:
    """AdamW that decays matrices only: no norms, no biases, no embeddings."""
    embeddings = embedding_ids(model)
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for parameter in model.parameters():
        is_matrix = parameter.ndim >= 2 and id(parameter) not in embeddings
        (decayed if is_matrix else kept).append(parameter)
    counted = sum(p.numel() for p in decayed) + sum(p.numel() for p in kept)
    assert counted == count_parameters(model).n_params, "a parameter is in no group, or in two"
    groups = [
        {"params": part, "weight_decay": decay}
        for parameters, decay in ((decayed, identity.optimizer.weight_decay), (kept, 0.0))
        for part in by_layout(parameters)
    ]
    how, first = identity.optimizer, next(model.parameters())
    # Steps of a sharded model are not recorded, so its rate can be a number.
    is_recorded = first.is_cuda and not isinstance(first, DTensor)
    rate = torch.tensor(identity.learning_rate, device=first.device) if is_recorded else 0.0
    return torch.optim.AdamW(
        groups,
        lr=rate,
        betas=(how.beta1, how.beta2),
        eps=how.eps,
        fused=True,
        capturable=is_recorded,
    )


def save_state(path: Path, state: TrainingState, identity: Identity, wall_s: float) -> None:
    """Write the state atomically; the file replaces an older state.

    The file does not depend on the number of processes: sharded tensors are gathered one by one.

    Args:
        path: A safetensors file; the first process writes it.
        state: The state.
        identity: Identity of the run; its hash is stored in the file.
        wall_s: Seconds spent on the run so far.
    """
    WATCHDOG.announce()
    tensors = {f"model.{name}": tensor for name, tensor in _weights(state.model).items()}
    for name, parameter in state.model.named_parameters():
        moments = state.optimizer.state.get(parameter, {})
        tensors |= {f"{key}.{name}": tensor for key, tensor in moments.items()}
    tensors |= {"loss_sum": state.loss_sum_C, "loss_tokens": state.loss_tokens_C}
    about = {"step": str(state.step), "identity": identity.hash, "wall_s": f"{wall_s:.3f}"}
    if state.ranks.is_first:
        make_room(path)
        with replace_file(path) as partial:
            write_state_file(partial, about, tensors, _fetch)
    else:
        for name in sorted(tensors):  # the order of write_state_file
            whole(tensors[name])


def _fetch(tensor: Tensor) -> Tensor:
    """Bring a tensor to the CPU, with the rows of all processes."""
    return whole(tensor.detach()).cpu().contiguous()


def read_step(path: Path) -> int:
    """Read the step of a saved state, without its tensors.

    Raises:
        DamagedFileError: If the file is damaged.
    """
    with open_state(path) as (_, about):
        return int(about["step"])


def load_state(path: Path, state: TrainingState, identity: Identity) -> None:
    """Overwrite a state with a saved one.

    Values are copied into tensors allocated by torch, since sums over another memory alignment may
    differ in the last bit.

    Args:
        path: A file of ``save_state``.
        state: A state of the same model; its weights, moments, sums, step and seconds change.
        identity: Identity of the run. A branch may load its trunk's state and a trunk its base's.
            Their seconds and sums are not loaded, and a trunk starts at step 0.

    Raises:
        DamagedFileError: If the file is damaged or of another run; the state is unchanged.
    """
    # The whole file is checked before anything is overwritten, and before another process opens it:
    # the first process renames a damaged file.
    state.ranks.decide(lambda: _check_state(path, state, identity))
    with open_state(path) as (file, about):
        is_own, is_base = _is_own(about, identity), _is_base(about, identity)
        moments = _saved_moments(file, state)
        with torch.no_grad():
            for name, tensor in _weights(state.model).items():
                copy_saved(tensor, file, f"model.{name}")
            if is_own:
                state.loss_sum_C.copy_(file.get_tensor("loss_sum"))
                state.loss_tokens_C.copy_(file.get_tensor("loss_tokens"))
            for name, parameter in moments.items():
                moment = state.optimizer.state[parameter] = _new_moments(parameter)
                for key, tensor in moment.items():
                    copy_saved(tensor, file, f"{key}.{name}")
    state.step = 0 if is_base else int(about["step"])
    state.wall_s = float(about["wall_s"]) if is_own else 0.0


def copy_saved(tensor: Tensor, file: Any, name: str) -> None:
    """Copy a tensor of an open safetensors file; of a sharded tensor only the rows held here."""
    if not isinstance(tensor, DTensor):
        tensor.copy_(file.get_tensor(name))
        return
    rows = own_rows(tensor)
    if rows.start < rows.stop:
        tensor.to_local().copy_(file.get_slice(name)[rows])


def _check_state(path: Path, state: TrainingState, identity: Identity) -> None:
    """Refuse a state that is damaged, of another run or of another model."""
    with open_state(path) as (file, about):
        source = about["identity"]
        known = _is_own(about, identity) or _is_base(about, identity) or source == identity.trunk
        if not known:
            raise DamagedFileError(path, f"it is of another run, {source}", REMEDY)
        check_content(path, file, about)
        _check_shapes(path, file, state)


def _is_own(about: Mapping[str, str], identity: Identity) -> bool:
    return about["identity"] == identity.hash


def _is_base(about: Mapping[str, str], identity: Identity) -> bool:
    return identity.base == f"run:{about['identity']}"


def _saved_moments(file: Any, state: TrainingState) -> dict[str, nn.Parameter]:
    """The parameters whose moments are in an open state."""
    there = set(file.keys())
    return {n: p for n, p in state.model.named_parameters() if f"exp_avg.{n}" in there}


def _check_shapes(path: Path, file: Any, state: TrainingState) -> None:
    """Refuse a state that does not fit the model."""
    there, moments = set(file.keys()), _saved_moments(file, state)
    wanted = {f"model.{name}": list(t.shape) for name, t in _weights(state.model).items()}
    for key in ("exp_avg", "exp_avg_sq"):
        wanted |= {f"{key}.{name}": list(p.shape) for name, p in moments.items()}
    wanted |= {f"step.{name}": [] for name in moments}
    for name, shape in wanted.items():
        if name not in there or file.get_slice(name).get_shape() != shape:
            raise DamagedFileError(path, f"its {name} is missing or of another shape", REMEDY)
    if not {"loss_sum", "loss_tokens"} <= there:
        raise DamagedFileError(path, "it has no sums of losses", REMEDY)


def allocate_moments(state: TrainingState) -> None:
    """Allocate the moments that AdamW would allocate at the end of its first step, as zeros."""
    for parameter in state.model.parameters():
        if parameter not in state.optimizer.state:
            state.optimizer.state[parameter] = _new_moments(parameter)


def _new_moments(parameter: nn.Parameter) -> dict[str, Tensor]:
    """AdamW's step and moments of a parameter at the start, as zeros."""
    step, *moments = MOMENTS
    return {
        step: torch.zeros((), device=parameter.device),
        **{key: torch.zeros_like(parameter) for key in moments},
    }


def reset_moments(state: TrainingState) -> None:
    """Reset AdamW: its moments and step counts become zero."""
    for moments in state.optimizer.state.values():
        for tensor in moments.values():
            tensor.zero_()


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, shared parameters once, and the buffers that belong to a checkpoint."""
    weights: dict[str, Tensor] = dict(model.named_parameters())
    stored = model.state_dict(keep_vars=True)
    return weights | {name: b for name, b in model.named_buffers() if name in stored}
