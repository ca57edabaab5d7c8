"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn

from dcpt.runs import Identity, RunConfig, RunFolder, learning_rate_at
from dcpt.text.mixture import Batch
from dcpt.training.data import RunData, open_data
from dcpt.training.evaluate import (
    EVALUATION_TOKENS,
    describe_evaluation,
    sequence_losses,
    token_losses,
)
from dcpt.training.journal import Journal
from dcpt.training.models import (
    build_untrained,
    check_vocabulary,
    count_parameters,
    load_base,
    save_model,
)
from dcpt.training.state import TrainingState, load_state, save_state, start_state
from dcpt.training.watch import TrainingError, Watch
from dcpt.training.work import find_work, must_save_model

__all__ = ["Timing", "TrainingError", "time_steps", "train"]

VERSIONS = {"torch": str(torch.__version__), "transformers": transformers.__version__}

UNTIMED_STEPS = 2
"""Steps before the timed ones: the first ones allocate."""


def train(
    config: RunConfig, study: Path, *, device: str = "cpu", stop_at_step: int | None = None
) -> None:
    """Train a run to its end, from wherever it stands; does nothing if it lacks nothing.

    A pre-training run starts from random weights, a trunk from its base, a branch from its trunk's
    state. On the CPU a run that was interrupted ends bit for bit like one that was not.

    Args:
        config: The run.
        study: The study's folder; the run's own folder is in ``runs`` below it.
        device: Where to train.
        stop_at_step: Stop at this step with a checkpoint, as if interrupted there.

    Raises:
        InputError: If the base or the text is not there or does not fit.
        TrainingError: If a loss is not finite or a file cannot be written.
    """
    folder = RunFolder.of(config, study / "runs")
    if folder.is_done(config):
        return
    try:
        folder.write_config(config)
        _train(config, study, folder, device, stop_at_step)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"run {config.name}: a file cannot be read or written ({error}); see to the disk and "
            "start again: the run goes on from its last checkpoint"
        ) from error


def _train(
    config: RunConfig, study: Path, folder: RunFolder, device: str, stop_at_step: int | None
) -> None:
    one, before = config.identity, folder.result() or {}
    work = find_work(config, study / "runs")
    data = open_data(config, study)
    model = load_base(config, study, device)
    check_vocabulary(model, data.vocab_size, f"run {config.name}")
    state = start_state(model.train(), one)
    if work.start is not None:
        load_state(work.start, state, one)
    watch = Watch(config, state, spent_s=max(state.wall_s, before.get("wall_s", 0.0)))

    with Journal(folder) as journal:
        while True:
            n_tokens = state.step * one.batch_tokens

            # What is due at this step. All of it comes before the checkpoint of the same step, so
            # that whoever resumes there has nothing of it left to do.
            if state.step in work.points - work.known:
                watch.check_losses()
                with watch.pause():
                    journal.write_point(make_point(config, state, data, watch))
            if state.step in work.resets:
                state.loss_sum_C.zero_()
                state.loss_tokens_C.zero_()
                watch.note_reset()
            if state.step in work.states:
                watch.check_losses()
                save_state(folder.state(n_tokens), state, one, watch.wall_s)
            if state.step == work.end:
                break
            if watch.is_checkpoint_due() or state.step == stop_at_step:
                watch.check_losses()
                save_state(folder.checkpoint, state, one, watch.wall_s)
                watch.note_checkpoint()
            if state.step == stop_at_step:
                return

            # One step.
            for name, epoch in data.mixture.repeats(state.step).items():
                journal.write_note(f"{name} ran dry at {n_tokens} tokens; epoch {epoch + 1} begins")
            watch.add_step(*take_step(state, one, data.mixture.batch(state.step)))
            if watch.is_log_due():
                journal.write_training(watch.describe_training())

    if work.end == work.run_end and must_save_model(config):
        save_model(model, data.tokenizer, folder.model)
    done = describe_end(folder, state, data) if work.end == work.run_end else before
    speed = watch.tokens_per_s or before.get("tokens_per_s")
    about = {"wall_s": watch.wall_s, "tokens_per_s": speed, "device": device, "versions": VERSIONS}
    folder.write_result({**done, **about})


