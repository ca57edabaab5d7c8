"""From texts to sets of shingles, their MinHash signatures and their Jaccard similarity."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

Words64 = NDArray[np.uint64]
Signatures = NDArray[np.uint8]

SHINGLE_WORDS = 5
"""Words in a shingle, as in datatrove and in Lee et al. (arXiv 2107.06499)."""

SIGNATURE_BYTES = 256
"""Hashes in a signature, of each of which the lowest byte is kept (b-bit MinHash, arXiv 0910.3349).
The estimate of a Jaccard similarity of 0.4 has a standard error of 0.03, and a document takes 256
bytes in memory."""

_SEED = 1
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")
"""A run of letters, digits and underscores. Thai, Lao, Burmese, Khmer, Japanese and Chinese are
written without spaces, so each of their characters counts as a word."""


def sign(texts: Sequence[str]) -> Signatures:
    """Compute the MinHash signature of each text, shape (texts, SIGNATURE_BYTES)."""
    if not texts:
        return np.empty((0, SIGNATURE_BYTES), np.uint8)
    shingles, starts = hash_shingles(texts)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles, starts.astype(np.uint64), SIGNATURE_BYTES, _SEED
    )
    return np.array(matrix.to_rows(), dtype=np.uint32).astype(np.uint8)  # keeps the lowest bytes


def measure_similarity(first: Words64, second: Words64) -> float:
    """The Jaccard similarity of two sets of shingles, each sorted and distinct."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


def distinct_shingles(texts: Sequence[str]) -> list[Words64]:
    """The set of shingles of each text, sorted."""
    shingles, starts = hash_shingles(texts)
    return [np.unique(part) for part in np.split(shingles, starts[1:-1])]


def hash_shingles(texts: Sequence[str]) -> tuple[Words64, NDArray[np.int64]]:
    """Hash the shingles of texts to 64 bits.

    Args:
        texts: At least one text. One of fewer words than a shingle has a single shingle; one
            without any word, such as a line of dashes, is taken as a word.

    Returns:
        The shingles of all texts, shape (shingles,), and where those of each text begin, shape
        (texts + 1,).
    """
    words: list[str] = []
    ends = []
    for text in texts:
        found = _WORD.findall(text.lower()) or [" ".join(text.split())]
        words += found
        words += [""] * (SHINGLE_WORDS - len(found))
        ends.append(len(words))
    (hashes,) = RMinHash.hash_token_sets([words])
    word = _mix(np.array(hashes, dtype=np.uint64))
    rest = SHINGLE_WORDS - 1
    shingles = word[: len(word) - rest]
    for place in range(1, SHINGLE_WORDS):
        shingles = _mix(shingles) + word[place : len(word) - rest + place]
    inside = np.ones(len(shingles), dtype=bool)
    borders = np.array(ends[:-1], dtype=np.int64)
    inside[(borders[:, None] - np.arange(1, rest + 1)).ravel()] = False  # would span two texts
    starts = np.concatenate([[0], np.array(ends) - rest * np.arange(1, len(ends) + 1)])
    return shingles[inside], starts


def _mix(x: Words64) -> Words64:
    """Mix the bits of each number (the finalizer of splitmix64; wraps around on purpose)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
