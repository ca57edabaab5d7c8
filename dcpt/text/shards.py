"""Documents to token shards: encoded in batches."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from dcpt.atomic_files import naming
from dcpt.text.chats import find_guarded, has_guards, unguard
from dcpt.text.cuts import Cutter
from dcpt.text.documents import LONG_CHARACTERS, Document, DocumentHash, hash_document
from dcpt.text.long_documents import LongDocument, Parts
from dcpt.text.manifest import SPLITS, Split, SplitCounts
from dcpt.text.pool import map_in_order
from dcpt.text.tokenizer import Vocabulary, load_once, shard_dtype

BATCH_CHARACTERS = 500_000
"""Text handed to a process at once: a few tenths of a second of work."""


@dataclass(frozen=True)
class SplitRule:
    """Which side a document is on.

    Attributes:
        valid_fraction: Held out by hash; 0 keeps all in training, 1 puts all in validation.
    """

    valid_fraction: float

    def side(self, document_hash: int) -> Split:
        """Choose the side; equal documents are on the same one."""
        return "valid" if document_hash < self.valid_fraction * 2.0**64 else "train"


@dataclass(frozen=True)
class Encoded:
    """A batch's documents of one split: ids of all, and a hash and both lengths of each."""

    ids: NDArray[np.unsignedinteger]
    hashes: NDArray[np.uint64]
    tokens: NDArray[np.int64]
    text_bytes: NDArray[np.int64]


@dataclass(frozen=True)
class EncodedBatch:
    """What comes back for a batch of documents.

    Attributes:
        splits: Its documents by split.
        empty_documents: Documents of white space only.
        position: Bytes of the source's files read so far.
        spelled_out: How often the text spells out each special token.
    """

    splits: dict[Split, Encoded]
    empty_documents: int
    position: int
    spelled_out: dict[str, int]


@dataclass(frozen=True)
class EncodedParts:
    """What comes back for consecutive parts of a long document.

    Attributes:
        ids: Their ids.
        text_bytes: Their length in UTF-8.
        position: Bytes of the source's files read so far.
        spelled_out: How often they spell out each special token.
        ends: The document that ends with them, if it does.
    """

    ids: NDArray[np.unsignedinteger]
    text_bytes: int
    position: int
    spelled_out: dict[str, int]
    ends: DocumentHash | None


def encode_documents(
    documents: Iterable[Document],
    vocabulary: Vocabulary,
    rule: SplitRule,
    pool: Executor | None,
    workers: int,
) -> Iterator[EncodedBatch | EncodedParts]:
    """Encode documents in their order.

    Args:
        documents: What to encode; read no further ahead than the processes need.
        vocabulary: The tokenizer.
        rule: How to split.
        pool: Processes to use; None encodes in this one.
        workers: How many processes the pool has.

    Raises:
        InputError: If a process dies, or a long document cannot be cut.
    """
    encode = partial(_encode, vocabulary=vocabulary, rule=rule)
    yield from map_in_order(encode, _batches(documents, vocabulary), pool, workers)


def _batches(
    documents: Iterable[Document], vocabulary: Vocabulary
) -> Iterator[list[Document] | Parts]:
    batch: list[Document] = []
    characters = 0
    long: LongDocument | None = None
    for document in documents:
        if long is None and not document.more and len(document.text) <= LONG_CHARACTERS:
            batch.append(document)
            characters += len(document.text)
        if batch and (batch[-1] is not document or characters >= BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        if long is None and not document.more and len(document.text) <= LONG_CHARACTERS:
            continue
        long = long or LongDocument(_cutter(vocabulary), BATCH_CHARACTERS)
        yield from long.add(document)
        long = long if document.more else None
    if batch:
        yield batch


@lru_cache(maxsize=1)
def _cutter(vocabulary: Vocabulary) -> Cutter:
    return Cutter(load_once(vocabulary))


def _encode(
    batch: list[Document] | Parts, vocabulary: Vocabulary, rule: SplitRule
) -> EncodedBatch | EncodedParts:
    if isinstance(batch, Parts):
        return _encode_parts(batch, vocabulary)
    kept = [document for document in batch if document.text and not document.text.isspace()]
    sides: dict[Split, list[tuple[int, Document]]] = {split: [] for split in SPLITS}
    for document in kept:
        document_hash = hash_document(document.text)
        sides[rule.side(document_hash)].append((document_hash, document))
    splits = {}
    for split, hashed in sides.items():
        documents = [document for _, document in hashed]
        start = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
        ids = [[*start, *inner, vocabulary.eos_id] for inner in _ids(documents, vocabulary)]
        splits[split] = Encoded(
            ids=_join(ids, vocabulary),
            hashes=np.array([h for h, _ in hashed], dtype=np.uint64),
            tokens=np.array([len(i) for i in ids], dtype=np.int64),
            text_bytes=np.array([_text_bytes(d, vocabulary) for d in documents], dtype=np.int64),
        )
    spelled_out = _count_special_tokens(kept, vocabulary)
    return EncodedBatch(splits, len(batch) - len(kept), batch[-1].position, spelled_out)


def _encode_parts(parts: Parts, vocabulary: Vocabulary) -> EncodedParts:
    documents = [part for part in parts.parts if part.text or part.ids is not None]
    ids = _ids(documents, vocabulary)
    if parts.starts and vocabulary.bos_id is not None:
        ids.insert(0, [vocabulary.bos_id])
    if parts.ends is not None:
        ids.append([vocabulary.eos_id])
    return EncodedParts(
        ids=_join(ids, vocabulary),
        text_bytes=sum(_text_bytes(d, vocabulary) for d in documents) + parts.left_out,
        position=parts.parts[-1].position,
        spelled_out=_count_special_tokens(documents, vocabulary),
        ends=parts.ends,
    )


def _ids(documents: list[Document], vocabulary: Vocabulary) -> list[list[int]]:
    """The ids of each document or part."""
    texts = [document.text for document in documents if document.ids is None]
    encodings = iter(load_once(vocabulary).encode_batch_fast(texts, add_special_tokens=False))
    ids = []
    for document in documents:
        if document.ids is not None:
            ids.append(document.ids.tolist())
            continue
        encoded = next(encodings).ids
        guarded = vocabulary.reads_special_tokens and has_guards(document.text)
        ids.append(_guarded_ids(document.text, vocabulary) if guarded else encoded)
    return ids


def _guarded_ids(text: str, vocabulary: Vocabulary) -> list[int]:
    """The ids of a chat whose messages spell out special tokens, which are text there."""
    as_text = load_once(replace(vocabulary, reads_special_tokens=False))
    ids: list[int] = []
    start = 0
    for token in _pattern(vocabulary.special_tokens).finditer(text):
        part = unguard(text[start : token.start()], vocabulary.special_tokens)
        ids += as_text.encode(part, add_special_tokens=False).ids
        ids.append(as_text.get_vocab()[token.group()])
        start = token.end()
    rest = unguard(text[start:], vocabulary.special_tokens)
    return ids + list(as_text.encode(rest, add_special_tokens=False).ids)


def _text_bytes(document: Document, vocabulary: Vocabulary) -> int:
    text = document.text
    if vocabulary.reads_special_tokens:
        text = unguard(text, vocabulary.special_tokens)
    return len(text.encode())


def _join(ids: list[list[int]], vocabulary: Vocabulary) -> NDArray[np.unsignedinteger]:
    dtype = shard_dtype(vocabulary.size)
    return np.concatenate([np.array(i, dtype=dtype) for i in ids] or [np.empty(0, dtype)])


def _count_special_tokens(documents: list[Document], vocabulary: Vocabulary) -> dict[str, int]:
    """How often the texts spell out special tokens, which are encoded as characters."""
    tokens = vocabulary.special_tokens
    if not tokens:
        return {}
    texts = [document.text for document in documents if document.ids is None]
    if vocabulary.reads_special_tokens:  # those of the template are not spelled out
        return dict(Counter(token for text in texts for token in find_guarded(text, tokens)))
    starts, pattern = {token[0] for token in tokens}, _pattern(tokens)
    likely = (text for text in texts if any(start in text for start in starts))
    return dict(Counter(match for text in likely for match in pattern.findall(text)))


@lru_cache(maxsize=1)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)))