def take_step(state: TrainingState, identity: Identity, batch: Batch) -> tuple[Tensor, Tensor]:
    """Train on one batch: the state changes, and nothing waits for the device.

    Args:
        state: Weights, moments, sums of losses by channel, and the step.
        identity: The run.
        batch: Tokens of shape (B, T + 1) and the channel of each sequence.

    Returns:
        Mean loss over the batch's tokens and norm of the gradient before clipping, scalars.
    """
    device = state.loss_sum_C.device
    # A foreign model may have dropout: its noise hangs on seed and step alone, so that a resumed
    # run draws the same.
    torch.manual_seed(identity.seed * 1_000_003 + state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate_at(identity, state.step)

    tokens = torch.from_numpy(batch.tokens).to(device, non_blocking=True)
    losses_BT = token_losses(state.model, tokens, identity.dtype)
    loss = losses_BT.mean()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), identity.optimizer.clip_norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)

    channel_B = torch.from_numpy(batch.channel_index).to(device, non_blocking=True)
    sums_B = losses_BT.detach().sum(dim=1, dtype=torch.float64)
    state.loss_sum_C.index_add_(0, channel_B, sums_B)
    state.loss_tokens_C.index_add_(0, channel_B, torch.full_like(sums_B, losses_BT.shape[1]))
    state.step += 1
    return loss.detach(), norm


def make_point(
    config: RunConfig, state: TrainingState, data: RunData, watch: Watch
) -> dict[str, Any]:
    """Evaluate every channel, and tell what was trained on since the point before.

    Raises:
        TrainingError: If a loss is not finite.
    """
    one, step = config.identity, state.step
    sums = zip(one.channels, state.loss_sum_C.tolist(), state.loss_tokens_C.tolist(), strict=True)
    measured = describe_evaluation(state.model, data.validation, one.dtype)
    for name, loss in measured["loss"].items():
        if not math.isfinite(loss):
            raise TrainingError(
                f"run {config.name}: the validation loss of channel {name} after step {step} is "
                f"{loss}; lower the learning rate ({one.learning_rate:g}) or lengthen the warmup"
            )
    return {
        "n_tokens": step * one.batch_tokens,
        "phase": phase_of(one, step),
        **measured,
        "train_loss": {channel.name: loss / count for channel, loss, count in sums if count},
        **data.describe_reading(step),
        "learning_rate": learning_rate_at(one, step - 1) if step else None,
        "wall_s": watch.wall_s,
    }


def phase_of(identity: Identity, step: int) -> str:
    """Name the phase of a point; a pre-training run has one point, that of the base it makes."""
    if identity.kind == "branch":
        return "annealed"
    return "constant" if identity.kind == "trunk" and step else "base"


def describe_end(folder: RunFolder, state: TrainingState, data: RunData) -> dict[str, Any]:
    """Sum up a run that reached its end: most of ``result.json``."""
    point = folder.points()[-1]
    copied = ("n_tokens", "loss", "n_params", "n_params_non_embedding", "epochs")
    return {
        "n_steps": state.step,
        **{name: point[name] for name in copied},
        "tokens": data.mixture.tokens(state.step),
    }


@dataclass(frozen=True)
class Timing:
    """What a run costs here.

    Attributes:
        tokens_per_s: Training speed, evaluation apart.
        evaluation_s: Seconds of one point, in which all channels are evaluated.
        n_params: Parameters of the model in all.
    """

    tokens_per_s: float
    evaluation_s: float
    n_params: int


def time_steps(config: RunConfig, study: Path, *, device: str = "cpu", n_steps: int = 3) -> Timing:
    """Time a few steps of a run on random tokens; nothing is read but the model's shape.

    Args:
        config: The run; its base need not be trained yet.
        study: The study's folder.
        device: Where to measure.
        n_steps: Steps to time, after two that are not.

    Raises:
        InputError: If the shape of the base cannot be found.
    """
    one = config.identity
    model = build_untrained(config, study, device)
    state = start_state(model.train(), one)
    random = np.random.default_rng(0)
    shape = (one.batch_sequences, one.sequence_tokens + 1)
    vocabulary = state.model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    batch = Batch(
        random.integers(vocabulary, size=shape), np.zeros(one.batch_sequences, dtype=np.int64)
    )

    def seconds_of(steps: int) -> float:
        began = time.monotonic()
        for _ in range(steps):
            loss, _ = take_step(state, one, batch)
        loss.item()  # an accelerator is waited for
        return time.monotonic() - began

    seconds_of(UNTIMED_STEPS)
    step_s = seconds_of(n_steps) / n_steps

    per_pass = max(1, EVALUATION_TOKENS // one.sequence_tokens)
    windows = torch.from_numpy(random.integers(vocabulary, size=(per_pass, shape[1])))
    sequence_losses(model, windows, one.dtype)
    began = time.monotonic()
    sequence_losses(model, windows, one.dtype)
    n_windows = len(one.channels) * (one.validation_tokens // one.sequence_tokens)
    return Timing(
        tokens_per_s=one.batch_tokens / step_s,
        evaluation_s=(time.monotonic() - began) * n_windows / per_pass,
        n_params=count_parameters(model).n_params,
    )
