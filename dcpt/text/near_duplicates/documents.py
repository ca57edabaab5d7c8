"""The documents of prepared shards: where each begins and ends, and its text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcpt.text.tokenizer import Vocabulary, load_once

LONGEST_TOKENS = 2**18
"""A longer document is screened in parts of this length (about 1 MB of text), so that memory does
not grow with the length of a document."""

BATCH_TOKENS = 2**18
"""Tokens that are read at once: a few tenths of a second of work."""

BLOCK_TOKENS = 2**24

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Shard:
    """The token ids of one split of one channel.

    Attributes:
        path: Its file.
        dtype: Type of the ids.
    """

    path: Path
    dtype: str

    def open(self) -> NDArray[np.unsignedinteger]:
        """Map the ids, shape (tokens,), read only."""
        if not self.path.stat().st_size:  # an empty file cannot be mapped
            return np.empty(0, self.dtype)
        return np.memmap(self.path, dtype=self.dtype, mode="r")


@dataclass(frozen=True)
class Documents:
    """Documents, or parts of long ones, of some shards.

    Attributes:
        shards: The shards.
        shard: The place in ``shards`` of each document's shard, shape (documents,).
        start: Its first token there.
        end: The token behind its last.
        number: Its place among the documents of its shard, alike for all parts of a document.
    """

    shards: tuple[Shard, ...]
    shard: NDArray[np.int16]
    start: Numbers
    end: Numbers
    number: Numbers

    def __len__(self) -> int:
        return len(self.start)

    @property
    def tokens(self) -> Numbers:
        """Tokens of each document."""
        return self.end - self.start

    def take(self, which: Numbers | slice) -> Documents:
        """Some of the documents."""
        return Documents(
            self.shards,
            self.shard[which],
            self.start[which],
            self.end[which],
            self.number[which],
        )

    def read(self, vocabulary: Vocabulary) -> list[str]:
        """The text of each document, without special tokens."""
        ids = [shard.open() for shard in self.shards]
        parts = [
            ids[shard][start:end].tolist()
            for shard, start, end in zip(self.shard, self.start, self.end, strict=True)
        ]
        texts: list[str] = load_once(vocabulary).decode_batch(parts, skip_special_tokens=True)
        return texts


def find_documents(shards: tuple[Shard, ...], eos_id: int) -> Documents:
    """Find the documents of shards, in the order of the shards.

    Args:
        shards: The shards.
        eos_id: The token that ends each document.
    """
    found = [_find_in_shard(shard.open(), eos_id) for shard in shards]
    counts = [len(start) for start, _, _ in found]
    start, end, number = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Documents(
        shards, np.repeat(np.arange(len(shards), dtype=np.int16), counts), start, end, number
    )


def _find_in_shard(
    ids: NDArray[np.unsignedinteger], eos_id: int
) -> tuple[Numbers, Numbers, Numbers]:
    """First token, end and number of each document or part of one."""
    blocks = [
        np.flatnonzero(ids[at : at + BLOCK_TOKENS] == eos_id) + at + 1
        for at in range(0, len(ids), BLOCK_TOKENS)
    ]
    ends = np.concatenate([np.empty(0, np.int64), *blocks])
    if len(ids) and (not len(ends) or ends[-1] < len(ids)):
        ends = np.append(ends, len(ids))
    starts = np.append(0, ends)[:-1]
    parts = -(-(ends - starts) // LONGEST_TOKENS)
    number = np.repeat(np.arange(len(ends)), parts)
    first_part = np.cumsum(parts) - parts
    part = np.arange(len(number)) - np.repeat(first_part, parts)
    start = starts[number] + part * LONGEST_TOKENS
    return start, np.minimum(start + LONGEST_TOKENS, ends[number]), number


def cut_batches(tokens: Numbers) -> Iterator[slice]:
    """Cut a row of documents into batches of about ``BATCH_TOKENS``, of at least one document."""
    begin = 0
    ends = np.cumsum(tokens)
    while begin < len(tokens):
        before = ends[begin] - tokens[begin]
        stop = max(begin + 1, int(np.searchsorted(ends, before + BATCH_TOKENS, side="right")))
        yield slice(begin, stop)
        begin = stop
