"""Compile functions on CUDA, once for every shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

MOST_SHAPES = 64
"""Shapes that a function is compiled for. Beyond torch's default limit of 8 it would run
uncompiled, and a grid of four sizes that trains and evaluates has eight shapes."""


P = ParamSpec("P")
R = TypeVar("R")


def is_compiled_on(device: str) -> bool:
    """Whether the functions of a run on this device are compiled."""
    return torch.device(device).type == "cuda"


def compiled_on_cuda(function: Callable[P, R], like: Tensor) -> Callable[P, R]:
    """Compile a function if its tensors are on CUDA; on the CPU it is not compiled.

    On two CPU cores ``torch.compile`` takes longer than a small run
    (``experiments/benchmarks/train.py``).
    """
    compiled: Callable[P, R] = _compile(function) if like.is_cuda else function
    return compiled


@cache
def _compile(function: Any) -> Any:
    torch._dynamo.config.recompile_limit = MOST_SHAPES
    return torch.compile(function, dynamic=False)
