"""The memory of a process that trains on the CPU."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of ``mallopt``, from glibc's ``malloc.h``."""

LARGEST_KEPT = 2**28
"""Bytes of the largest block that is kept: the logits of an evaluation at a vocabulary of 4096."""

MOST_KEPT = 2**31 - 1
"""Bytes that are kept at the end of the heap: the largest number that ``mallopt`` takes."""


def keep_freed_memory() -> bool:
    """Let glibc keep the memory of freed tensors for later ones.

    By default it returns large blocks to the system, which clears each page before it gives it out
    again. That takes 40 % of the evaluation of a 0.5M model (2.1 s without, 1.3 s with it, for
    49,000 tokens on one core).

    Returns:
        Whether the C library is glibc, the only one that is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    changed = (
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT),
        libc.mallopt(M_TRIM_THRESHOLD, MOST_KEPT),
    )
    return all(changed)
