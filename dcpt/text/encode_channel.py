"""The text of a channel becomes token shards with their manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from dcpt.atomic_files import write_text
from dcpt.text.channel_writer import ChannelWriter
from dcpt.text.manifest import Manifest, Split, SplitCounts
from dcpt.text.shards import encode_documents
from dcpt.text.sources import Channel, describe_split, read_all
from dcpt.text.tokenizer import Vocabulary, shard_dtype

Progress = Callable[[str, int, int], None]
"""Called with a channel (or ``tokenizer`` or ``near-duplicates``), the work that is done and all
the work, in bytes of text (0: unknown)."""


def encode_channel(
    channel: Channel,
    key: str,
    vocabulary: Vocabulary,
    place: Path,
    pool: Executor | None,
    workers: int,
    progress: Progress,
) -> None:
    """Write both shards of a channel, the hashes of its documents, then its manifest.

    Args:
        channel: The channel.
        key: Hash of all that decides its shards.
        vocabulary: The tokenizer.
        place: An empty folder.
        pool: Processes that encode; None encodes in this one.
        workers: Their number.
        progress: Called after every batch of documents.
    """
    asked = channel.asked
    vocabulary = replace(vocabulary, reads_special_tokens=asked.chat_field is not None)
    total = sum(source.size for source, _ in channel.parts)
    start = 0
    with closing(ChannelWriter(place, asked.max_tokens)) as writer:
        for source, rule in channel.parts:
            documents = read_all(asked, source, vocabulary)
            for batch in encode_documents(documents, vocabulary, rule, pool, workers):
                writer.write(batch, rule)
                progress(asked.name, start + batch.position, total)
                if writer.full and rule.valid_fraction < 1:
                    break
            start += source.size
        counts, shared = writer.finish()
    manifest = _describe(channel, key, vocabulary, writer, counts, shared)
    write_text(place / "manifest.json", manifest.model_dump_json(indent=2) + "\n")


def _describe(
    channel: Channel,
    key: str,
    vocabulary: Vocabulary,
    writer: ChannelWriter,
    counts: Mapping[Split, SplitCounts],
    shared: int,
) -> Manifest:
    """The manifest of a channel that was written.

    Args:
        channel: The channel.
        key: Hash of all that decided its shards.
        vocabulary: The tokenizer.
        writer: What wrote the shards.
        counts: What is in each split.
        shared: Distinct documents in both.
    """
    asked = channel.asked
    return Manifest(
        channel=asked.name,
        key=key,
        source=asked.train or asked.valid or "",
        valid_source=asked.valid,
        text_field=asked.chat_field or asked.text_field,
        split_rule=describe_split(asked),
        max_tokens=asked.max_tokens,
        dtype="uint16" if shard_dtype(vocabulary.size).itemsize == 2 else "uint32",
        vocab_size=vocabulary.size,
        eos_id=vocabulary.eos_id,
        tokenizer_sha256=vocabulary.sha256,
        empty_documents=writer.empty_documents,
        documents_in_both_splits=shared,
        train=counts["train"],
        valid=counts["valid"],
        inputs=channel.inputs,
        bos_id=vocabulary.bos_id,
        spelled_out=dict(writer.spelled_out),
        is_trained=asked.train is not None,
    )
