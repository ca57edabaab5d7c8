"""Time and losses of a run while it trains, read from time to time."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dcpt.errors import InputError
from dcpt.leases import LeaseLostError
from dcpt.runs.course import learning_rate_at
from dcpt.runs.failures import ErrorKind, write_error
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training.state import TrainingState

LOG_EVERY_S = 1.0
"""Seconds between two ``train`` lines."""

SAVE_SPACING = 20
"""Checkpoints are so many times as far apart as the last one took, or more: 5 % of the time."""

LONGEST_BLIND_STEPS = 256
"""Steps after which losses are read even within ``LOG_EVERY_S``, so that a NaN is noticed soon."""


class TrainingError(RuntimeError):
    """An error of training: names the run, the place, the value and the remedy.

    Args:
        words: The message, a sentence.
        kind: Kind of error.
    """

    def __init__(self, words: str, kind: ErrorKind = "other") -> None:
        super().__init__(words)
        self.kind = kind


def kind_of(error: Exception) -> ErrorKind:
    """The kind of an error of training."""
    if isinstance(error, TrainingError):
        return error.kind
    if isinstance(error, LeaseLostError):
        return "lease_lost"
    if isinstance(error, InputError):
        return "input"
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out_of_memory"
    if isinstance(error, torch.AcceleratorError):
        return "device"
    if isinstance(error, OSError):
        return "disk"
    if "can't allocate memory" in str(error):  # a plain RuntimeError of torch's CPU allocator
        return "out_of_memory"
    return "other"


def record_error(folder: RunFolder, error: Exception) -> str:
    """Write an error that is being handled to the run's folder; returns its message."""
    words = f"{type(error).__name__}: {error}"
    return write_error(folder, words, traceback.format_exc(), kind_of(error))


class Watch:
    """Keeps the time of a call of ``train`` and the losses that were not read yet.

    Reading a number makes the host wait for an accelerator, so losses stay on the device until a
    line or a save is due.

    Args:
        config: The run.
        state: State of the run, which is only read.
        spent_s: Seconds spent on the run by earlier calls.
    """

    def __init__(self, config: RunConfig, state: TrainingState, spent_s: float) -> None:
        self._config, self._state, self._spent_s = config, state, spent_s
        self._started = self._logged = self._saved = time.monotonic()
        self._first_step = self._logged_step = self._saved_step = state.step
        self._save_s = 0.0
        self._paused_s = self._logged_paused_s = 0.0
        self._unseen: list[Tensor] = []
        self._losses: list[float] = []
        self._norm: float | None = None
        self._logged_2C = self._read_sums()

    def add_step(self, loss_and_norm: Tensor) -> None:
        """Take the loss and the gradient norm of a step, shape (2,), still on the device."""
        self._unseen.append(loss_and_norm)

    def check_losses(self) -> None:
        """Read the losses and gradients of the latest steps.

        Raises:
            TrainingError: If a loss or gradient is not finite.
        """
        if not self._unseen:
            return
        first = self._state.step - len(self._unseen)
        losses, norms = torch.stack(self._unseen).T.tolist()
        self._unseen, self._norm = [], norms[-1]
        for step, (loss, norm) in enumerate(zip(losses, norms, strict=True), start=first):
            what, value = ("training loss", loss) if not math.isfinite(loss) else ("gradient", norm)
            if not math.isfinite(value):
                rate = learning_rate_at(self._config.identity, step)
                raise TrainingError(
                    f"run {self._config.name}: the {what} of step {step} is {value} at a "
                    f"learning rate of {rate:g}; lower the learning rate or lengthen the warmup",
                    "not_finite",
                )
        self._losses += losses

    def is_log_due(self) -> bool:
        """Whether to write a ``train`` line after this step."""
        blind = len(self._unseen) >= LONGEST_BLIND_STEPS
        return blind or self._unlogged_s() >= LOG_EVERY_S

    def is_checkpoint_due(self, *, is_asked: bool = False) -> bool:
        """Whether to save the state after this step: it is new, and asked for or overdue."""
        if self._state.step == self._saved_step:
            return False
        if is_asked:
            return True
        spacing = max(self._config.recorded.checkpoint_every_s, SAVE_SPACING * self._save_s)
        return time.monotonic() - self._saved >= spacing

    @contextmanager
    def checkpoint(self) -> Iterator[None]:
        """Note that the state is saved inside, and how long it takes."""
        began = time.monotonic()
        yield
        self._saved, self._saved_step = time.monotonic(), self._state.step
        self._save_s = self._saved - began

    def note_reset(self) -> None:
        """Note that the sums of training losses are about to be reset.

        The next log line continues across the reset, since a line of a few steps would be noisy.
        """
        self._logged_2C = self._logged_2C - self._read_sums()

    def describe_training(self) -> dict[str, Any]:
        """Describe training since the last call: the content of a ``train`` line."""
        self.check_losses()
        identity, state = self._config.identity, self._state
        now, sums_2C = time.monotonic(), self._read_sums()
        sums, counts = (sums_2C - self._logged_2C).tolist()
        seconds = self._unlogged_s()
        tokens = (state.step - self._logged_step) * identity.batch_tokens
        event = {
            "step": state.step,
            "n_tokens": state.step * identity.batch_tokens,
            "loss": sum(self._losses) / len(self._losses),
            "channel_loss": {
                channel.name: loss / count
                for channel, loss, count in zip(identity.channels, sums, counts, strict=True)
                if count
            },
            "learning_rate": learning_rate_at(identity, state.step - 1),
            "grad_norm": self._norm,
            "tokens_per_s": tokens / max(seconds, 1e-9),
        }
        self._losses, self._logged, self._logged_step = [], now, state.step
        self._logged_2C, self._logged_paused_s = sums_2C, self._paused_s
        return event

    def _unlogged_s(self) -> float:
        """Seconds of training without evaluation since the last line."""
        paused_s = self._paused_s - self._logged_paused_s
        return time.monotonic() - self._logged - paused_s

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude the time inside from the training speed."""
        began = time.monotonic()
        yield
        self._paused_s += time.monotonic() - began

    @property
    def wall_s(self) -> float:
        """Seconds spent on the run in all calls.

        On a shared device this includes the steps of the other runs.
        """
        return self._spent_s + time.monotonic() - self._started

    @property
    def tokens_per_s(self) -> float | None:
        """Training speed of this call without evaluation; None before the first step."""
        steps = self._state.step - self._first_step
        seconds = time.monotonic() - self._started - self._paused_s
        return steps * self._config.identity.batch_tokens / seconds if steps else None

    def _read_sums(self) -> Tensor:
        return torch.stack([self._state.loss_sum_C, self._state.loss_tokens_C]).cpu()
