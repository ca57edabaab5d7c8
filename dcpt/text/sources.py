"""Which text a channel is made of, and when it has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dcpt.errors import InputError
from dcpt.names import CHANNEL_NAME
from dcpt.text.chats import load_renderer
from dcpt.text.documents import LONG_CHARACTERS, Document, beginnings
from dcpt.text.input_files import InputFile, identify
from dcpt.text.manifest import RECORD_FILE, TOKENIZER_FOLDER
from dcpt.text.reading import (
    Source,
    check_is_text,
    find_source,
    read_documents,
)
from dcpt.text.shards import SplitRule
from dcpt.text.tokenizer import SAMPLE_BYTES, Vocabulary

FORMAT = 1
"""Raised by hand when a change of the code alters shards."""


RESERVED = (TOKENIZER_FOLDER, RECORD_FILE)
"""Names of the prepared folder that no channel may have: channels are folders there."""


@dataclass(frozen=True)
class ChannelSource:
    """Where the text of one channel comes from.

    Attributes:
        name: The channel.
        train: A file, folder, pattern, dataset folder or ``hf:owner/name``; None where no run is
            trained on the channel, which has validation text alone.
        valid: The same for validation; None holds out part of the training text.
        text_field: Field of the text in JSON Lines, parquet and datasets.
        valid_fraction: Share of documents held out by their hash where ``valid`` is None.
        max_tokens: Stop after the document that reaches this many training tokens; None reads all.
        text_separator: What parts the documents of a ``.txt`` file; None takes a file as one.
        chat_field: Field of chats, which the tokenizer's chat template writes as texts; None if
            ``text_field`` holds texts.
        side: That of the study's channel. A tokenizer is trained on general text alone, so
            that the bases of a ladder, which read no other, do not change with the domain.
    """

    name: str
    train: str | None
    valid: str | None = None
    text_field: str = "text"
    valid_fraction: float = 0.02
    max_tokens: int | None = None
    text_separator: str | None = None
    chat_field: str | None = None
    side: Literal["general", "domain", "extra", "validation"] = "general"


@dataclass(frozen=True)
class Channel:
    """A channel whose files are found and hashed.

    Attributes:
        asked: What was asked for.
        train: Training text, or all of it; None if there is validation text alone.
        valid: Validation text, None if it is held out of ``train``.
        inputs: Files of both.
    """

    asked: ChannelSource
    train: Source | None
    valid: Source | None
    inputs: tuple[InputFile, ...]

    @property
    def parts(self) -> list[tuple[Source, SplitRule]]:
        """What to read, in order, and on which side its documents go."""
        train, valid = self.train, self.valid
        if train is None:
            return [] if valid is None else [(valid, SplitRule(1.0))]
        if valid is None:
            return [(train, SplitRule(self.asked.valid_fraction))]
        return [(train, SplitRule(0.0)), (valid, SplitRule(1.0))]


def read_all(
    asked: ChannelSource, source: Source, vocabulary: Vocabulary | None = None
) -> Iterator[Document]:
    """Read the documents of a source of a channel as the channel says.

    Args:
        asked: The channel.
        source: Its training or validation text.
        vocabulary: The tokenizer; None if the channel has neither chats nor token ids.

    Raises:
        InputError: As :func:`read_documents`, or if chats lack a template.
    """
    render = None
    if asked.chat_field is not None:
        assert vocabulary is not None
        render = load_renderer(vocabulary, f"channel {asked.name}")
    field = asked.chat_field or asked.text_field
    return read_documents(source, field, asked.text_separator, render, vocabulary)


def check_tokenizer_needs(channels: Sequence[Channel], tokenizer: str | int) -> None:
    """Refuse chats and token ids where the study trains a tokenizer of its own.

    Raises:
        InputError: Names every such channel.
    """
    if not isinstance(tokenizer, int):
        return
    problems = []
    if not general_text(channels):
        problems.append(
            "a tokenizer is trained on the general text, and no channel is of side general; add "
            "one, or set tokenizer to a folder or a hub id"
        )
    for channel in channels:
        if channel.asked.chat_field is not None:
            problems.append(
                f"channel {channel.asked.name}: chat_field needs a tokenizer with a chat template; "
                "set tokenizer to the folder of one"
            )
        for source, _ in channel.parts:
            problems += [
                f"channel {channel.asked.name}: {path} holds token ids, and the study trains a "
                "tokenizer of its own; set tokenizer to the one that wrote the file"
                for path in source.token_files[:1]
            ]
    if problems:
        raise InputError(problems)


def general_text(channels: Sequence[Channel]) -> list[Channel]:
    """The channels that a tokenizer is trained on."""
    return [channel for channel in channels if channel.asked.side == "general"]


def check_sources(sources: Sequence[ChannelSource], workers: int) -> None:
    """Check what can be checked before any file is opened.

    Raises:
        InputError: Names every problem.
    """
    problems = []
    names = [source.name for source in sources]
    if not names:
        problems.append("no channels to prepare; name at least one")
    problems += [
        f"channel {name}: named {names.count(name)} times; give each channel its own name"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if workers < 1:
        problems.append(f"{workers} workers; use at least 1")
    for source in sources:
        if not CHANNEL_NAME.fullmatch(source.name) or source.name.casefold() in RESERVED:
            problems.append(
                f"channel {source.name!r}: this name cannot be used; take letters, digits, _, . "
                f"and - (and not {' or '.join(RESERVED)})"
            )
        if source.train is None and source.valid is None:
            problems.append(f"channel {source.name}: no text; name training or validation text")
        elif source.valid is None and not 0 < source.valid_fraction < 1:
            problems.append(
                f"channel {source.name}: valid_fraction is {source.valid_fraction}; it must lie "
                "between 0 and 1, such as 0.02"
            )
        if source.text_separator == "":
            problems.append(f"channel {source.name}: text_separator is empty; leave it out")
        if source.max_tokens is not None and source.max_tokens < 1:
            problems.append(
                f"channel {source.name}: max_tokens is {source.max_tokens}; use at least 1, or "
                "leave it out to read all the text"
            )
    if problems:
        raise InputError(problems)


def find_channels(sources: Sequence[ChannelSource], ours: Sequence[Path] = ()) -> list[Channel]:
    """Find and hash the files of all channels.

    Args:
        sources: The channels.
        ours: Files and folders that dcpt writes, in which there can be no text of a channel.

    Raises:
        InputError: Names every source that is missing, cannot be read, or takes in one of ours.
    """
    channels, problems = [], []
    for asked in sources:
        try:
            place = f"channel {asked.name}"
            train = valid = None
            if asked.train is not None:
                train = find_source(asked.train, place)
                check_is_text(train, ours, place)
            if asked.valid is not None:
                valid = find_source(asked.valid, f"{place}, validation")
                check_is_text(valid, ours, f"{place}, validation")
            files = (train.files if train else ()) + (valid.files if valid else ())
            inputs = tuple(identify(path) for path in files)
            channels.append(Channel(asked, train, valid, inputs))
        except InputError as error:
            problems += error.problems
        except OSError as error:
            problems.append(
                f"channel {asked.name}: {error.filename} cannot be read ({error.strerror}); check "
                "its permissions"
            )
    if problems:
        raise InputError(problems)
    return channels


def channel_keys(
    channels: Sequence[Channel],
    tokenizer_name: str,
    add_bos: bool | None = None,
    chat_template: str | None = None,
    trained_on: Sequence[Channel] | None = None,
) -> dict[str, str]:
    """Hash all that decides the shards of each channel: contents and settings, never paths.

    Settings that earlier versions did not have count only where they are set, so that old shards
    stay valid.

    Args:
        channels: The channels.
        tokenizer_name: The requested tokenizer, as :func:`name_tokenizer` describes it.
        add_bos: Whether documents start with the beginning-of-sequence token.
        chat_template: The template that writes chats.
        trained_on: The text that a tokenizer is trained on; None takes the general channels.
    """
    extra = [] if add_bos is None else [{"add_bos": add_bos}]
    texts = {channel.asked.name: _describe_text(channel) for channel in channels}
    names = [c.asked.name for c in (general_text(channels) if trained_on is None else trained_on)]
    is_trained = tokenizer_name.startswith("bpe ")
    return {
        name: _hash_json(
            [
                FORMAT,
                tokenizer_name,
                {name: texts[name] for name in names} if is_trained else None,
                text,
                *extra,
                *([chat_template] if "chat_field" in text else []),
            ]
        )
        for name, text in texts.items()
    }


def describe_split(asked: ChannelSource) -> str:
    """Describe how the documents of a channel are split."""
    if asked.train is None:
        return "validation text alone"
    if asked.valid is not None:
        return "validation text from a source of its own"
    return f"{asked.valid_fraction:.2%} of the documents held out by a hash of their words"


def sample_texts(
    channels: Sequence[Channel], progress: Callable[[str, int, int], None]
) -> Iterator[str]:
    """Choose training text of channels for a tokenizer to learn from.

    Of each channel the documents with the smallest hashes are kept, as many as ``SAMPLE_BYTES``
    hold: an even and repeatable sample of a text of any length, in one reading.
    """
    trained = [(channel, channel.train) for channel in channels if channel.train is not None]
    total = sum(source.size for _, source in trained)
    start = 0
    for channel, source in trained:
        rule = channel.parts[0][1]
        sample, kept_bytes, read_bytes, limit = {}, 0, 0, 2**64
        # A capped channel must not be read to its end for this: a token is about four bytes.
        enough = 4 * channel.asked.max_tokens if channel.asked.max_tokens else None
        documents = beginnings(read_all(channel.asked, source), SAMPLE_BYTES)
        for document, document_hash in documents:
            text, position = document.text, document.position
            size = len(text.encode())
            read_bytes += size
            if document_hash < limit and rule.side(document_hash) == "train":
                kept_bytes += size if document_hash not in sample else 0
                sample[document_hash] = text
            while kept_bytes > SAMPLE_BYTES and len(sample) > 1:
                limit = sorted(sample)[len(sample) // 2]
                sample = {h: t for h, t in sample.items() if h < limit}
                kept_bytes = sum(len(t.encode()) for t in sample.values())
            progress(TOKENIZER_FOLDER, start + position, total)
            if enough is not None and read_bytes >= enough:
                break
        for text in (sample[h] for h in sorted(sample)):
            for at in range(0, len(text), LONG_CHARACTERS):  # what is learnt from takes memory, too
                yield text[at : at + LONG_CHARACTERS]
        start += source.size


def _describe_text(channel: Channel) -> dict[str, object]:
    asked, n_train = channel.asked, 0 if channel.train is None else len(channel.train.files)
    hub = [s.written for s in (channel.train, channel.valid) if s and s.kind == "hub"]
    return {
        "train": None if channel.train is None else [f.sha256 for f in channel.inputs[:n_train]],
        "valid": None if channel.valid is None else [f.sha256 for f in channel.inputs[n_train:]],
        "hub": hub,
        "text_field": asked.text_field,
        "valid_fraction": asked.valid_fraction if channel.valid is None else None,
        "max_tokens": asked.max_tokens,
        **({} if asked.text_separator is None else {"text_separator": asked.text_separator}),
        **({} if asked.chat_field is None else {"chat_field": asked.chat_field}),
    }


def _hash_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
