"""From the near-copies of each document to what is recorded: clean text, counts and examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcpt.own_folders import mark_folder
from dcpt.text.manifest import SPLITS, Manifest, Split
from dcpt.text.near_duplicates.candidates import NONE, Numbers
from dcpt.text.near_duplicates.places import find_places
from dcpt.text.near_duplicates.records import CleanText, Example, NearCopies, NearDuplicates
from dcpt.text.near_duplicates.screen import Screened, write_clean
from dcpt.text.sources import Channel
from dcpt.text.tokenizer import Vocabulary

EXAMPLES = 3
"""Pairs that are named for each pair of channels and split."""

Key = tuple[Split, int]


@dataclass(frozen=True)
class _Group:
    """Documents of one split of a channel with near-copies in the training text of a channel.

    Attributes:
        members: All documents of the split.
        hits: Those of them with a near-copy.
    """

    channel: str
    split: Split
    trained: str
    members: Numbers
    hits: Numbers


def summarize(
    screened: Screened,
    threshold: float,
    channels: Sequence[Channel],
    manifests: Mapping[str, Manifest],
    folder: Path,
    vocabulary: Vocabulary,
) -> NearDuplicates:
    """Write the clean validation text, count the near-copies, and find examples in the files.

    Args:
        screened: What was found.
        threshold: Jaccard similarity from which two documents were near-copies.
        channels: The channels with their files.
        manifests: What was prepared, by channel.
        folder: Where to write the clean text: a folder for each channel that needs one.
        vocabulary: The tokenizer of the shards.
    """
    groups = _group(screened)
    clean: dict[str, CleanText] = {}
    for name in dict.fromkeys(group.channel for group in groups if group.split == "valid"):
        (folder / name).mkdir()
        mark_folder(folder / name)
        clean[name] = write_clean(screened, name, folder / name, manifests[name].valid.text_bytes)
    places = _find_example_places(screened, groups, channels, vocabulary)
    return NearDuplicates(
        threshold=threshold,
        found=tuple(_count(screened, group, manifests[group.channel], places) for group in groups),
        clean=clean,
        unique_tokens={name: screened.unique_tokens(name) for name in screened.channels},
    )


def _group(screened: Screened) -> list[_Group]:
    groups = []
    for name in screened.channels:
        for split in SPLITS:
            members = screened.members(name, is_valid=split == "valid")
            for place, trained in enumerate(screened.channels):
                hits = members[screened.matches.near[members, place] != NONE]
                if len(hits):
                    groups.append(_Group(name, split, trained, members, hits))
    return groups


def _key(screened: Screened, document: int) -> tuple[str, Key]:
    """Channel, split and number of a document."""
    split: Split = "valid" if screened.is_valid[document] else "train"
    name = screened.channels[screened.channel[document]]
    return name, (split, int(screened.documents.number[document]))


def _pairs(screened: Screened, group: _Group) -> list[tuple[int, int, float]]:
    """The first pairs of near-copies of a group, and their similarity."""
    place = screened.channels.index(group.trained)
    matches = screened.matches
    return [
        (int(hit), int(matches.near[hit, place]), float(matches.similarity[hit, place]))
        for hit in group.hits[:EXAMPLES]
    ]


def _find_example_places(
    screened: Screened,
    groups: Sequence[_Group],
    channels: Sequence[Channel],
    vocabulary: Vocabulary,
) -> Callable[[int], str]:
    """Find the places of all examples; returns the place of each by its document's number."""
    wanted: dict[str, set[Key]] = {}
    for group in groups:
        for hit, near, _ in _pairs(screened, group):
            for name, key in (_key(screened, hit), _key(screened, near)):
                wanted.setdefault(name, set()).add(key)
    by_name = {channel.asked.name: channel for channel in channels}
    places = {name: find_places(by_name[name], keys, vocabulary) for name, keys in wanted.items()}

    def place_of(document: int) -> str:
        name, key = _key(screened, document)
        return places[name][key]

    return place_of


def _count(
    screened: Screened, group: _Group, manifest: Manifest, place_of: Callable[[int], str]
) -> NearCopies:
    number, tokens = screened.documents.number, screened.documents.tokens
    is_within = group.split == "train" and group.trained == group.channel
    return NearCopies(
        channel=group.channel,
        split=group.split,
        trained=group.trained,
        documents=len(np.unique(number[group.hits])),
        of=len(np.unique(number[group.members])),
        repeated=manifest.train.repeated_documents if is_within else None,
        tokens=int(tokens[group.hits].sum()),
        examples=tuple(
            Example(document=place_of(hit), near_copy=place_of(near), similarity=similarity)
            for hit, near, similarity in _pairs(screened, group)
        ),
    )
