"""All that training changes, and how it is kept in one safetensors file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dcpt.atomic_files import replace_file
from dcpt.runs import Identity
from dcpt.training.forward import Forward, Weights, forward_of, weights_of
from dcpt.training.models import count_parameters, embedding_ids

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps for a parameter, by torch's names."""


@dataclass
class TrainingState:
    """All that a training step changes.

    Attributes:
        model: The model, weights in float32.
        forward: Its losses as a function of its weights.
        optimizer: AdamW over its parameters.
        loss_sum_C: Training loss of each channel since the last point, summed over tokens, float64.
        loss_tokens_C: Tokens behind these sums, float64.
        step: Optimizer steps since D = 0.
        wall_s: Seconds that went into this run before the present process took it up.
    """

    model: nn.Module
    forward: Forward
    optimizer: torch.optim.Optimizer
    loss_sum_C: Tensor
    loss_tokens_C: Tensor
    step: int = 0
    wall_s: float = 0.0

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):  # on CUDA it lies where a recorded graph reads it
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    @property
    def weights(self) -> Weights:
        """Parameters and buffers by name."""
        return weights_of(self.model)


def start_state(
    model: nn.Module, identity: Identity, border_id: int | None = None
) -> TrainingState:
    """State at D = 0: the base's weights and fresh moments; ``border_id`` as in ``Forward``."""
    device = next(model.parameters()).device
    zeros_C = torch.zeros(len(identity.channels), dtype=torch.float64, device=device)
    forward = forward_of(model, identity.dtype, border_id)
    optimizer = make_optimizer(model, identity)
    return TrainingState(model, forward, optimizer, zeros_C, zeros_C.clone())


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
    how, device = identity.optimizer, next(model.parameters()).device
    on_cuda = device.type == "cuda"
    rate = torch.tensor(identity.learning_rate, device=device) if on_cuda else 0.0
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": how.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(how.beta1, how.beta2),
        eps=how.eps,
        fused=True,
        capturable=on_cuda,
    )


def save_state(path: Path, state: TrainingState, identity: Identity, wall_s: float) -> None:
    """Write the state whole or not at all; the file replaces an older one.

    Args:
        path: A safetensors file.
        state: What to keep.
        identity: The run, whose hash goes into the file.
        wall_s: Seconds that went into the run up to here.
    """
    tensors = {f"model.{name}": tensor for name, tensor in _weights(state.model).items()}
    for name, parameter in state.model.named_parameters():
        moments = state.optimizer.state.get(parameter, {})
        tensors |= {f"{key}.{name}": tensor for key, tensor in moments.items()}
    tensors |= {"loss_sum": state.loss_sum_C, "loss_tokens": state.loss_tokens_C}
    with replace_file(path) as partial:
        save_file(
            {name: tensor.detach().contiguous() for name, tensor in tensors.items()},
            partial,
            {"step": str(state.step), "identity": identity.hash, "wall_s": f"{wall_s:.3f}"},
        )


def read_step(path: Path) -> int:
    """Read at which step a state was saved, without its tensors."""
    with safe_open(path, framework="pt") as file:
        return int(file.metadata()["step"])


def load_state(path: Path, state: TrainingState, identity: Identity) -> None:
    """Overwrite a state with a saved one.

    Values are copied into tensors that torch has laid out itself: sums in another memory alignment
    need not be the same to the last bit.

    Args:
        path: A file of ``save_state``.
        state: A state of the same model; its weights, moments, sums, step and seconds change.
        identity: The run. A branch may load its trunk's state and a trunk its base's: their
            seconds and sums are not its own, and a trunk's steps begin at 0 whatever the base's.
    """
    with safe_open(path, framework="pt") as file:
        about, names = file.metadata(), set(file.keys())
        source = about["identity"]
        is_own, is_base = source == identity.hash, identity.base == f"run:{source}"
        assert is_own or is_base or source == identity.trunk, f"{path} is of another run"
        with torch.no_grad():
            for name, tensor in _weights(state.model).items():
                tensor.copy_(file.get_tensor(f"model.{name}"))
            if is_own:
                state.loss_sum_C.copy_(file.get_tensor("loss_sum"))
                state.loss_tokens_C.copy_(file.get_tensor("loss_tokens"))
        for name, parameter in state.model.named_parameters():
            if f"exp_avg.{name}" in names:
                moments: dict[str, Any] = {k: file.get_tensor(f"{k}.{name}") for k in MOMENTS}
                state.optimizer.state[parameter] = {
                    key: torch.empty_like(tensor, device=parameter.device).copy_(tensor)
                    for key, tensor in moments.items()
                }
    state.step = 0 if is_base else int(about["step"])
    state.wall_s = float(about["wall_s"]) if is_own else 0.0


def reset_moments(state: TrainingState) -> None:
    """Let AdamW forget: its moments and its counts of steps are zero again."""
    for moments in state.optimizer.state.values():
        for tensor in moments.values():
            tensor.zero_()


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, shared ones once, and the buffers that belong to a checkpoint."""
    weights: dict[str, Tensor] = dict(model.named_parameters())
    stored = model.state_dict(keep_vars=True)
    return weights | {name: b for name, b in model.named_buffers() if name in stored}
