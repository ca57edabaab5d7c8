"""The devices and cores of this machine, as places where a worker can train."""

from __future__ import annotations

import os
from dataclasses import dataclass

GPU_LANES = 3
"""Runs side by side on a GPU. With nine, an H100 trains 2 % more tokens of small models, but the
first run takes three times as long (``experiments/benchmarks/train.py``)."""

SHARED_PARAMS = 300e6
"""Largest sum of parameters of runs side by side. A larger model trains alone, since it fills the
device and may need all of its memory."""


@dataclass(frozen=True)
class Slot:
    """Resources of a worker.

    Attributes:
        devices: The devices; a run over several of them is sharded.
        threads: Threads to use on the CPU.
        lanes: Number of small runs to train side by side.
    """

    devices: tuple[str, ...] = ("cpu",)
    threads: int = 1
    lanes: int = 1

    @property
    def device(self) -> str:
        """The first device, on which runs of a single device train."""
        return self.devices[0]

    @property
    def is_accelerator(self) -> bool:
        """Whether the devices are not the CPU."""
        return self.device != "cpu"

    def lanes_for(self, n_params: float) -> int:
        """Number of runs of models of this size to train side by side."""
        return max(1, min(self.lanes, int(SHARED_PARAMS // n_params)))


def count_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_slots(workers: int | None = None) -> list[Slot]:
    """Choose a slot per GPU, or without GPUs a single-threaded slot per core.

    Two single-threaded workers train about 30 % more tokens of small models than a process with two
    threads.
    """
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return [Slot((f"cuda:{i % count}",), lanes=GPU_LANES) for i in range(workers or count)]
    cores = count_cores()
    count = workers or cores
    # torch's number of threads respects OMP_NUM_THREADS, so several grids can share a machine.
    threads = max(1, min(torch.get_num_threads(), cores // count))
    return [Slot(threads=threads) for _ in range(count)]
