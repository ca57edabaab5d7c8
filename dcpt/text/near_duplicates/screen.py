"""Screen prepared text for near-duplicates: within training text, and between all its parts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcpt.text.manifest import SPLITS
from dcpt.text.near_duplicates.candidates import (
    BANDS,
    NONE,
    Matches,
    Numbers,
    Similarities,
    match,
)
from dcpt.text.near_duplicates.documents import (
    BLOCK_TOKENS,
    Documents,
    Shard,
    cut_batches,
    find_documents,
)
from dcpt.text.near_duplicates.records import CleanText
from dcpt.text.near_duplicates.shingles import (
    SIGNATURE_BYTES,
    Signatures,
    distinct_shingles,
    measure_similarity,
    sign,
)
from dcpt.text.pool import map_in_order
from dcpt.text.tokenizer import Vocabulary

COMPARISON = 8
"""Signatures take about so many times as long as the comparison; for the progress."""


@dataclass(frozen=True)
class Screened:
    """Documents with their near-copies in training text.

    Attributes:
        channels: Names of the channels.
        documents: Those in training, channel by channel, then those in validation; parts of long
            documents count as documents.
        channel: Place in ``channels`` of each document's channel.
        is_valid: Whether each document is in validation.
        text_bytes: UTF-8 bytes of each document's text, as it is decoded from its tokens.
        matches: A near-copy of each document in the training text of each channel.
    """

    channels: tuple[str, ...]
    documents: Documents
    channel: NDArray[np.int8]
    is_valid: NDArray[np.bool_]
    text_bytes: Numbers
    matches: Matches

    def members(self, channel: str, is_valid: bool) -> Numbers:
        """Numbers of the documents of one split of a channel."""
        place = self.channels.index(channel)
        return np.flatnonzero((self.channel == place) & (self.is_valid == is_valid))

    def unique_tokens(self, channel: str) -> int:
        """Tokens of the training documents that are no near-copies of earlier ones."""
        members = self.members(channel, is_valid=False)
        is_first = self.matches.near[members, self.channels.index(channel)] == NONE
        return int(self.documents.tokens[members[is_first]].sum())


def screen(
    places: Mapping[str, Path],
    dtypes: Mapping[str, str],
    vocabulary: Vocabulary,
    threshold: float,
    pool: Executor | None,
    workers: int,
    progress: Callable[[int, int], None],
) -> Screened:
    """Find the near-copies of every document in the training text of every channel.

    Args:
        places: The folder of each channel with its shards.
        dtypes: Type of the ids in the shards of each channel.
        vocabulary: The tokenizer of the shards.
        threshold: Jaccard similarity from which two documents are near-copies.
        pool: Processes to use; None works in this one.
        workers: How many processes the pool has.
        progress: Called with the work that is done and all the work, in bytes of shards.
    """
    n = len(places)
    shards = tuple(
        Shard(place / f"{split}.bin", dtypes[name])
        for split in SPLITS
        for name, place in places.items()
    )
    documents = find_documents(shards, vocabulary.eos_id)
    channel = (documents.shard % n).astype(np.int8)
    is_valid = documents.shard >= n
    size = sum(shard.path.stat().st_size for shard in shards)
    total = size + size // COMPARISON
    signatures, text_bytes = _sign_all(
        documents, vocabulary, pool, workers, lambda share: progress(int(share * size), total)
    )
    matches = match(
        signatures,
        np.where(is_valid, NONE, channel).astype(np.int8),
        n,
        threshold,
        lambda first, second: _measure_all(documents, first, second, vocabulary, pool, workers),
        lambda bands: progress(size + (total - size) * bands // BANDS, total),
    )
    return Screened(tuple(places), documents, channel, is_valid, text_bytes, matches)


def _sign_all(
    documents: Documents,
    vocabulary: Vocabulary,
    pool: Executor | None,
    workers: int,
    progress: Callable[[float], None],
) -> tuple[Signatures, Numbers]:
    """The signature and the bytes of text of each document."""
    signatures = np.empty((len(documents), SIGNATURE_BYTES), np.uint8)
    text_bytes = np.empty(len(documents), np.int64)
    begin = 0
    batches = (documents.take(batch) for batch in cut_batches(documents.tokens))
    for signed, sizes in map_in_order(partial(_sign, vocabulary), batches, pool, workers):
        end = begin + len(signed)
        signatures[begin:end], text_bytes[begin:end] = signed, sizes
        progress(end / len(documents))
        begin = end
    return signatures, text_bytes


def _sign(vocabulary: Vocabulary, documents: Documents) -> tuple[Signatures, Numbers]:
    texts = documents.read(vocabulary)
    sizes = np.array([len(text.encode("utf-8", "replace")) for text in texts], dtype=np.int64)
    return sign(texts), sizes


def _measure_all(
    documents: Documents,
    first: Numbers,
    second: Numbers,
    vocabulary: Vocabulary,
    pool: Executor | None,
    workers: int,
) -> Similarities:
    """The Jaccard similarity of each pair of documents."""

    def batches() -> Iterator[tuple[Documents, Documents]]:
        for batch in cut_batches(documents.tokens[first] + documents.tokens[second]):
            yield documents.take(first[batch]), documents.take(second[batch])

    measured = map_in_order(partial(_measure, vocabulary), batches(), pool, workers)
    return np.concatenate([np.empty(0), *measured])


def _measure(vocabulary: Vocabulary, pairs: tuple[Documents, Documents]) -> Similarities:
    first, second = (distinct_shingles(documents.read(vocabulary)) for documents in pairs)
    return np.array([measure_similarity(a, b) for a, b in zip(first, second, strict=True)])


def write_clean(screened: Screened, channel: str, folder: Path, text_bytes: int) -> CleanText:
    """Write the validation documents of a channel that have no near-copy in training text.

    Args:
        screened: What was found.
        channel: The channel.
        folder: Where to write ``valid.bin``.
        text_bytes: Bytes of all its validation text. What tokens decode to may differ in length
            from what they were encoded from, so the share that is left is measured by the former.
    """
    members = screened.members(channel, is_valid=True)
    is_clean = (screened.matches.near[members] == NONE).all(axis=1)
    kept = screened.documents.take(members[is_clean])
    left_out = screened.documents.take(members[~is_clean])
    decoded = screened.text_bytes[members]
    shard = screened.documents.shards[kept.shard[0] if len(kept) else left_out.shard[0]]
    sha256 = _copy_documents(shard.open(), kept, folder / "valid.bin")
    return CleanText(
        left_out=len(np.unique(left_out.number)),
        documents=len(np.setdiff1d(kept.number, left_out.number)),
        tokens=int(kept.tokens.sum()),
        text_bytes=round(text_bytes * decoded[is_clean].sum() / max(decoded.sum(), 1)),
        sha256=sha256,
    )


def _copy_documents(ids: NDArray[np.unsignedinteger], documents: Documents, path: Path) -> str:
    """Write documents of a shard to a file; returns its hash."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start, end in zip(documents.start, documents.end, strict=True):
            for at in range(start, end, BLOCK_TOKENS):
                data = ids[at : min(at + BLOCK_TOKENS, end)].tobytes()
                file.write(data)
                digest.update(data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
