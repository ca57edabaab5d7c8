"""Runs that share a device: each takes a step in turn, on its own CUDA stream.

A small model does not fill an accelerator: the device waits between its short kernels. Three runs
side by side fill most of these gaps. Each run uses the same kernels as when it trains alone, and a
run that fails does not affect the others. (Stacking nine runs in a program of batched products
trains 11 to 18 % more tokens at 1.8M and 6.6M parameters, but loses both properties;
``experiments/benchmarks/train.py``.)
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch

from dcpt.leases import Lease, LeaseLostError
from dcpt.runs.cancelled import CancelWatch
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training.bases import shape_of
from dcpt.training.compiling import is_compiled_on
from dcpt.training.loop import own_stream, train_stepwise
from dcpt.training.memory import can_recompute
from dcpt.training.passes import fitted_to
from dcpt.training.sharded.launch import train_over
from dcpt.training.watch import TrainingError, kind_of, record_error
from dcpt.training.watchdog import WATCHDOG

State = Literal[
    "finished", "failed", "elsewhere", "crowded", "stopped", "released", "cancelled", "died"
]


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Args:
        run: Name of the run.
        state: ``finished``, ``failed``, ``elsewhere`` (another process owns it), ``crowded``
            (too little memory next to the other runs), ``stopped`` or ``released`` (saved, to be
            resumed later or by another worker), ``cancelled`` (saved, since its folder has a
            request to stop), or ``died`` (a process of a run over several devices was killed or
            made no progress).
        words: Why it failed, or why another process has it now.
    """

    run: str
    state: State
    words: str = ""


class _How(TypedDict):
    must_stop: Callable[[], bool]
    check_owner: Callable[[], None]
    note: str | None


@dataclass
class _Lane:
    config: RunConfig
    steps: Generator[int | None, None, Ended]
    stream: AbstractContextManager[Any]
    n_tokens: int | None = None


