"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from dcpt.runs import Identity, RunConfig, RunFolder, learning_rate_at
from dcpt.training.data import RunData, open_data
from dcpt.training.evaluate import describe_evaluation, token_losses
from dcpt.training.journal import Journal
from dcpt.training.models import check_vocabulary, load_base, save_model
from dcpt.training.state import TrainingState, load_state, save_state, start_state
from dcpt.training.work import find_work, must_save_model

LOG_EVERY_S = 1.0
"""Seconds between two ``train`` lines; each waits for the device once."""

LOG_EVERY_STEPS = 1000
"""Steps between two looks at the losses, at most: a NaN is not trained on for long."""


class TrainingError(RuntimeError):
    """Training went wrong: names the run, the step, the value and a remedy."""


def train(
    config: RunConfig, study: Path, *, device: str = "cpu", stop_at_step: int | None = None
) -> None:
    """Train a run to its end, from wherever it stands; does nothing if it lacks nothing.

    A pre-training run starts from random weights, a trunk from its base, a branch from its trunk's
    state. On the CPU an interrupted run goes on bit for bit as if it had not been.

    Args:
        config: The run.
        study: The study's folder; the run's folder is in ``runs`` below it.
        device: Where to train.
        stop_at_step: Stop at this step with a checkpoint, as if interrupted there.

    Raises:
        InputError: If the base or the text is not there or does not fit.
        TrainingError: If a loss is not finite, or the disk is full.
    """
    one = config.identity
    folder = RunFolder.of(config, study / "runs")
    folder.write_config(config)
    if folder.is_done(config):
        return
    work = find_work(config, study / "runs")
    data = open_data(config, study)
    model = load_base(config, study, device)
    check_vocabulary(model, data.vocab_size, f"run {config.name}")
    state = start_state(model.train(), one)
    if work.start is not None:
        load_state(work.start, state, one)
    watch = Watch(config, state, (folder.result() or {}).get("wall_s", 0.0))

    with Journal(folder) as journal:
        while True:
            n_tokens = state.step * one.batch_tokens
            if state.step in work.points - work.known:
                watch.check()
                journal.write_point(make_point(config, state, data, watch))
            if state.step in work.resets:
                watch.reset_channels()
            if state.step in work.states:
                watch.save(folder.state(n_tokens))
            if state.step == work.end:
                break
            if state.step == stop_at_step or watch.is_checkpoint_due():
                watch.save(folder.checkpoint)
            if state.step == stop_at_step:
                return
            for name, epoch in data.mixture.repeats(state.step).items():
                journal.write_note(f"{name} ran dry at {n_tokens} tokens; epoch {epoch + 1} begins")

            take_step(state, one, data, watch)
            if watch.is_log_due():
                journal.write_training(watch.describe_training())

    if work.end == config.n_steps ...:
