"""Lengths of prepared documents in tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dcpt.text.manifest import Prepared
from dcpt.text.shard_files import open_shard

_BLOCK = 16_777_216
"""Tokens searched at a time: 64 MiB at most."""


@dataclass(frozen=True)
class MeasuredLengths:
    """Lengths of the training documents of a channel, the end of text included.

    Args:
        documents: Number of documents.
        mean: Mean tokens per document.
        deviation: Standard deviation of the tokens per document.
    """

    documents: int
    mean: float
    deviation: float


def measure_lengths(prepared: Prepared, channel: str) -> MeasuredLengths | None:
    """Measure the training documents of a channel in its shard.

    A last document that ``max_tokens`` cut off is left out.

    Returns:
        Their lengths; None if the shard holds no whole document.

    Raises:
        DamagedFileError: If the shard is not the one that was written.
        InputError: If the channel was not prepared.
    """
    shard = open_shard(prepared.folder, channel, "train")
    eos_id = prepared.channels[channel].eos_id
    documents, tokens, squares, start = 0, 0, 0, 0
    for first in range(0, len(shard), _BLOCK):
        ends = np.flatnonzero(shard[first : first + _BLOCK] == eos_id) + first + 1
        if not len(ends):
            continue
        lengths = np.diff(ends, prepend=start)
        documents += len(ends)
        tokens += int(lengths.sum())
        squares += int((lengths**2).sum())
        start = int(ends[-1])
    if not documents:
        return None
    mean = tokens / documents
    # Equal lengths give a variance of 0, which rounding may make negative.
    return MeasuredLengths(documents, mean, math.sqrt(max(squares / documents - mean**2, 0.0)))
