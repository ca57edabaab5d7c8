"""Long documents: cut into parts that are encoded on their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dcpt.text.cuts import Cutter
from dcpt.text.documents import Document, DocumentHash

PART_CHARACTERS = 125_000
"""Length of a part: several make a batch, so that a tokenizer encodes them in parallel."""


@dataclass(frozen=True)
class Parts:
    """Consecutive parts of a long document, to encode at once.

    Attributes:
        parts: Their texts, or texts and ids.
        starts: Whether the document starts with the first of them.
        ends: The document's hash, if it ends with the last of them.
        left_out: Spaces between them that the tokenizer adds by itself.
    """

    parts: list[Document]
    starts: bool
    ends: DocumentHash | None
    left_out: int


class LongDocument:
    """A document that arrives in pieces and leaves in parts.

    Args:
        cutter: Finds the places where pieces can be cut.
        batch_characters: Text that is encoded at once.
    """

    def __init__(self, cutter: Cutter, batch_characters: int) -> None:
        self._cutter = cutter
        self._batch_characters = batch_characters
        self._rest = ""
        self._parts: list[Document] = []
        self._starts, self._left_out = True, 0
        self._hash = DocumentHash()

    def add(self, piece: Document) -> Iterator[Parts]:
        """Add the next piece; yields the parts that are complete, all of them after the last."""
        self._hash.update(piece.text)
        for part in [piece] if piece.ids is not None else self._cut(piece):
            self._parts.append(part)
            if sum(len(part.text) for part in self._parts) >= self._batch_characters:
                yield self._take(None)
        if not piece.more:
            self._parts.append(piece._replace(text=self._rest, ids=None))
            yield self._take(self._hash)

    def _take(self, ends: DocumentHash | None) -> Parts:
        taken = Parts(self._parts, self._starts, ends, self._left_out)
        self._parts, self._starts, self._left_out = [], False, 0
        return taken

    def _cut(self, piece: Document) -> Iterator[Document]:
        text, start = self._rest + piece.text, 0
        while len(text) - start > 2 * PART_CHARACTERS:
            end = start + PART_CHARACTERS
            cut = self._cutter.find(text, start + PART_CHARACTERS // 2, end)
            if cut is None:  # one further on does as well
                cut = self._cutter.find(text, end, len(text) - PART_CHARACTERS)
            if cut is None:
                break
            yield piece._replace(text=text[start : cut.place])
            self._left_out += cut.next - cut.place
            start = cut.next
        self._rest = text[start:]
        self._cutter.check(self._rest, piece.place)