class ShardWriter:
    """Writes the ids of one split to a file and keeps count.

    Args:
        folder: Folder of the channel.
        split: Names the file.
        max_tokens: Takes no more documents once it holds this many tokens.
    """

    def __init__(self, folder: Path, split: Split, max_tokens: int | None) -> None:
        self._path = folder / f"{split}.bin"
        self._file: IO[bytes] = self._path.open("wb")
        self._sha256 = hashlib.sha256()
        self._hashes: list[NDArray[np.uint64]] = []
        self._lengths: list[NDArray[np.int64]] = []
        self._tokens = self._text_bytes = 0
        self._max_tokens = max_tokens

    def write(self, encoded: Encoded) -> None:
        """Add the documents of a batch, up to and with the one that reaches the cap."""
        n_documents, n_ids = len(encoded.hashes), len(encoded.ids)
        if self._max_tokens is not None:
            before = self._tokens + np.cumsum(encoded.tokens) - encoded.tokens
            n_documents = int((before < self._max_tokens).sum())
            n_ids = int(encoded.tokens[:n_documents].sum())
        data = encoded.ids[:n_ids].astype(encoded.ids.dtype.newbyteorder("<"), copy=False).tobytes()
        with naming(self._path):
            self._file.write(data)
        self._sha256.update(data)
        self._hashes.append(encoded.hashes[:n_documents])
        self._lengths.append(encoded.tokens[:n_documents])
        self._tokens += n_ids
        self._text_bytes += int(encoded.text_bytes[:n_documents].sum())

    def write_long(self, document_hash: int, file: IO[bytes], tokens: int, text_bytes: int) -> None:
        """Add a long document whose ids are in a file, unless the cap is reached."""
        if self.full:
            return
        while block := file.read(1 << 20):
            with naming(self._path):
                self._file.write(block)
            self._sha256.update(block)
        self._hashes.append(np.array([document_hash], dtype=np.uint64))
        self._lengths.append(np.array([tokens], dtype=np.int64))
        self._tokens += tokens
        self._text_bytes += text_bytes

    @property
    def full(self) -> bool:
        """Whether the cap is reached."""
        return self._max_tokens is not None and self._tokens >= self._max_tokens

    def finish(self) -> tuple[SplitCounts, NDArray[np.uint64]]:
        """Bring the file to disk; returns the counts and the distinct hashes of its documents."""
        with naming(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        hashes = np.concatenate(self._hashes or [np.empty(0, np.uint64)])
        distinct, first = np.unique(hashes, return_index=True)
        lengths = np.concatenate(self._lengths or [np.empty(0, np.int64)])
        counts = SplitCounts(
            documents=len(hashes),
            repeated_documents=len(hashes) - len(distinct),
            tokens=self._tokens,
            text_bytes=self._text_bytes,
            sha256=self._sha256.hexdigest(),
            unique_tokens=int(lengths[first].sum()),
        )
        return counts, distinct

    def close(self) -> None:
        """Close the file, however far it came."""
        with suppress(OSError):  # it flushes what is left, and fails again on a full disk
            self._file.close()
