"""Which documents have near-copies: buckets of equal bands, then the similarity of each pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpt.text.near_duplicates.shingles import SIGNATURE_BYTES, Signatures

Numbers = NDArray[np.int64]
Similarities = NDArray[np.float64]
Measure = Callable[[Numbers, Numbers], Similarities]
"""Measures the Jaccard similarity of pairs: numbers of documents, two arrays of shape (pairs,)."""

BANDS = SIGNATURE_BYTES // 4
"""A band is four bytes. Two documents are compared where they agree in a whole band, which has a
probability of 1 - (1 - J^4)^64: 0.98 at a Jaccard similarity J of 0.5, 0.9998 at 0.6, 0.001 at
0.06."""

MARGIN = 0.15
"""Similarities whose estimate is nearer to the threshold are measured: five standard errors."""

ROWS = 100_000
"""Pairs whose signatures are compared at once: 50 MB."""

NONE = -1


@dataclass(frozen=True)
class Matches:
    """The first near-copy of each document in the training text of each channel.

    Attributes:
        near: Number of a near-copy, shape (documents, channels); ``NONE`` where there is none.
        similarity: Jaccard similarity to it, measured or estimated, same shape.
    """

    near: Numbers
    similarity: Similarities


def match(
    signatures: Signatures,
    trained: NDArray[np.int8],
    n_channels: int,
    threshold: float,
    measure: Measure,
    progress: Callable[[int], None],
) -> Matches:
    """Find a near-copy of each document in the training text of each channel.

    A document is compared with documents before it. A pair whose estimate from the signatures is
    clear is decided by it; the similarity of the others is measured.

    Args:
        signatures: Of all documents, those in training before those in validation, shape
            (documents, SIGNATURE_BYTES).
        trained: Number of the channel that trains on each document, ``NONE`` in validation.
        n_channels: Number of channels.
        threshold: Jaccard similarity from which two documents are near-copies.
        measure: Measures the similarity of pairs.
        progress: Called with the number of bands that are done.
    """
    shape = (len(signatures), n_channels)
    matches = Matches(np.full(shape, NONE, np.int64), np.zeros(shape))
    rejected = np.empty(0, np.int64)  # a pair may agree in several bands
    for band in range(BANDS):
        keys = np.ascontiguousarray(signatures[:, 4 * band : 4 * band + 4]).view(np.uint32)[:, 0]
        for channel, later, earlier in pair_up(keys, trained, n_channels):
            codes = later * len(signatures) + earlier
            new = (matches.near[later, channel] == NONE) & ~np.isin(codes, rejected)
            later, earlier, codes = later[new], earlier[new], codes[new]
            similarity = estimate(signatures, later, earlier)
            unclear = np.abs(similarity - threshold) < MARGIN
            similarity[unclear] = measure(later[unclear], earlier[unclear])
            found = similarity >= threshold
            matches.near[later[found], channel] = earlier[found]
            matches.similarity[later[found], channel] = similarity[found]
            rejected = np.concatenate([rejected, codes[~found]])
        progress(band + 1)
    return matches


def pair_up(
    keys: NDArray[np.uint32], trained: NDArray[np.int8], n_channels: int
) -> Iterator[tuple[int, Numbers, Numbers]]:
    """Pair each document with the last training document before it that has the same key.

    Yields:
        For each channel its number, the numbers of documents, and the number of the channel's
        training document that each is paired with.
    """
    order = np.argsort(keys, kind="stable")
    equal = keys[order[1:]] == keys[order[:-1]]
    shared = np.append(False, equal) | np.append(equal, False)
    begins = np.append(True, ~equal)[shared]
    order = order[shared]
    place = np.arange(len(order))
    first = np.maximum.accumulate(np.where(begins, place, 0))  # of each place's bucket
    for channel in range(n_channels):
        last = np.maximum.accumulate(np.where(trained[order] == channel, place, NONE))
        before = np.append(NONE, last)[:-1]
        found = before >= first
        yield channel, order[found], order[before[found]]


def estimate(signatures: Signatures, first: Numbers, second: Numbers) -> Similarities:
    """Estimate the Jaccard similarity of pairs from the bytes that agree; 1 in 256 does anyway."""
    agree = [
        (signatures[first[at : at + ROWS]] == signatures[second[at : at + ROWS]]).mean(axis=1)
        for at in range(0, len(first), ROWS)
    ]
    share = np.concatenate([np.empty(0), *agree])
    return (share - 1 / 256) / (1 - 1 / 256)
