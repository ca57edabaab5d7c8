"""Micro-batch, activation checkpointing and GPUs of a run, chosen by the estimate of the memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dcpt.errors import InputError
from dcpt.runs.identity import RunConfig
from dcpt.training.bases import shape_of
from dcpt.training.memory import Memory, can_recompute, count_from_config, memory_of

USABLE = 0.9
"""Share of a GPU's memory that a step may need by its estimate."""

ENOUGH_TOKENS = 2048
"""Tokens of a pass from which on layers are not computed again to make room for more of them. That
would cost a fourth of the speed; passes of fewer tokens lose as much, since each reads and writes
all weights and gradients."""


def fitted_to(
    device: str,
    config: RunConfig,
    study: Path,
    n_gpus: int = 1,
    lanes_for: Callable[[float], int] = lambda _: 1,
) -> RunConfig:
    """Choose the micro-batch and activation checkpointing where a run leaves them open.

    Args:
        device: Where the run trains. The CPU changes nothing.
        config: The run; its base must be planned, not trained.
        study: The study's folder.
        n_gpus: GPUs that share the run.
        lanes_for: The number of runs that share a GPU, by their parameters; each has a part of the
            memory.

    Returns:
        The run with both settings. The run's first step shows whether the estimate was right.

    Raises:
        InputError: If the study asks for activation checkpointing and the model has none.
    """
    recorded = config.recorded
    if recorded.activation_checkpointing:
        check_recomputable(config, shape_of(config, study))
    is_set = None not in (recorded.micro_batch_sequences, recorded.activation_checkpointing)
    if is_set or not device.startswith("cuda"):
        return config
    shape = shape_of(config, study)
    n_bytes = torch.cuda.get_device_properties(device).total_memory
    return choose_passes(config, shape, n_bytes // lanes_for(count_from_config(shape)), n_gpus)


def choose_passes(config: RunConfig, shape: Any, n_bytes: int, n_gpus: int = 1) -> RunConfig:
    """Choose the largest micro-batch that fits, without checkpointing where that is faster.

    Args:
        config: The run.
        shape: Configuration of its model (of ``transformers``).
        n_bytes: Memory of a GPU.
        n_gpus: GPUs that share the run; each passes a part of the batch, and holds the whole state
            or a part of it.

    Returns:
        The run with both settings; if nothing fits, with those that need least.

    Raises:
        InputError: If the study asks for activation checkpointing and the model has none.
    """
    identity, recorded = config.identity, config.recorded
    batch, tokens = -(-identity.batch_sequences // n_gpus), identity.sequence_tokens
    # Equal parts of the batch: each other length is compiled for itself.
    parts = [n for n in range(batch, 0, -1) if batch % n == 0]
    if recorded.micro_batch_sequences is not None:
        parts = [sequences_per_pass(config, n_gpus)]
    given = recorded.activation_checkpointing
    if given:
        check_recomputable(config, shape)
    if given is None and not can_recompute(shape):
        given = False
    # The faster ways first: what is whole on each GPU is not gathered, what is kept not computed.
    ways = [
        (checkpointing, shared)
        for checkpointing in ([False, True] if given is None else [given])
        for shared in ([1, n_gpus] if n_gpus > 1 else [1])
    ]

    def fits(n: int, checkpointing: bool, shared: int) -> bool:
        memory = memory_of(config, shape, n, checkpointing=checkpointing, n_gpus=shared)
        return memory.n_bytes <= USABLE * n_bytes

    chosen = parts[-1], ways[-1][0]
    for way in ways:
        largest = next((n for n in parts if fits(n, *way)), None)
        is_enough = largest == parts[0] or (largest or 0) * tokens >= ENOUGH_TOKENS
        if largest is not None and (is_enough or way == ways[-1]):
            chosen = largest, way[0]
            break
    n, checkpointing = chosen
    update = {"micro_batch_sequences": n, "activation_checkpointing": checkpointing}
    return config.model_copy(update={"recorded": recorded.model_copy(update=update)})


def fewest_gpus(config: RunConfig, shape: Any, n_bytes: int, most: int) -> int:
    """Number of GPUs that a run needs at least, by the estimate.

    Args:
        config: The run.
        shape: Configuration of its model (of ``transformers``).
        n_bytes: Memory of a GPU.
        most: GPUs there are.

    Raises:
        InputError: If not even all of them are enough.
    """
    recorded, needs = config.recorded, 0
    checkpointing = recorded.activation_checkpointing is not False and can_recompute(shape)
    for n_gpus in range(1, most + 1):
        is_set = recorded.micro_batch_sequences is not None
        micro_batch = sequences_per_pass(config, n_gpus) if is_set else 1
        memory = memory_of(config, shape, micro_batch, checkpointing=checkpointing, n_gpus=n_gpus)
        needs = memory.n_bytes
        if needs <= USABLE * n_bytes:
            return n_gpus
    there = "on 1 GPU, which has" if most == 1 else f"on each of {most} GPUs, which have"
    raise InputError(
        f"size {recorded.size}: a run needs about {needs / 2**30:.0f} GiB {there} "
        f"{n_bytes / 2**30:.0f} GiB; use more GPUs or a smaller base, or shorten "
        "training.sequence_tokens"
    )


def sequences_per_pass(config: RunConfig, n_gpus: int) -> int:
    """Sequences that each GPU of a run passes at a time: at most its part of the batch."""
    return min(config.micro_batch_sequences, -(-config.identity.batch_sequences // n_gpus))


def is_held_whole(config: RunConfig, shape: Any, n_bytes: int, n_gpus: int) -> bool:
    """Whether each GPU of a run holds the whole state: it is shared only where it has to be.

    Args:
        config: The run, with its micro-batch chosen.
        shape: Configuration of its model (of ``transformers``).
        n_bytes: Memory of a GPU.
        n_gpus: GPUs of the run.
    """
    return memory_of_layout(config, shape, n_gpus, shared_by=1).n_bytes <= USABLE * n_bytes


def memory_of_layout(config: RunConfig, shape: Any, n_gpus: int, *, shared_by: int) -> Memory:
    """Estimate the memory on each GPU of a run.

    Args:
        config: The run, with its micro-batch chosen.
        shape: Configuration of its model (of ``transformers``).
        n_gpus: GPUs that divide the batch.
        shared_by: GPUs that share the state: all of them, or 1 where each holds it whole.
    """
    micro_batch = sequences_per_pass(config, n_gpus)
    checkpointing = bool(config.recorded.activation_checkpointing)
    return memory_of(config, shape, micro_batch, checkpointing=checkpointing, n_gpus=shared_by)


def check_recomputable(config: RunConfig, shape: Any) -> None:
    """Refuse activation checkpointing of a model whose layers cannot be computed again.

    Raises:
        InputError: Names the family of the model.
    """
    if not can_recompute(shape):
        raise InputError(
            f"size {config.recorded.size}: training.activation_checkpointing is true, and "
            f"transformers marks no layers of the family {shape.model_type} to be computed again; "
            "remove it, or lower training.micro_batch_sequences to save memory"
        )