class Lanes:
    """The runs that a process trains side by side.

    Args:
        study: The study's folder.
        devices: The device that they train on, or several that each run is sharded over.
        lanes_for: The number of runs that are trained side by side, by their parameters.

    Attributes:
        study: The study's folder.
        stopping: Whether ``stop`` was called.
    """

    def __init__(
        self,
        study: Path,
        devices: Sequence[str],
        lanes_for: Callable[[float], int] = lambda _: 1,
    ) -> None:
        self.study, self._devices, self.stopping = study, devices, False
        self._lanes_for = lanes_for
        self._released: set[str] = set()
        self._compiled: set[str] = set()
        self._saving: set[str] = set()
        self._requests: dict[str, CancelWatch] = {}
        self._lanes: list[_Lane] = []
        self._free: list[AbstractContextManager[Any]] = []

    def __len__(self) -> int:
        return len(self._lanes)

    def add(self, config: RunConfig) -> None:
        """Add a run; it starts with the next ``advance``."""
        # Processes of their own train a run over several devices, so none is opened here.
        device = self._devices[0] if len(self._devices) == 1 else "cpu"
        stream = self._free.pop() if self._free else own_stream(device)
        self._lanes.append(_Lane(config, self._train(config), stream))

    def stop(self) -> None:
        """Let the next ``advance`` save and end every run."""
        self.stopping = True

    def release(self, run: str) -> None:
        """Let the next ``advance`` save and end a run, if it is in training, to move it."""
        self._released |= {run} & {lane.config.name for lane in self._lanes}

    def reached(self) -> dict[str, int]:
        """Tokens that each run has reached, by name; without the runs that took no step yet."""
        return {lane.config.name: n for lane in self._lanes if (n := lane.n_tokens) is not None}

    def note_compiled(self, config: RunConfig) -> None:
        """Note that the code of a run's size was compiled in this process."""
        self._compiled.add(config.recorded.size)

    def advance(self) -> list[Ended]:
        """Take a step of every run; returns the runs that ended, which are removed."""
        self._saving = self._choose_saving()
        ended = []
        for lane in list(self._lanes):
            end = self._advance(lane)
            if end is not None:
                self._lanes.remove(lane)
                self._released.discard(lane.config.name)
                self._free.append(lane.stream)
                ended.append(end)
        return ended

    def _choose_saving(self) -> set[str]:
        """The runs that save before their step, since a run after them compiles in its first step.

        A process that compiles takes no orders, for a minute with empty caches. If it is killed
        then, the other runs lose nothing but the step that they take now.
        """
        if not is_compiled_on(self._devices[0]):
            return set()
        begins = [lane.config for lane in self._lanes if lane.n_tokens is None]
        if {config.recorded.size for config in begins} <= self._compiled:
            return set()
        for config in begins:
            self.note_compiled(config)
        return set(self.reached())

    def _advance(self, lane: _Lane) -> Ended | None:
        try:
            with lane.stream:
                lane.n_tokens = next(lane.steps)
            WATCHDOG.note_step()
        except StopIteration as end:
            ended: Ended = end.value
            return ended
        return None

    def _asked_to_end(self, config: RunConfig) -> State | None:
        """Why a run is to be saved and ended now; None if it is to go on."""
        if self.stopping:
            return "stopped"
        if config.name in self._released:
            return "released"
        return "cancelled" if self._requests[config.name]() else None

    def _train(self, config: RunConfig) -> Generator[int | None, None, Ended]:
        """Train a run under its lease, unless another process trains it."""
        folder = RunFolder.of(config, self.study / "runs")
        try:
            with folder.lock() as lease:
                if lease is None:
                    return Ended(config.name, "elsewhere")
                return (yield from self._train_owned(config, folder, lease))
        except Exception as error:  # an error of the lease, such as a folder that cannot be created
            return _failed(config, folder, error)

    def _train_owned(
        self, config: RunConfig, folder: RunFolder, lease: Lease
    ) -> Generator[int | None, None, Ended]:
        """Train a run unless it is done; a failure is recorded while the run is ours."""
        self._requests[config.name] = CancelWatch(folder.path)
        try:
            if not folder.is_done(config):
                if (asked := self._asked_to_end(config)) is not None:  # before it began
                    return Ended(config.name, asked)
                folder.clear_error()
                yield from self._train_within_memory(config, lease)
                asked = self._asked_to_end(config)
                if asked is not None and not folder.is_done(config):
                    return Ended(config.name, asked)
        except Exception as error:  # an error of a run must not affect the others
            # The new owner deletes what this process was writing, so any error may come of it.
            if (lost := _lost(lease, error)) is not None:
                return Ended(config.name, "elsewhere", str(lost))
            if isinstance(error, torch.OutOfMemoryError) and len(self) > 1:
                return Ended(config.name, "crowded", str(error))
            if kind_of(error) == "killed":
                return Ended(config.name, "died", str(error))
            return _failed(config, folder, error)
        return Ended(config.name, "finished")

    def _steps(self, config: RunConfig, lease: Lease, note: str | None) -> Iterator[int | None]:
        """Train a run; yields the tokens that it has reached, None where they are not known."""
        how: _How = {
            "must_stop": lambda: self._asked_to_end(config) is not None,
            "check_owner": lease.check,
            "note": note,
        }
        if len(self._devices) > 1:
            yield from train_over(config, self.study, self._devices, **how)
        else:
            yield from train_stepwise(
                config,
                self.study,
                device=self._devices[0],
                must_save=lambda: config.name in self._saving,
                **how,
            )

    def _train_within_memory(self, config: RunConfig, lease: Lease) -> Iterator[int | None]:
        """Train a run; if it is alone and memory does not suffice, once in smaller passes.

        The second attempt resumes from the last saved state.

        Raises:
            TrainingError: If memory does not suffice for the smaller passes either.
        """
        device, n_gpus = self._devices[0], len(self._devices)
        note, config = None, fitted_to(device, config, self.study, n_gpus, self._lanes_for)
        for is_last in (False, True):
            try:
                yield from self._steps(config, lease, note)
                return
            except Exception as error:
                if kind_of(error) != "out_of_memory" or len(self) > 1:
                    raise
                smaller = _smaller(config, self.study)
                if is_last or smaller is None:
                    raise TrainingError(
                        _memory_words(config, self.study, error), "out_of_memory"
                    ) from error
            # Frees the failed attempt's tensors where its frames are in a cycle.
            gc.collect()
            setting = _setting(smaller)
            note = (
                f"out of memory with {_passes(config)}; goes on with {setting}: write it under "
                "training to start with it"
            )
            config = config.model_copy(
                update={"recorded": config.recorded.model_copy(update=smaller)}
            )


def _smaller(config: RunConfig, study: Path) -> dict[str, Any] | None:
    """The next settings that need less memory: half the micro-batch, then checkpointing."""
    if config.micro_batch_sequences > 1:
        return {"micro_batch_sequences": config.micro_batch_sequences // 2}
    if not config.recorded.activation_checkpointing and can_recompute(shape_of(config, study)):
        return {"activation_checkpointing": True}
    return None


def _setting(update: dict[str, Any]) -> str:
    """A setting as the study has it."""
    return ", ".join(f"{key}: {str(value).lower()}" for key, value in update.items())


def _passes(config: RunConfig) -> str:
    n = config.micro_batch_sequences
    return f"{n} {'sequence' if n == 1 else 'sequences'} at a time"


def _memory_words(config: RunConfig, study: Path, error: Exception) -> str:
    """Say which setting to try after memory did not suffice."""
    smaller = _smaller(config, study)
    remedy = (
        f"write {_setting(smaller)} under training"
        if smaller is not None
        else "shorten training.sequence_tokens, or choose a smaller base or a device with more "
        "memory"
    )
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return (
        f"run {config.name}: out of memory with {_passes(config)}, each of "
        f"{config.identity.sequence_tokens} tokens; {remedy} ({reason})"
    )


def _lost(lease: Lease, error: Exception) -> Exception | None:
    """The error that says that another process owns the run; None if this process does."""
    if kind_of(error) == "lease_lost":
        return error
    try:
        lease.check()
    except LeaseLostError as lost:
        return lost
    except OSError:  # the lease cannot be read, so nothing says that it is lost
        return None
    return None


def _failed(config: RunConfig, folder: RunFolder, error: Exception) -> Ended:
    """Record a failure in the run's folder."""
    return Ended(config.name, "failed", record_error(folder, error))
