"""The state of training, and its safetensors file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dcpt.atomic_files import DamagedFileError, make_room, replace_file
from dcpt.file_hashes import remembered_digest
from dcpt.runs.identity import Identity
from dcpt.training.forward import Forward, Weights, forward_of, weights_of
from dcpt.training.models import count_parameters, embedding_ids

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""AdamW's state of a parameter, by torch's names."""

REMEDY = "`dcpt run-grid` sets it aside and resumes from the state before it"
"""End of the message about a damaged state."""


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
        wall_s: Seconds spent on this run by earlier processes.
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
            if isinstance(
                group["lr"], Tensor
            ):  # on CUDA a recorded graph reads it from this tensor
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
    """Write the state atomically; the file replaces an older state.

    Args:
        path: A safetensors file.
        state: The state.
        identity: Identity of the run; its hash is stored in the file.
        wall_s: Seconds spent on the run so far.
    """
    tensors = {f"model.{name}": tensor for name, tensor in _weights(state.model).items()}
    for name, parameter in state.model.named_parameters():
        moments = state.optimizer.state.get(parameter, {})
        tensors |= {f"{key}.{name}": tensor for key, tensor in moments.items()}
    tensors |= {"loss_sum": state.loss_sum_C, "loss_tokens": state.loss_tokens_C}
    host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = {"step": str(state.step), "identity": identity.hash, "wall_s": f"{wall_s:.3f}"}
    about["sha256"] = _content_sha256(about, sorted(host), host)
    make_room(path)
    with replace_file(path) as partial:
        save_file(host, partial, about)


def read_step(path: Path) -> int:
    """Read the step of a saved state, without its tensors.

    Raises:
        DamagedFileError: If the file is damaged.
    """
    with _open_state(path) as (_, about):
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
    with _open_state(path) as (file, about):
        source = about["identity"]
        is_own, is_base = source == identity.hash, identity.base == f"run:{source}"
        if not (is_own or is_base or source == identity.trunk):
            raise DamagedFileError(path, f"it is of another run, {source}", REMEDY)
        _check_content(path, file, about)
        moments = _check_shapes(path, file, state)
        # The whole file is checked before anything is overwritten.
        with torch.no_grad():
            for name, tensor in _weights(state.model).items():
                tensor.copy_(file.get_tensor(f"model.{name}"))
            if is_own:
                state.loss_sum_C.copy_(file.get_tensor("loss_sum"))
                state.loss_tokens_C.copy_(file.get_tensor("loss_tokens"))
        for name, parameter in moments.items():
            saved: dict[str, Any] = {key: file.get_tensor(f"{key}.{name}") for key in MOMENTS}
            state.optimizer.state[parameter] = {
                key: torch.empty_like(tensor, device=parameter.device).copy_(tensor)
                for key, tensor in saved.items()
            }
    state.step = 0 if is_base else int(about["step"])
    state.wall_s = float(about["wall_s"]) if is_own else 0.0


@contextmanager
def _open_state(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open a state and its metadata.

    Raises:
        DamagedFileError: If it is not a complete safetensors file with the metadata of a state.
    """
    if path.is_dir():
        raise DamagedFileError(path, "it is a folder", REMEDY)
    try:
        opened = safe_open(path, framework="pt")
    except (SafetensorError, ValueError, PermissionError) as error:
        raise DamagedFileError(path, " ".join(str(error).split())[:200], REMEDY) from None
    except FileNotFoundError:
        if not path.is_symlink():
            raise
        raise DamagedFileError(path, "it is a link that leads to no file", REMEDY) from None
    with opened as file:
        about = file.metadata() or {}
        try:
            int(about["step"]), float(about["wall_s"]), about["identity"]
        except (KeyError, ValueError):
            raise DamagedFileError(path, "it has no metadata of a state", REMEDY) from None
        yield file, about


def _check_content(path: Path, file: Any, about: Mapping[str, str]) -> None:
    """Compare a state's content with its stored hash, once per machine for an unchanged file.

    Hashing reads 0.5 GB in 0.4 s. States of earlier versions have no hash.
    """
    if "sha256" not in about:
        return
    names = sorted(file.keys())

    def compute() -> str:
        return _content_sha256(about, names, _Tensors(file))

    if remembered_digest("state", [path], compute) != about["sha256"]:
        raise DamagedFileError(path, "its content is not what was written", REMEDY)


def _check_shapes(path: Path, file: Any, state: TrainingState) -> dict[str, nn.Parameter]:
    """Refuse a state that does not fit the model; returns the parameters with saved moments."""
    there = set(file.keys())
    parameters = dict(state.model.named_parameters())
    moments = {name: p for name, p in parameters.items() if f"exp_avg.{name}" in there}
    wanted = {f"model.{name}": list(t.shape) for name, t in _weights(state.model).items()}
    for key in ("exp_avg", "exp_avg_sq"):
        wanted |= {f"{key}.{name}": list(p.shape) for name, p in moments.items()}
    wanted |= {f"step.{name}": [] for name in moments}
    for name, shape in wanted.items():
        if name not in there or file.get_slice(name).get_shape() != shape:
            raise DamagedFileError(path, f"its {name} is missing or of another shape", REMEDY)
    if not {"loss_sum", "loss_tokens"} <= there:
        raise DamagedFileError(path, "it has no sums of losses", REMEDY)
    return moments


class _Tensors(Mapping[str, Tensor]):
    """The tensors of an open file, each read on access."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.keys())

    def __len__(self) -> int:
        return len(self._file.keys())


def _content_sha256(
    about: Mapping[str, str], names: list[str], tensors: Mapping[str, Tensor]
) -> str:
    """SHA-256 over a state: its metadata, then name, type, shape and bytes of each tensor."""
    digest = hashlib.sha256()
    for key in ("step", "identity", "wall_s"):
        digest.update(f"{key}\0{about[key]}\0".encode())
    for name in names:
        tensor = tensors[name]
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
