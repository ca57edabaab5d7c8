"""Prepare: the text of every channel becomes token shards, once.

The folder holds ``tokenizer/`` (an ordinary tokenizer folder), ``<channel>/train.bin``,
``<channel>/valid.bin`` and ``<channel>/manifest.json`` for every channel, and ``prepared.json``.
All of it is made in ``.unfinished/`` inside the folder and moved into place at the end: a kill
leaves what was there before, and the next call goes on behind the last channel that was finished.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcpt.atomic_files import write_text
from dcpt.errors import InputError
from dcpt.file_hashes import hash_file
from dcpt.text.manifest import (
    SPLITS,
    Manifest,
    Overlap,
    Prepared,
    Split,
    check_sizes,
    count_overlaps,
    count_shared,
    load_prepared,
    open_shard,
    read_manifest,
    read_record,
)
from dcpt.text.reading import read_documents
from dcpt.text.shards import ShardWriter, encode_documents, start_pool
from dcpt.text.sources import (
    TOKENIZER_FOLDER,
    Channel,
    ChannelSource,
    channel_keys,
    check_sources,
    describe_split,
    find_channels,
    sample_texts,
)
from dcpt.text.tokenizer import (
    Vocabulary,
    copy_tokenizer,
    name_tokenizer,
    read_vocabulary,
    shard_dtype,
    train_tokenizer,
)

__all__ = [
    "ChannelSource",
    "Manifest",
    "Overlap",
    "Prepared",
    "Progress",
    "load_prepared",
    "open_shard",
    "prepare",
]

Progress = Callable[[str, int, int], None]
"""Told a channel (or ``tokenizer``), bytes of text files read, and bytes in all (0: not known)."""


def prepare(
    sources: Sequence[ChannelSource],
    folder: Path,
    tokenizer: str | int,
    *,
    workers: int = 1,
    sequence_tokens: int = 1,
    progress: Progress | None = None,
) -> Prepared:
    """Tokenise the text of all channels into a folder, unless it is there already.

    Args:
        sources: The channels.
        folder: Where to put the shards; made if need be.
        tokenizer: A tokenizer folder or hub id, or the size of a vocabulary to train on a sample of
            all channels' training text.
        workers: Processes that encode; with 1 it happens in this one. The shards do not depend on
            it. As with all spawned processes, a script that asks for more keeps its own work
            under ``if __name__ == "__main__"``.
        sequence_tokens: Each split of each channel must hold at least one sequence of so many
            targets.
        progress: Called after every batch of documents.

    Returns:
        What is in the folder.

    Raises:
        InputError: If a source is missing, broken, empty or too small, the tokenizer cannot be
            used, or the folder cannot be written. What was prepared before is still there.
    """
    check_sources(sources, workers)
    tokenizer_name = name_tokenizer(tokenizer)
    known = read_record(folder)
    channels = find_channels(sources, known)
    keys = channel_keys(channels, tokenizer_name)
    if known is not None and _is_current(known, keys):
        check_sizes(known.channels, sequence_tokens)
        return known.model_copy(update={"did_nothing": True})
    work = _Work(folder, channels, keys, workers, progress or _tell_nobody)
    try:
        return work.do(tokenizer, tokenizer_name, sequence_tokens)
    except OSError as error:
        remedy = "choose another folder"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "make room on it, or choose another folder"
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); {remedy}. What was prepared "
            "before is still there"
        ) from error


@dataclass(frozen=True)
class _Work:
    """One call of ``prepare`` that has something to do."""

    folder: Path
    channels: Sequence[Channel]
    keys: dict[str, str]
    workers: int
    progress: Progress

    @property
    def unfinished(self) -> Path:
        return self.folder / ".unfinished"

    def do(self, tokenizer: str | int, tokenizer_name: str, sequence_tokens: int) -> Prepared:
        self.folder.mkdir(parents=True, exist_ok=True)
        with _lock(self.folder):
            known = read_record(self.folder)
            if known is not None and _is_current(known, self.keys):  # another process was faster
                check_sizes(known.channels, sequence_tokens)
                return known.model_copy(update={"did_nothing": True})
            self.unfinished.mkdir(exist_ok=True)
            vocabulary = self.place_tokenizer(tokenizer)
            places: dict[str, Path] = {}
            with start_pool(self.workers) as pool:
                for channel in self.channels:
                    places[channel.asked.name] = self.place_channel(channel, vocabulary, pool)
            manifests = {}
            for name, place in places.items():
                manifest = read_manifest(place)
                assert manifest is not None, place
                manifests[name] = manifest
            check_sizes(manifests, sequence_tokens)
            overlaps = count_overlaps(places)
            prepared = Prepared(
                folder=self.folder,
                channels=manifests,
                tokenizer_name=tokenizer_name,
                overlaps=overlaps,
                warnings=tuple(_warn(self.channels, manifests, overlaps, tokenizer, vocabulary)),
            )
            self.put_in_place(prepared, places)
            return prepared

    def place_tokenizer(self, tokenizer: str | int) -> Vocabulary:
        """Train or copy the tokenizer into the unfinished folder."""
        folder = self.unfinished / TOKENIZER_FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if isinstance(tokenizer, int):
            train_tokenizer(sample_texts(self.channels, self.progress), tokenizer, folder)
        else:
            copy_tokenizer(tokenizer, folder)
        return read_vocabulary(folder)

    def place_channel(
        self, channel: Channel, vocabulary: Vocabulary, pool: Executor | None
    ) -> Path:
        """Encode a channel, unless it is there; returns the folder that holds it now."""
        name = channel.asked.name
        for place in (self.folder / name, self.unfinished / name):
            manifest = read_manifest(place)
            if (
                manifest is not None
                and manifest.key == self.keys[name]
                and manifest.tokenizer_sha256 == vocabulary.sha256
                and _is_whole(place, manifest)
            ):
                return place
        place = self.unfinished / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        try:
            self.encode_channel(channel, vocabulary, pool, place)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)  # gives a full disk its room back
            raise
        return place

    def encode_channel(
        self, channel: Channel, vocabulary: Vocabulary, pool: Executor | None, place: Path
    ) -> None:
        """Write both shards of a channel, the hashes of its documents, then its manifest."""
        asked = channel.asked
        total = sum(source.size for source, _ in channel.parts)
        caps: dict[Split, int | None] = {"train": asked.max_tokens, "valid": None}
        writers = {split: ShardWriter(place, split, caps[split]) for split in SPLITS}
        empty = start = 0
        with closing(writers["train"]), closing(writers["valid"]):
            for source, rule in channel.parts:
                documents = read_documents(source, asked.text_field)
                for batch in encode_documents(documents, vocabulary, rule, pool, self.workers):
                    for split, encoded in batch.splits.items():
                        writers[split].write(encoded)
                    empty += batch.empty_documents
                    self.progress(asked.name, start + batch.position, total)
                    if writers["train"].full and rule.valid_fraction < 1:
                        break
                start += source.size
            counts = {split: writer.finish() for split, writer in writers.items()}
        hashes = {split: distinct for split, (_, distinct) in counts.items()}
        np.savez(place / "documents.npz", train=hashes["train"], valid=hashes["valid"])
        manifest = Manifest(
            channel=asked.name,
            key=self.keys[asked.name],
            source=asked.train,
            valid_source=asked.valid,
            text_field=asked.text_field,
            split_rule=describe_split(asked),
            max_tokens=asked.max_tokens,
            dtype="uint16" if shard_dtype(vocabulary.size).itemsize == 2 else "uint32",
            vocab_size=vocabulary.size,
            eos_id=vocabulary.eos_id,
            tokenizer_sha256=vocabulary.sha256,
            empty_documents=empty,
            documents_in_both_splits=count_shared(hashes["train"], hashes["valid"]),
            train=counts["train"][0],
            valid=counts["valid"][0],
            inputs=channel.inputs,
        )
        write_text(place / "manifest.json", manifest.model_dump_json(indent=2) + "\n")

    def put_in_place(self, prepared: Prepared, places: dict[str, Path]) -> None:
        """Move what was made into the folder; the record, written last, makes it valid."""
        old = self.unfinished / ".old"
        shutil.rmtree(old, ignore_errors=True)
        old.mkdir()
        made = {TOKENIZER_FOLDER: self.unfinished / TOKENIZER_FOLDER, **places}
        for name, source in made.items():
            target = self.folder / name
            if source == target:  # already there, whatever a killed call left unfinished
                continue
            if target.exists():
                os.replace(target, old / name)
            os.replace(source, target)
        write_text(self.folder / "prepared.json", prepared.model_dump_json(indent=2) + "\n")
        shutil.rmtree(self.unfinished)


def _tell_nobody(name: str, done: int, total: int) -> None:
    """The progress of those who asked for none."""


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time prepare a folder; others wait."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_current(prepared: Prepared, keys: dict[str, str]) -> bool:
    """Whether all that is asked for is in the folder, and whole."""
    try:
        tokenizer = hash_file(prepared.tokenizer_path / "tokenizer.json")
    except OSError:
        return False
    return prepared.channels.keys() == keys.keys() and all(
        manifest.key == keys[name]
        and manifest.tokenizer_sha256 == tokenizer
        and read_manifest(prepared.folder / name) == manifest
        and _is_whole(prepared.folder / name, manifest)
        for name, manifest in prepared.channels.items()
    )


def _is_whole(place: Path, manifest: Manifest) -> bool:
    sizes = {"train": manifest.train.tokens, "valid": manifest.valid.tokens}
    width = np.dtype(manifest.dtype).itemsize
    return (place / "documents.npz").exists() and all(
        (place / f"{split}.bin").exists()
        and (place / f"{split}.bin").stat().st_size == tokens * width
        for split, tokens in sizes.items()
    )


def _warn(
    channels: Sequence[Channel],
    manifests: dict[str, Manifest],
    overlaps: Sequence[Overlap],
    asked_tokenizer: str | int,
    vocabulary: Vocabulary,
) -> Iterator[str]:
    for channel in channels:
        name, manifest = channel.asked.name, manifests[channel.asked.name]
        left_out = [path for source, _ in channel.parts for path in source.left_out]
        if left_out:
            shown = ", ".join(path.name for path in left_out[:3])
            yield f"channel {name}: {len(left_out)} files hold no readable text ({shown}); left out"
        if manifest.empty_documents:
            yield f"channel {name}: {manifest.empty_documents} empty documents; left out"
        if manifest.documents_in_both_splits:
            yield (
                f"channel {name}: {manifest.documents_in_both_splits} documents are in training "
                "and in validation; its validation loss will look too good"
            )
    for overlap in overlaps:
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
