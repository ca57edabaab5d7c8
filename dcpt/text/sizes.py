"""Whether prepared text is long enough: every split of every channel holds a sequence."""

from __future__ import annotations

from collections.abc import Mapping

from dcpt.errors import InputError
from dcpt.text.manifest import Manifest
from dcpt.text.near_duplicates.records import CleanText


def check_sizes(channels: Mapping[str, Manifest], sequence_tokens: int) -> None:
    """Check that each split of each channel holds at least one sequence.

    Args:
        channels: What was prepared.
        sequence_tokens: Targets in a sequence; it takes one token more.

    Raises:
        InputError: Names every split that is too small, and what to do.
    """
    problems = []
    for name, manifest in channels.items():
        documents = manifest.train.documents + manifest.valid.documents
        if documents == 0:
            problems.append(f"channel {name}: {manifest.source} holds no text; name another source")
            continue
        for split, counts in (("training", manifest.train), ("validation", manifest.valid)):
            if split == "training" and not manifest.is_trained:
                continue
            if counts.tokens <= sequence_tokens:
                remedy = "give it more text or shorten sequences"
                names = [file.path for file in manifest.inputs]
                if documents <= len(names) and any(".txt" in name for name in names):
                    remedy = (
                        "a .txt file counts as one document: set text_separator to what parts its "
                        "documents (such as '\\n'), or write JSON Lines"
                    )
                elif split == "validation" and manifest.valid_source is None:
                    remedy = "give it more text, a larger valid_fraction or a validation source"
                    if manifest.max_tokens is not None:
                        remedy += (
                            f" (it was read until its training text had max_tokens = "
                            f"{manifest.max_tokens})"
                        )
                problems.append(
                    f"channel {name}: its {split} split has {counts.tokens} tokens in "
                    f"{counts.documents} of {documents} documents, and one sequence takes "
                    f"{sequence_tokens + 1}; {remedy}"
                )
    if problems:
        raise InputError(problems)


def check_clean_sizes(clean: Mapping[str, CleanText], sequence_tokens: int) -> None:
    """Check that the validation text that is left without near-copies holds a sequence.

    Args:
        clean: The clean text of the channels that have one.
        sequence_tokens: Targets in a sequence; it takes one token more.

    Raises:
        InputError: Names every channel with too little, and what to do.
    """
    problems = [
        f"channel {name}: {text.left_out:,} of {text.left_out + text.documents:,} validation "
        f"documents have near-copies in training text, and the others hold {text.tokens:,} "
        f"tokens, where a sequence takes {sequence_tokens + 1}; give other validation text, or "
        "set near_duplicates: false to keep all of it"
        for name, text in clean.items()
        if text.tokens <= sequence_tokens
    ]
    if problems:
        raise InputError(problems)
