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
        device: The device.
        threads: Threads to use on the CPU.
        lanes: Number of small runs to train side by side.
    """

    device: str = "cpu"
    threads: int = 1
    lanes: int = 1

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
        return [Slot(f"cuda:{i % count}", lanes=GPU_LANES) for i in range(workers or count)]
    cores = count_cores()
    count = workers or cores
    # torch's number of threads respects OMP_NUM_THREADS, so several grids can share a machine.
    threads = max(1, min(torch.get_num_threads(), cores // count))
    return [Slot("cpu", threads) for _ in range(count)]
