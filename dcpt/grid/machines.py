"""Machines that need not be there: their GPUs, and how fast these train models of any size."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dcpt.errors import InputError, did_you_mean
from dcpt.grid.speeds import SPEEDS, interpolate_speed


@dataclass(frozen=True)
class Gpu:
    """A type of GPU.

    Attributes:
        n_bytes: Memory that programs see.
        flops: Dense bfloat16 FLOP/s, from the vendor's data sheet.
    """

    n_bytes: int
    flops: float


GPUS = {
    "a100": Gpu(79 * 2**30, 312e12),
    "h100": Gpu(79 * 2**30, 989e12),
    "h200": Gpu(139 * 2**30, 989e12),
}
"""The 80 GB versions of A100 and H100, and the 141 GB of H200 (SXM)."""


@dataclass(frozen=True)
class Machine:
    """GPUs of one type.

    Attributes:
        name: The type, a key of ``GPUS``.
        n_gpus: Their number.
    """

    name: str
    n_gpus: int

    def __str__(self) -> str:
        return f"{self.n_gpus} {self.name.upper()}" + ("s" if self.n_gpus > 1 else "")

    @property
    def gpu(self) -> Gpu:
        """Its type of GPU."""
        return GPUS[self.name]

    def tokens_per_s(self, n_params: float) -> float:
        """Training speed of a GPU.

        Sizes that were measured on another GPU only are as fast in proportion to the FLOP/s.
        """
        speeds = {
            n: speed * self.gpu.flops / GPUS[other].flops
            for other, measured in SPEEDS.items()
            for n, speed in measured.items()
        }
        return interpolate_speed(speeds | SPEEDS.get(self.name, {}), n_params)

    def is_measured(self, n_params: float) -> bool:
        """Whether a size lies between those that were measured on this type of GPU."""
        measured = SPEEDS.get(self.name)
        # Labels such as 91M are rounded, so a size is taken for measured up to 10 % beyond.
        return measured is not None and min(measured) / 1.1 <= n_params <= 1.1 * max(measured)

    def utilization(self, n_params: float) -> float:
        """Model FLOPs utilization, 6 N per token over the FLOP/s of the GPU."""
        return 6 * n_params * self.tokens_per_s(n_params) / self.gpu.flops


def parse_machine(text: str) -> Machine:
    """Read ``h100:8``; without a number it is one GPU.

    Raises:
        InputError: If the GPU is unknown, or the number is not a whole number from 1.
    """
    name, _, count = text.strip().lower().partition(":")
    if name not in GPUS:
        raise InputError(
            f"--on {text}: {name!r} is no known GPU ({', '.join(GPUS)}); write one such as h100:8"
            + did_you_mean(name, list(GPUS))
        )
    if ":" in text and (not re.fullmatch(r"[0-9]{1,6}", count) or int(count) == 0):
        raise InputError(
            f"--on {text}: {count!r} is no number of GPUs; write a whole number from 1, such as "
            f"{name}:8"
        )
    return Machine(name, int(count or 1))
