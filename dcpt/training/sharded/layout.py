"""How a model is spread over the GPUs of a run."""

from __future__ import annotations

from typing import Any

import torch

from dcpt.errors import InputError
from dcpt.runs.identity import RunConfig
from dcpt.training.memory import count_from_config
from dcpt.training.passes import USABLE, is_held_whole, memory_of_layout


def fits_whole(config: RunConfig, shape: Any, device: str, n_gpus: int) -> bool:
    """Whether each device of a run holds its whole state, by the estimate.

    Args:
        config: The run, with its micro-batch chosen.
        shape: Configuration of its model (of ``transformers``).
        device: A device of the run. Processes on the CPU share its memory, so there nothing is
            held whole.
        n_gpus: Devices of the run.
    """
    if not device.startswith("cuda"):
        return False
    n_bytes = torch.cuda.get_device_properties(device).total_memory
    return is_held_whole(config, shape, n_bytes, n_gpus)


def can_keep_gathered(config: RunConfig, shape: Any, n_gpus: int, n_bytes: int) -> bool:
    """Whether the layers can stay gathered between forward and backward pass, by the estimate.

    Args:
        config: The run, with its micro-batch chosen.
        shape: Configuration of its model (of ``transformers``).
        n_gpus: GPUs of the run.
        n_bytes: Memory of a GPU.

    Raises:
        InputError: If not even weights, gradients and moments fit.
    """
    memory = memory_of_layout(config, shape, n_gpus, shared_by=n_gpus)
    fixed = memory.weights + memory.gradients + memory.moments
    if fixed > n_bytes:
        raise InputError(
            f"run {config.name}: weights, gradients and moments take {fixed / 2**30:.0f} GiB on "
            f"each of {n_gpus} GPUs of {n_bytes / 2**30:.0f} GiB; set training.gpus_per_run to at "
            f"least {-(-fixed * n_gpus // n_bytes)}, or choose a smaller base"
        )
    gathered = count_from_config(shape) * (2 if config.identity.dtype == "bfloat16" else 4)
    return memory.n_bytes + gathered <= USABLE * n_bytes
