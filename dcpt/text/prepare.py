"""Prepare: the text of every channel becomes token shards, once.

The folder holds ``tokenizer/`` (an ordinary tokenizer folder), ``<channel>/train.bin``,
``<channel>/valid.bin`` and ``<channel>/manifest.json`` for every channel, ``_clean/`` with the
validation text of channels that had near-copies in training text, and ``prepared.json``.
All of it is made in ``.unfinished/`` inside the folder and moved into place at the end: a kill
leaves what was there before, and the next call goes on behind the last channel that was finished.
Nothing is written to, replaced or removed that ``prepare`` did not make (``dcpt.text.output``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dcpt.atomic_files import sync_folder, write_text
from dcpt.errors import InputError
from dcpt.file_hashes import hash_file
from dcpt.leases import wait_and_hold
from dcpt.own_folders import is_marked, mark_folder
from dcpt.text.bases import StudyBase, check_bases, sample_documents
from dcpt.text.changed_settings import keep_settings
from dcpt.text.channel_writer import ChannelWriter
from dcpt.text.chats import read_template
from dcpt.text.manifest import (
    CLEAN_FOLDER,
    RECORD_FILE,
    TOKENIZER_FOLDER,
    Manifest,
    Overlap,
    Prepared,
    check_tokenizer,
    count_overlaps,
    is_clean_whole,
    is_whole,
    load_prepared,
    open_shard,
    read_manifest,
    read_record,
)
from dcpt.text.near_duplicates.records import DEFAULT_THRESHOLD, NearDuplicates
from dcpt.text.near_duplicates.screen import screen
from dcpt.text.near_duplicates.summary import summarize
from dcpt.text.output import UNFINISHED, check_output, own_places, remove_folder
from dcpt.text.pool import start_pool
from dcpt.text.prepare_warnings import find_warnings, note_earlier_version
from dcpt.text.settings import TextSettings
from dcpt.text.shards import encode_documents
from dcpt.text.sizes import check_clean_sizes, check_sizes
from dcpt.text.sources import (
    Channel,
    ChannelSource,
    channel_keys,
    check_sources,
    check_tokenizer_needs,
    describe_split,
    find_channels,
    general_text,
    read_all,
    sample_texts,
)
from dcpt.text.tokenizer import (
    Vocabulary,
    read_vocabulary,
    shard_dtype,
    train_tokenizer,
)
from dcpt.text.tokenizer_files import (
    TOKENIZER_FILES,
    copy_tokenizer,
    encodes_as_files,
    find_tokenizer,
    name_tokenizer,
)

__all__ = [
    "ChannelSource",
    "Manifest",
    "Overlap",
    "Prepared",
    "Progress",
    "StudyBase",
    "load_prepared",
    "open_shard",
    "prepare",
]

NEAR_DUPLICATES = "near-duplicates"

Progress = Callable[[str, int, int], None]
"""Called with a channel (or ``tokenizer`` or ``near-duplicates``), the work that is done and all
the work, in bytes of text (0: unknown)."""


def prepare(
    sources: Sequence[ChannelSource],
    folder: Path,
    tokenizer: str | int,
    *,
    workers: int = 1,
    sequence_tokens: int = 1,
    progress: Progress | None = None,
    bases: Sequence[StudyBase] = (),
    own_folders: Sequence[Path] = (),
    add_bos: bool | None = None,
    near_duplicates: float | Literal[False] | None = None,
    settings: TextSettings | None = None,
) -> Prepared:
    """Tokenise the text of all channels into a folder, unless it is there already.

    Args:
        sources: The channels.
        folder: Where to put the shards; made if need be.
        tokenizer: A tokenizer folder or hub id, or the size of a vocabulary to train on a sample of
            the general channels' training text.
        workers: Processes that encode; with 1 it happens in this one. The shards do not depend on
            it. As with all spawned processes, a script that asks for more keeps its own work
            under ``if __name__ == "__main__"``.
        sequence_tokens: Each split of each channel must hold at least one sequence of so many
            targets.
        progress: Called after every batch of documents.
        bases: Models whose own tokenizers must give the ids that the text gets.
        own_folders: Further files and folders that dcpt writes: no text is read from them.
        add_bos: Whether each document starts with the tokenizer's beginning-of-sequence token; None
            does what the tokenizer does by itself.
        near_duplicates: Jaccard similarity from which two documents are near-copies; False leaves
            the screen for them out. None takes ``DEFAULT_THRESHOLD``, and keeps what an earlier
            version prepared without the screen.
        settings: What the study says of its text, to be recorded with it.

    Returns:
        What is in the folder.

    Raises:
        InputError: If a source is missing, broken, empty or too small, or lies in the folder; if
            the tokenizer cannot be used or is not that of a base; if the folder holds what dcpt
            did not write, or cannot be written. What was prepared before is still there.
    """
    check_sources(sources, workers)
    tokenizer_name = name_tokenizer(tokenizer)
    names = [source.name for source in sources]
    channels = find_channels(sources, [*own_places(folder, names), *own_folders])
    check_tokenizer_needs(channels, tokenizer)
    template = _find_template(tokenizer) if any(s.chat_field for s in sources) else None
    keys = channel_keys(channels, tokenizer_name, add_bos, template)
    # Earlier versions trained a tokenizer on the text of all channels; what they made stays.
    earlier = channel_keys(channels, tokenizer_name, add_bos, template, trained_on=channels)
    report = progress or _report_nothing
    work = _Work(
        folder,
        channels,
        keys,
        earlier,
        tokenizer,
        tokenizer_name,
        add_bos,
        template,
        near_duplicates,
        settings,
        workers,
        report,
    )
    try:
        done = work.find_done(sequence_tokens, bases)
        return work.do(sequence_tokens, bases) if done is None else work.keep_settings(done)
    except OSError as error:
        remedy = "choose another folder"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "make room on it, or choose another folder"
        raise InputError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); {remedy}. "
            "What was prepared before is still there"
        ) from error


@dataclass(frozen=True)
class _Work:
    """One call of ``prepare`` that has something to do."""

    folder: Path
    channels: Sequence[Channel]
    keys: dict[str, str]
    earlier_keys: dict[str, str]
    tokenizer: str | int
    tokenizer_name: str
    add_bos: bool | None
    chat_template: str | None
    near_duplicates: float | Literal[False] | None
    settings: TextSettings | None
    workers: int
    progress: Progress

    @property
    def unfinished(self) -> Path:
        return self.folder / UNFINISHED

    def find_done(self, sequence_tokens: int, bases: Sequence[StudyBase]) -> Prepared | None:
        """Return the folder's record if it holds all that is requested, undamaged."""
        try:
            known = load_prepared(self.folder)
        except (InputError, OSError):
            return None
        if (
            known.channels.keys() != self.keys.keys()
            or not all(self.is_as_asked(name, m) for name, m in known.channels.items())
            or not self.keeps_tokenizer(known)
            or not self.is_screened(known)
            or not all(is_whole(self.folder / name, m) for name, m in known.channels.items())
            or not is_clean_whole(known)
        ):
            return None
        check_bases(bases, known.tokenizer_path)
        self.check_sizes(known.channels, known.near_duplicates, sequence_tokens)
        return known.model_copy(
            update={
                "warnings": (*known.warnings, *note_earlier_version(known, self.add_bos)),
                "did_nothing": True,
            }
        )

    def is_as_asked(self, name: str, manifest: Manifest) -> bool:
        """Whether a channel was made of the text and settings that are asked for."""
        return manifest.key in (self.keys.get(name), self.earlier_keys.get(name))

    def keep_settings(self, done: Prepared) -> Prepared:
        """Record the settings where they have changed and give the same text."""
        if self.settings is None or done.settings == self.settings:
            return done
        with wait_and_hold(self.folder / ".lease"):
            return keep_settings(done, self.settings)

    def is_screened(self, known: Prepared) -> bool:
        """Whether the folder's text was screened for near-duplicates as requested."""
        if known.near_duplicates is None:  # an earlier version did not screen
            return self.near_duplicates is None
        return known.near_duplicates.threshold == self.threshold

    def stays_unscreened(self) -> bool:
        """Whether an earlier version prepared this text, so that runs were trained on all of it.

        Channels may be added, and damaged shards made again.
        """
        known = read_record(self.folder)
        return (
            self.near_duplicates is None
            and known is not None
            and known.near_duplicates is None
            and all(self.is_as_asked(name, m) for name, m in known.channels.items())
        )

    @property
    def threshold(self) -> float | None:
        """Jaccard similarity from which documents are near-copies; None without the screen."""
        if self.near_duplicates is None:
            return DEFAULT_THRESHOLD
        return self.near_duplicates or None

    def keeps_tokenizer(self, known: Prepared) -> bool:
        """Whether the tokenizer in the folder is the requested one, undamaged."""
        try:
            check_tokenizer(known)
        except (InputError, OSError):
            return False
        return (
            known.tokenizer_name == self.tokenizer_name
            and (
                isinstance(self.tokenizer, int)
                or encodes_as_files(known.tokenizer_path, self.tokenizer)
            )
            and self.chat_template in (None, read_template(known.tokenizer_path))
        )

    def do(self, sequence_tokens: int, bases: Sequence[StudyBase]) -> Prepared:
        check_output(self.folder, self.keys)
        self.folder.mkdir(parents=True, exist_ok=True)
        if read_record(self.folder) is None and not is_marked(self.folder):
            mark_folder(self.folder)
        with wait_and_hold(self.folder / ".lease") as lease:
            if done := self.find_done(sequence_tokens, bases):  # another process was faster
                return done
            damaged = list(self.find_damaged())
            self.unfinished.mkdir(exist_ok=True)
            mark_folder(self.unfinished)
            tokenizer = self.place_tokenizer()
            if bases:
                check_bases(bases, tokenizer, sample_documents(self.channels))
            vocabulary = read_vocabulary(tokenizer, self.add_bos)
            places: dict[str, Path] = {}
            clean = self._make_folder(CLEAN_FOLDER)
            with start_pool(self.workers) as pool:
                for channel in self.channels:
                    places[channel.asked.name] = self.place_channel(channel, vocabulary, pool)
                manifests = {name: _read_made(place) for name, place in places.items()}
                check_sizes(manifests, sequence_tokens)
                found = self.screen(places, manifests, vocabulary, pool, clean)
            self.check_sizes(manifests, found, sequence_tokens)
            overlaps = count_overlaps(places)
            warnings = find_warnings(
                self.channels, manifests, overlaps, found, self.tokenizer, vocabulary
            )
            prepared = Prepared(
                folder=self.folder,
                channels=manifests,
                tokenizer_name=self.tokenizer_name,
                tokenizer_files={
                    path.name: hash_file(path)
                    for path in sorted(tokenizer.iterdir())
                    if path.name in TOKENIZER_FILES
                },
                overlaps=overlaps,
                near_duplicates=found,
                settings=self.settings,
                warnings=tuple(warnings),
            )
            lease.check()
            self.put_in_place(
                prepared, {TOKENIZER_FOLDER: tokenizer, **places, CLEAN_FOLDER: clean}
            )
            return prepared.model_copy(update={"warnings": (*prepared.warnings, *damaged)})

    def find_damaged(self) -> Iterator[str]:
        """A sentence for each channel that is prepared again because its files were changed."""
        known = read_record(self.folder)
        for name, manifest in known.channels.items() if known is not None else ():
            place = self.folder / name
            if self.is_as_asked(name, manifest) and not (
                read_manifest(place) == manifest and is_whole(place, manifest)
            ):
                yield f"channel {name}: files in {place} were damaged, and are prepared again"

    def screen(
        self,
        places: dict[str, Path],
        manifests: dict[str, Manifest],
        vocabulary: Vocabulary,
        pool: Executor | None,
        clean: Path,
    ) -> NearDuplicates | None:
        """Find near-copies and write the validation text without them into the folder ``clean``."""
        if self.stays_unscreened():
            return None
        if self.threshold is None:
            return NearDuplicates(threshold=None)
        screened = screen(
            places,
            {name: manifest.dtype for name, manifest in manifests.items()},
            vocabulary,
            self.threshold,
            pool,
            self.workers,
            lambda done, total: self.progress(NEAR_DUPLICATES, done, total),
        )
        return summarize(screened, self.threshold, self.channels, manifests, clean, vocabulary)

    def check_sizes(
        self,
        manifests: Mapping[str, Manifest],
        found: NearDuplicates | None,
        sequence_tokens: int,
    ) -> None:
        """Check that each split holds a sequence, without its near-copies as well."""
        check_sizes(manifests, sequence_tokens)
        check_clean_sizes({} if found is None else found.clean, sequence_tokens)

    def place_tokenizer(self) -> Path:
        """Train or copy the tokenizer, unless it is there; returns the folder that holds it now."""
        known = read_record(self.folder)
        general = general_text(self.channels)
        if known is not None and self.keeps_tokenizer(known):
            before = [known.channels.get(channel.asked.name) for channel in general]
            if not isinstance(self.tokenizer, int) or all(
                manifest is not None and self.is_as_asked(manifest.channel, manifest)
                for manifest in before
            ):
                return known.tokenizer_path
        folder = self._make_folder(TOKENIZER_FOLDER)
        if isinstance(self.tokenizer, int):
            train_tokenizer(sample_texts(general, self.progress), self.tokenizer, folder)
        else:
            copy_tokenizer(self.tokenizer, folder)
        return folder

    def _make_folder(self, name: str) -> Path:
        """An empty folder of ours to make something in."""
        folder = self.unfinished / name
        remove_folder(folder)
        folder.mkdir()
        mark_folder(folder)
        return folder

    def place_channel(
        self, channel: Channel, vocabulary: Vocabulary, pool: Executor | None
    ) -> Path:
        """Encode a channel, unless it is there; returns the folder that holds it now."""
        name = channel.asked.name
        for place in (self.folder / name, self.unfinished / name):
            if self.is_made(place, name, vocabulary):
                return place
        place = self._make_folder(name)
        try:
            self.encode_channel(channel, vocabulary, pool, place)
        except BaseException:
            remove_folder(place)  # gives a full disk its room back
            raise
        return place

    def is_made(self, place: Path, name: str, vocabulary: Vocabulary) -> bool:
        """Whether a folder holds a channel as requested, undamaged."""
        manifest, known = read_manifest(place), read_record(self.folder)
        recorded = None if known is None else known.channels.get(name)
        if manifest is None or not self.is_as_asked(name, manifest):
            return False
        if (manifest.tokenizer_sha256, manifest.eos_id) != (vocabulary.sha256, vocabulary.eos_id):
            return False
        if recorded is not None and recorded.key == manifest.key and recorded != manifest:
            return False  # one of the two was changed
        return is_whole(place, manifest)

    def encode_channel(
        self, channel: Channel, vocabulary: Vocabulary, pool: Executor | None, place: Path
    ) -> None:
        """Write both shards of a channel, the hashes of its documents, then its manifest."""
        asked = channel.asked
        vocabulary = replace(vocabulary, reads_special_tokens=asked.chat_field is not None)
        total = sum(source.size for source, _ in channel.parts)
        start = 0
        with closing(ChannelWriter(place, asked.max_tokens)) as writer:
            for source, rule in channel.parts:
                documents = read_all(asked, source, vocabulary)
                for batch in encode_documents(documents, vocabulary, rule, pool, self.workers):
                    writer.write(batch, rule)
                    self.progress(asked.name, start + batch.position, total)
                    if writer.full and rule.valid_fraction < 1:
                        break
                start += source.size
            counts, shared = writer.finish()
        manifest = Manifest(
            channel=asked.name,
            key=self.keys[asked.name],
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
        write_text(place / "manifest.json", manifest.model_dump_json(indent=2) + "\n")

    def put_in_place(self, prepared: Prepared, places: dict[str, Path]) -> None:
        """Move what was made into the folder; the record, written last, makes it valid."""
        check_output(self.folder, self.keys)  # encoding takes hours, and files may have come in
        old = self.unfinished / ".old"
        remove_folder(old)
        old.mkdir()
        for name, source in places.items():
            target = self.folder / name
            if source == target:  # already there, whatever a killed call left unfinished
                continue
            if os.path.lexists(target):
                os.replace(target, old / name)
            os.replace(source, target)
        sync_folder(self.folder)
        write_text(self.folder / RECORD_FILE, prepared.model_dump_json(indent=2) + "\n")
        remove_folder(self.unfinished)
        # Hashed while they are in memory, and remembered, so that training starts at once.
        check_tokenizer(prepared)
        for name, manifest in prepared.channels.items():
            if not is_whole(self.folder / name, manifest):
                raise InputError(
                    f"{self.folder / name}: these files are not what was written a moment ago; "
                    "check the disk and prepare again"
                )


def _read_made(place: Path) -> Manifest:
    """The manifest of a channel that was just encoded."""
    manifest = read_manifest(place)
    assert manifest is not None, place
    return manifest


def _find_template(tokenizer: str | int) -> str:
    folder = find_tokenizer(str(tokenizer))
    assert folder is not None
    return read_template(folder)


def _report_nothing(name: str, done: int, total: int) -> None:
    """The progress of callers that asked for none."""
