"""Where documents stand in the files that they were read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from dcpt.text.documents import beginnings, hash_document
from dcpt.text.manifest import Split
from dcpt.text.sources import Channel, read_all
from dcpt.text.tokenizer import Vocabulary


def find_places(
    channel: Channel, wanted: Collection[tuple[Split, int]], vocabulary: Vocabulary
) -> dict[tuple[Split, int], str]:
    """Find the file and line of documents of a channel; its text is read again up to the last.

    Args:
        channel: The channel.
        wanted: Split and number in it of each document.
        vocabulary: The tokenizer of the shards.

    Returns:
        The places; documents of a dataset of the hub, which would be fetched again, have their
        number.
    """
    places = {
        (split, number): f"{channel.asked.name}, {_NAMES[split]} document {number + 1}"
        for split, number in wanted
    }
    if all(source.kind != "hub" for source, _ in channel.parts):
        left = len(places)
        for key, place in _read_places(channel, vocabulary):
            if not left:
                break
            if key in places:
                places[key] = place
                left -= 1
    return places


_EMPTY = hash_document("")
"""White space only; such documents are in no shard."""

_NAMES = {"train": "training", "valid": "validation"}


def _read_places(
    channel: Channel, vocabulary: Vocabulary
) -> Iterator[tuple[tuple[Split, int], str]]:
    """Split, number and place of each document, in the order in which they were encoded."""
    numbers: Counter[Split] = Counter()
    for source, rule in channel.parts:
        documents = read_all(channel.asked, source, vocabulary)
        for document, document_hash in beginnings(documents, longest=0):
            if document_hash != _EMPTY:
                split = rule.side(document_hash)
                yield (split, numbers[split]), document.place
                numbers[split] += 1
