"""What the screen for near-duplicates found, as it is recorded with the prepared text."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from dcpt.flags import Flag

DEFAULT_THRESHOLD = 0.4
"""Jaccard similarity from which documents are near-copies, unless the study sets another. Pairs at
0.5 are far enough above it, and pairs at 0.3 far enough below, that neither depends on how words
are told apart."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Example(_Record):
    """A pair of near-copies.

    Attributes:
        document: Place of the document that was counted: its file and line.
        near_copy: Place of its near-copy in training text.
        similarity: Jaccard similarity of the two.
    """

    document: str
    near_copy: str
    similarity: float


class NearCopies(_Record):
    """Documents of one split of a channel with near-copies in the training text of a channel.

    Attributes:
        channel: The channel whose documents are counted.
        split: Its split.
        trained: The channel whose training text holds the near-copies. Where it is ``channel``
            and the split is training, the near-copies are earlier documents.
        documents: Documents with a near-copy there.
        of: Documents that were compared.
        repeated: Documents of a channel's training text that repeat earlier ones word for word;
            None for other pairs.
        tokens: Tokens of the documents with a near-copy.
        examples: The first few.
    """

    channel: str
    split: Literal["train", "valid"]
    trained: str
    documents: int
    of: int
    repeated: int | None = None
    tokens: int
    examples: tuple[Example, ...] = ()


class CleanText(_Record):
    """The validation text of a channel without the documents that have near-copies in training.

    Attributes:
        left_out: Documents that were left out.
        documents: Documents that are left.
        tokens: Their tokens.
        text_bytes: UTF-8 bytes of their text.
        sha256: Hash of the shard that holds them.
    """

    left_out: int
    documents: int
    tokens: int
    text_bytes: int
    sha256: str


class NearDuplicates(_Record):
    """What the screen found.

    Attributes:
        threshold: Jaccard similarity from which documents were near-copies; None if the screen was
            switched off.
        found: One for each pair of channels and each split with near-copies.
        clean: The clean validation text of each channel that had near-copies in training text.
        unique_tokens: Tokens of each channel's training documents that are no near-copies of
            earlier ones.
    """

    threshold: float | None
    found: tuple[NearCopies, ...] = ()
    clean: dict[str, CleanText] = {}
    unique_tokens: dict[str, int] = {}

    def flags(self) -> list[Flag]:
        """What a person should know, one for each pair of channels and split."""
        return [
            Flag(
                "near_copies",
                _describe(near_copies, self),
                {"channel": near_copies.channel},
                {"documents": near_copies.documents, "of": near_copies.of},
            )
            for near_copies in self.found
        ]


def _describe(near_copies: NearCopies, screened: NearDuplicates) -> str:
    name, trained = near_copies.channel, near_copies.trained
    share = format_share(near_copies.documents, near_copies.of)
    where = "its training text" if trained == name else f"the training text of channel {trained}"
    if near_copies.split == "valid":
        words = (
            f"channel {name}: {share} validation documents have a near-copy in {where} and are "
            "left out of its losses"
        )
    elif trained == name:
        words = (
            f"channel {name}: {share} training documents repeat earlier ones or nearly so "
            f"({near_copies.repeated:,} word for word); its unique text is "
            f"{screened.unique_tokens[name]:,} tokens, and epochs count these"
        )
    else:
        words = f"channel {name}: {share} training documents have a near-copy in {where}"
    if near_copies.examples:
        first = near_copies.examples[0]
        words += (
            f" (such as {first.document} and {first.near_copy}, Jaccard {first.similarity:.2f})"
        )
    return words


def format_share(part: int, whole: int) -> str:
    """A count and its share, such as ``3 of 200 (1.5 %)``; a small share is not shown as zero."""
    percent = 100 * part / whole
    digits = 0 if percent >= 10 else min(4, 1 - math.floor(math.log10(percent))) if part else 0
    return f"{part:,} of {whole:,} ({percent:.{digits}f} %)"
