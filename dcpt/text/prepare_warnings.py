"""Warnings about prepared text: what was left out, read otherwise, repeated or shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dcpt.text.manifest import Manifest, Overlap, Prepared
from dcpt.text.near_duplicates.records import DEFAULT_THRESHOLD, NearDuplicates
from dcpt.text.sources import Channel
from dcpt.text.tokenizer import Vocabulary, read_vocabulary


def find_warnings(
    channels: Sequence[Channel],
    manifests: dict[str, Manifest],
    overlaps: Sequence[Overlap],
    near_duplicates: NearDuplicates | None,
    asked_tokenizer: str | int,
    vocabulary: Vocabulary,
) -> Iterator[str]:
    """What a person should know about prepared text, a sentence each.

    Args:
        channels: The channels.
        manifests: What was prepared, by channel.
        overlaps: Documents that channels share.
        near_duplicates: What the screen found; equal documents are near-copies too, and are named
            here only where there was no screen.
        asked_tokenizer: The tokenizer that was asked for, or the size of a trained vocabulary.
        vocabulary: The tokenizer that was used.
    """
    flags = [] if near_duplicates is None else near_duplicates.flags()
    is_screened = near_duplicates is not None and near_duplicates.threshold is not None
    for channel in channels:
        name, manifest = channel.asked.name, manifests[channel.asked.name]
        left_out = [path for source, _ in channel.parts for path in source.left_out]
        if left_out:
            shown = ", ".join(path.name for path in left_out[:3])
            yield f"channel {name}: {len(left_out)} files hold no readable text ({shown}); left out"
        if manifest.empty_documents:
            yield f"channel {name}: {manifest.empty_documents} empty documents; left out"
        repeated, documents = manifest.train.repeated_documents, manifest.train.documents
        if repeated and not is_screened:
            yield (
                f"channel {name}: {repeated:,} of {documents:,} training documents repeat others; "
                f"{manifest.train.unique_tokens:,} of {manifest.train.tokens:,} tokens are of "
                "different documents, and epochs count these"
            )
        for token, count in manifest.spelled_out.items():
            yield (
                f"channel {name}: the text spells out {token} {count:,} times, which is read as "
                "characters; if it parts the documents of a .txt file, set text_separator to it"
            )
        if manifest.documents_in_both_splits and not is_screened:
            yield (
                f"channel {name}: {manifest.documents_in_both_splits} documents are in training "
                "and in validation; its validation loss will look too good"
            )
    if vocabulary.bos_id is not None:
        yield (
            f"each document starts with the beginning-of-sequence token (id {vocabulary.bos_id}); "
            "set add_bos: false to leave it out"
        )
    yield from (flag.sentence for flag in flags)
    for overlap in () if is_screened else overlaps:
        yield (
            f"channels {' and '.join(overlap.channels)}: {overlap.documents} documents are in both"
            f", {overlap.trained_and_validated} of them trained on in one and validated on in the "
            "other"
        )
    if isinstance(asked_tokenizer, int) and vocabulary.size < asked_tokenizer:
        yield (
            f"tokenizer: the text yields a vocabulary of {vocabulary.size}, not of "
            f"{asked_tokenizer}; there is too little of it"
        )


def note_earlier_version(known: Prepared, add_bos: bool | None) -> Iterator[str]:
    """What an earlier version did otherwise; its text is kept, as runs were trained on it.

    Args:
        known: What was prepared.
        add_bos: Whether documents are to start with the beginning-of-sequence token, as asked.
    """
    # Earlier versions did not record the token; reading a tokenizer takes seconds.
    silent = [name for name, m in known.channels.items() if "bos_id" not in m.model_fields_set]
    if silent and read_vocabulary(known.tokenizer_path, add_bos).bos_id is not None:
        yield (
            f"channels {', '.join(silent)}: prepared without the beginning-of-sequence token, "
            "which the tokenizer adds; set add_bos: true to prepare them with it"
        )
    if known.near_duplicates is None:
        yield (
            "prepared without the screen for near-duplicates; set near_duplicates: "
            f"{DEFAULT_THRESHOLD} to screen the text (where validation text is then left out, runs "
            "are planned anew)"
        )
