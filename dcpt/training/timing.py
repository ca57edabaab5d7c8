"""Cost of a run on this machine, from a few steps on random tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dcpt.errors import InputError
from dcpt.runs.identity import RunConfig
from dcpt.text.mixture import Batch
from dcpt.training.bases import build_untrained
from dcpt.training.evaluate import EVALUATION_TOKENS, sequence_losses
from dcpt.training.loop import own_stream
from dcpt.training.models import check_positions, count_parameters
from dcpt.training.passes import fitted_to
from dcpt.training.state import start_state
from dcpt.training.step import FIRST_STEPS, Step
from dcpt.training.watch import kind_of

LEAST_S = 0.5
"""Steps are timed on an accelerator for at least this long."""

ENOUGH_S = 5.0
"""On a CPU a step that takes this long is timed once: a step of 16,000 tokens of a 29M model takes
a minute on a core."""


@dataclass(frozen=True)
class Timing:
    """Cost of a run on this machine.

    Attributes:
        tokens_per_s: Training speed of all runs that share the device, without evaluation.
        evaluation_s: Seconds of a point, in which all channels are evaluated.
        n_params: All parameters of the model.
        compile_s: Seconds before the first timed step.
    """

    tokens_per_s: float
    evaluation_s: float
    n_params: int
    compile_s: float


class _TimedRun:
    """A run on its own stream that trains on the same random batch in every step."""

    def __init__(self, config: RunConfig, study: Path, device: str) -> None:
        identity = config.identity
        self.stream = own_stream(device)
        with self.stream:
            model = build_untrained(config, study, device).train()
            check_positions(model, identity.sequence_tokens, f"run {config.name}")
            border_id = 0 if identity.packing == "documents" else None  # any id: the text is random
            self.state = start_state(model, identity, border_id)
            self._take_step = Step(
                self.state,
                identity,
                config.micro_batch_sequences,
                checkpointing=bool(config.recorded.activation_checkpointing),
            )
        random = np.random.default_rng(0)
        embeddings = self.state.model.get_input_embeddings()  # type: ignore[operator]
        shape = (identity.batch_sequences, identity.sequence_tokens + 1)
        self.batch = Batch(
            random.integers(embeddings.num_embeddings, size=shape),
            np.arange(identity.batch_sequences, dtype=np.int64) % len(identity.channels),
        )

    def take_step(self) -> None:
        with self.stream:
            self._take_step(self.batch)


def time_steps(
    config: RunConfig, study: Path, *, device: str = "cpu", lanes: int = 1, n_steps: int = 3
) -> Timing:
    """Time a few steps of a run on random tokens; only the model's shape is read.

    Args:
        config: The run; its base need not be trained yet.
        study: The study's folder.
        device: Where to measure.
        lanes: Runs that train on the device side by side.
        n_steps: Steps of each run to time, after the warm-up steps; repeated on an accelerator,
            fewer on a CPU if they take long.

    Raises:
        InputError: If the shape of the base is unknown, or the model does not fit into memory.
    """
    config, began = fitted_to(device, config, study, 1, lambda _: lanes), time.monotonic()
    identity = config.identity
    on_cpu = device == "cpu"  # where nothing is compiled or asynchronous
    try:
        runs = [_TimedRun(config, study, device) for _ in range(lanes)]
        seconds, steps = _seconds_of(runs, 1 if on_cpu else FIRST_STEPS + 1), 1
    except (MemoryError, RuntimeError) as error:
        if kind_of(error) != "out_of_memory":
            raise
        raise InputError(
            f"size {config.recorded.size}: the model does not fit into the memory of {device} with "
            f"{config.micro_batch_sequences} sequences at a time; lower "
            "training.micro_batch_sequences, or choose a smaller model or a machine with more "
            "memory"
        ) from error
    compile_s = time.monotonic() - began
    if not on_cpu or seconds < ENOUGH_S:
        seconds, steps = 0.0, 0
    at_once, until_s = (1, ENOUGH_S) if on_cpu else (n_steps, LEAST_S)
    while seconds < until_s and not (on_cpu and steps >= n_steps):
        seconds += _seconds_of(runs, at_once)
        steps += at_once

    state, batch = runs[0].state, torch.from_numpy(runs[0].batch.tokens)
    per_pass = max(1, EVALUATION_TOKENS // identity.sequence_tokens)
    windows = batch[torch.arange(per_pass) % len(batch)]
    with runs[0].stream:
        if not on_cpu:
            sequence_losses(state.forward, state.weights, windows)
        began = time.monotonic()
        sequence_losses(state.forward, state.weights, windows)
        pass_s = time.monotonic() - began
    n_windows = len(identity.channels) * (identity.validation_tokens // identity.sequence_tokens)
    return Timing(
        tokens_per_s=lanes * steps * identity.batch_tokens / seconds,
        evaluation_s=pass_s * n_windows / per_pass,
        n_params=count_parameters(state.model).n_params,
        compile_s=compile_s,
    )


def _seconds_of(runs: Sequence[_TimedRun], n_steps: int) -> float:
    """Seconds of ``n_steps`` steps of every run, in turn."""
    began = time.monotonic()
    for _ in range(n_steps):
        for run in runs:
            run.take_step()
    for run in runs:
        with run.stream:
            run.state.loss_sum_C.tolist()  # waits for an accelerator
    return time.monotonic() - began
