"""When a function is compiled: on CUDA, once for every shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

MOST_SHAPES = 64
"""Shapes that one function is compiled for. Beyond torch's own limit of 8 it would run uncompiled,
and a grid of four sizes that trains and evaluates has eight."""


def compiled_on_cuda(function: Callable[..., Any], like: Tensor) -> Callable[..., Any]:
    """Compile a function if its tensors are on CUDA; on the CPU it runs as it is.

    On two cores ``torch.compile`` takes longer than a small run lasts
    (``experiments/benchmarks/train.py``).
    """
    return _compile(function) if like.is_cuda else function


@cache
def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    torch._dynamo.config.recompile_limit = MOST_SHAPES
    compiled: Callable[..., Any] = torch.compile(function, dynamic=False)
    return compiled
