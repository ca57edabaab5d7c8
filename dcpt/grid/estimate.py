"""Estimated cost of a grid before training: layout, tokens, FLOPs, disk and time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dcpt.grid.planned import PlannedRun, unfinished
from dcpt.study.folder import StudyFolder

_STATE_FACTOR = 3  # weights and two moments, fp32
_BYTES = 4

Source = Literal["timed", "measured", "extrapolated"]
"""Whether a speed was timed on this machine, lies between measured sizes, or beyond them."""


@dataclass(frozen=True)
class Layout:
    """How the runs of a size use their devices.

    Attributes:
        n_gpus: GPUs of a run; 0 on the CPU.
        micro_batch_sequences: Sequences that each GPU passes at a time.
        activation_checkpointing: Whether layers are computed again in the backward pass.
        memory_bytes: Estimated memory on each GPU; None on the CPU.
    """

    n_gpus: int
    micro_batch_sequences: int
    activation_checkpointing: bool
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Price:
    """What runs of a size cost.

    Attributes:
        n_params: All parameters of the model.
        tokens_per_s: Training speed of a device; of all runs that share it.
        evaluated_per_s: Tokens that a device evaluates per second.
        ready_s: Seconds before the first step, once for all runs of the size.
        layout: How a run uses its devices.
        source: Where the speed comes from.
    """

    n_params: int
    tokens_per_s: float
    evaluated_per_s: float
    ready_s: float
    layout: Layout
    source: Source


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of a planned run.

    Args:
        name: Name of the run.
        n_params: All parameters of the model.
        n_tokens: Tokens that it trains.
        flops: 6 N per trained token and 2 N per evaluated token, where N counts all parameters
            (Kaplan et al. 2001.08361).
        disk_bytes: Bytes of kept states and the saved model.
        seconds: Training and evaluation, times the run's share of a device.
        done: Whether the run is finished.
        n_gpus: GPUs of the run; 0 on the CPU.
        micro_batch_sequences: Sequences that each GPU passes at a time; None if unknown.
        activation_checkpointing: Whether layers are computed again in the backward pass.
        memory_bytes: Estimated memory on each GPU; None on the CPU.
        source: Where the speed comes from.
    """

    name: str
    n_params: int
    n_tokens: int
    flops: float
    disk_bytes: int
    seconds: float
    done: bool
    n_gpus: int = 0
    micro_batch_sequences: int | None = None
    activation_checkpointing: bool = False
    memory_bytes: int | None = None
    source: Source = "timed"

    @property
    def device_seconds(self) -> float:
        """Seconds of all devices of the run together."""
        return self.seconds * max(1, self.n_gpus)


class Prices(ABC):
    """Gives the price of the runs of each size on some devices."""

    n_devices: int
    """Devices that train at the same time."""

    def check(self, run: PlannedRun) -> None:  # noqa: B027 (most devices tell with the price)
        """Refuse a size that cannot be priced, before any other is timed.

        Raises:
            InputError: If the devices cannot hold it.
        """

    @abstractmethod
    def price(self, run: PlannedRun) -> Price:
        """The price of runs of the size of ``run``, which is the first of them in the plan.

        Raises:
            InputError: If no layout of the devices has enough memory.
        """

    @property
    @abstractmethod
    def where(self) -> str:
        """The devices, as the end of a sentence: ``with 8 H100s``."""


def estimate_runs(
    planned: Sequence[PlannedRun], folder: StudyFolder, prices: Prices
) -> list[Estimate]:
    """Estimate every planned run by the price of its size.

    Args:
        planned: The plan.
        folder: The study; its texts must be prepared.
        prices: The devices.

    Raises:
        InputError: If a size fits on no layout of the devices.
    """
    left = {run.config.identity.hash for run in unfinished(planned, folder)}
    # The first run of a size is its base, if the study trains it: it has the shape.
    first = {run.config.recorded.size: run for run in reversed(planned)}
    ascending = sorted(first.items(), key=lambda item: item[1].about_n_params)
    for _, run in reversed(ascending):
        prices.check(run)
    by_size = {size: prices.price(run) for size, run in ascending}
    return [
        _estimate(
            run,
            by_size[run.config.recorded.size],
            is_first=first[run.config.recorded.size] is run,
            is_done=run.config.identity.hash not in left,
        )
        for run in planned
    ]


def _estimate(run: PlannedRun, price: Price, *, is_first: bool, is_done: bool) -> Estimate:
    identity, recorded, layout = run.config.identity, run.config.recorded, price.layout
    trained = run.trained_tokens
    n_points = len(recorded.evaluation_at) + (identity.kind == "trunk")
    evaluated = n_points * identity.validation_tokens * len(identity.channels)
    states = len(recorded.keep_state_at) * _STATE_FACTOR + recorded.save_model
    device_s = trained / price.tokens_per_s + evaluated / price.evaluated_per_s
    return Estimate(
        name=run.config.name,
        n_params=price.n_params,
        n_tokens=trained,
        flops=price.n_params * (6.0 * trained + 2.0 * evaluated),
        disk_bytes=states * price.n_params * _BYTES,
        seconds=device_s / max(1, layout.n_gpus) + is_first * price.ready_s,
        done=is_done,
        n_gpus=layout.n_gpus,
        micro_batch_sequences=layout.micro_batch_sequences,
        activation_checkpointing=layout.activation_checkpointing,
        memory_bytes=layout.memory_bytes,
        source=price.source,
    )


def wall_seconds(
    planned: Sequence[PlannedRun], estimates: Sequence[Estimate], n_devices: int
) -> float:
    """Time of the whole grid, if no device waits: for work, or for the longest chain of runs.

    Args:
        planned: The plan; a run comes after those it needs.
        estimates: The cost of each of its runs.
        n_devices: Devices that train at the same time.
    """
    ends: dict[str, float] = {}
    work = 0.0
    for run, estimate in zip(planned, estimates, strict=True):
        seconds = 0.0 if estimate.done else estimate.seconds
        ends[run.identity_hash] = seconds + max((ends[need] for need in run.needs), default=0.0)
        work += 0.0 if estimate.done else estimate.device_seconds
    return max([work / n_devices, *ends.values()])
