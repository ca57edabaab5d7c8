"""The devices and cores of this machine, as places where a worker can train."""

from __future__ import annotations

import os
from dataclasses import dataclass

GPU_LANES = 3
"""Runs side by side on one GPU. With nine an H100 trains 2 % more tokens of small models, and the
first of them is done three times later (``experiments/benchmarks/train.py``)."""

SHARED_PARAMS = 300e6
"""Parameters that runs side by side may have together; a larger model trains alone, since it fills
the device by itself and may need all of its memory."""


@dataclass(frozen=True)
class Slot:
    """What one worker runs on.

    Attributes:
        device: The device.
        threads: Threads that it may use on the CPU.
        lanes: Runs that it may train side by side, if they are small.
    """

    device: str = "cpu"
    threads: int = 1
    lanes: int = 1

    def lanes_for(self, n_params: float) -> int:
        """Runs of models of that size that it may train side by side."""
        return max(1, min(self.lanes, int(SHARED_PARAMS // n_params)))


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_slots(workers: int | None = None) -> list[Slot]:
    """A slot per GPU where there are GPUs, else one single-threaded slot per core.

    Two single-threaded workers train some 30 % more tokens of small models than one process of
    two threads does.
    """
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return [Slot(f"cuda:{i % count}", lanes=GPU_LANES) for i in range(workers or count)]
    cores = count_cores()
    count = workers or cores
    # torch's own number of threads heeds OMP_NUM_THREADS: several grids can share a machine.
    threads = max(1, min(torch.get_num_threads(), cores // count))
    return [Slot("cpu", threads) for _ in range(count)]
