"""Runs that share a device: a step of each in turn, on a CUDA stream of its own.

One small model does not fill an accelerator: between its short kernels the device waits. Three
runs side by side fill most of these gaps. Each is computed by the very kernels that compute it
alone, and one that fails leaves the others alone. (Stacking nine runs in one program of batched
products trains 11 to 18 % more tokens at 1.8M and 6.6M parameters, and costs both of this;
``experiments/benchmarks/train.py``.)
"""

from __future__ import annotations

import traceback
from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from dcpt.errors import InputError
from dcpt.runs.folders import ErrorKind, RunFolder, write_error
from dcpt.runs.identity import RunConfig
from dcpt.training.loop import own_stream, train_stepwise
from dcpt.training.watch import TrainingError

State = Literal["finished", "failed", "elsewhere", "crowded", "stopped"]


@dataclass(frozen=True)
class Ended:
    """How a run ended; words say why it failed.

    ``elsewhere`` is under another process's lock; ``crowded`` found too little memory with the
    others there, and may find enough alone; ``stopped`` was saved and waits to be resumed.
    """

    run: str
    state: State
    words: str = ""


@dataclass(frozen=True)
class _Lane:
    config: RunConfig
    steps: Generator[None, None, Ended]
    stream: AbstractContextManager[Any]


class Lanes:
    """The runs that one process trains at a time.

    Args:
        study: The study's folder.
        device: Where they train.

    Attributes:
        stopping: Whether ``stop`` was called.
    """

    def __init__(self, study: Path, device: str) -> None:
        self._study, self._device, self.stopping = study, device, False
        self._lanes: list[_Lane] = []
        self._free: list[AbstractContextManager[Any]] = []

    def __len__(self) -> int:
        return len(self._lanes)

    def add(self, config: RunConfig) -> None:
        """Take up a run; nothing of it is done yet."""
        stream = self._free.pop() if self._free else own_stream(self._device)
        self._lanes.append(_Lane(config, self._train(config), stream))

    def stop(self) -> None:
        """Let the next ``advance`` save every run where it is, and end it."""
        self.stopping = True

    def advance(self) -> list[Ended]:
        """Take one step of every run; returns those that ended, which are taken off."""
        ended = []
        for lane in list(self._lanes):
            end = self._advance(lane)
            if end is not None:
                self._lanes.remove(lane)
                self._free.append(lane.stream)
                ended.append(end)
        return ended

    def _advance(self, lane: _Lane) -> Ended | None:
        try:
            with lane.stream:
                next(lane.steps)
        except StopIteration as end:
            ended: Ended = end.value
            return ended
        return None

    def _train(self, config: RunConfig) -> Generator[None, None, Ended]:
        """Train a run under its lock, unless another process trains it."""
        folder = RunFolder.of(config, self._study / "runs")
        try:
            with folder.lock() as mine:
                if not mine:
                    return Ended(config.name, "elsewhere")
                return (yield from self._train_locked(config, folder))
        except Exception as error:  # of the lock itself: a folder that cannot be made
            return _failed(config, folder, error)

    def _train_locked(self, config: RunConfig, folder: RunFolder) -> Generator[None, None, Ended]:
        """Train a run unless it is done; a failure is written down while the lock is held."""
        try:
            if not folder.is_done(config):
                if self.stopping:  # before anything of it began
                    return Ended(config.name, "stopped")
                folder.clear_error()
                yield from train_stepwise(
                    config, self._study, device=self._device, must_stop=lambda: self.stopping
                )
                if self.stopping and not folder.is_done(config):
                    return Ended(config.name, "stopped")
        except Exception as error:  # whatever went wrong belongs to this run alone
            if isinstance(error, torch.OutOfMemoryError) and len(self) > 1:
                return Ended(config.name, "crowded", str(error))
            return _failed(config, folder, error)
        return Ended(config.name, "finished")


def _failed(config: RunConfig, folder: RunFolder, error: Exception) -> Ended:
    """Write a failure into the run's folder."""
    words = f"{type(error).__name__}: {error}"
    words = write_error(folder, words, traceback.format_exc(), kind_of(error))
    return Ended(config.name, "failed", words)


def kind_of(error: Exception) -> ErrorKind:
    """The kind of an error of training."""
    if isinstance(error, TrainingError):
        return error.kind
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
