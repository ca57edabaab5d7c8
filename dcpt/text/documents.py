"""A document on its way from a file to a shard: whole, or in pieces if it is long."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LONG_CHARACTERS = 1_000_000
"""A document of more characters is handled in pieces. A tokenizer takes about 190 bytes of memory
for each byte of text that it encodes at once: 190 MB here, and 380 GB for a text of 2 GB."""


class Document(NamedTuple):
    """A document, or a piece of one.

    Attributes:
        text: The text; pieces are cut anywhere.
        position: Bytes of the source's files read so far, for a progress bar.
        place: Its file and the line, row, record or number in it.
        more: Whether the next piece belongs to the same document.
        ids: Token ids, if the source holds tokens; ``text`` is what they decode to.
    """

    text: str
    position: int
    place: str
    more: bool = False
    ids: NDArray[np.int64] | None = None


class DocumentHash:
    """The hash of a document that arrives in pieces: 64 bits, runs of white space as one space."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=8)
        self._gap = False
        self.empty = True

    def update(self, piece: str) -> None:
        """Add the next piece, which may start or end within a word."""
        words = piece.split()
        if not words:
            self._gap = self._gap or bool(piece)
            return
        if (self._gap or piece[0].isspace()) and not self.empty:
            self._hash.update(b" ")
        self._hash.update(" ".join(words).encode())
        self._gap, self.empty = piece[-1].isspace(), False

    def value(self) -> int:
        """The hash of all pieces."""
        return int.from_bytes(self._hash.digest(), "little")


def hash_document(text: str) -> int:
    """Hash a whole document."""
    whole = DocumentHash()
    whole.update(text)
    return whole.value()


def beginnings(documents: Iterable[Document], longest: int) -> Iterator[tuple[Document, int]]:
    """The beginning of each document, and the hash of all of it.

    Args:
        documents: Documents and pieces.
        longest: Characters of each document to keep; the piece that reaches it is kept whole.

    Yields:
        A document with the position of its last piece, and the document's hash.
    """
    kept: list[str] = []
    characters, whole = 0, DocumentHash()
    for document in documents:
        if characters < longest:
            kept.append(document.text)
            characters += len(document.text)
        whole.update(document.text)
        if not document.more:
            yield document._replace(text="".join(kept)), whole.value()
            kept, characters, whole = [], 0, DocumentHash()
