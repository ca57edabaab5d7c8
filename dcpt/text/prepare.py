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
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dcpt.errors import InputError
from dcpt.file_hashes import hash_file
from dcpt.leases import wait_and_hold
from dcpt.own_folders import is_marked, mark_folder
from dcpt.text.bases import StudyBase, check_bases, sample_documents
from dcpt.text.chats import read_template
from dcpt.text.encode_channel import Progress, encode_channel
from dcpt.text.manifest import (
    CLEAN_FOLDER,
    TOKENIZER_FOLDER,
    Manifest,
    Overlap,
    Prepared,
    load_prepared,
    read_manifest,
    read_record,
)
from dcpt.text.near_duplicates.records import NearDuplicates
from dcpt.text.near_duplicates.screen import screen
from dcpt.text.near_duplicates.summary import summarize
from dcpt.text.output import UNFINISHED, check_output, own_places, put_in_place, remove_folder
from dcpt.text.pool import start_pool
from dcpt.text.prepare_warnings import find_warnings
from dcpt.text.request import LEASE, Request
from dcpt.text.settings import TextSettings
from dcpt.text.shard_files import count_overlaps, open_shard
from dcpt.text.sizes import check_sizes
from dcpt.text.sources import (
    Channel,
    ChannelSource,
    channel_keys,
    check_sources,
    check_tokenizer_needs,
    find_channels,
    general_text,
    sample_texts,
)
from dcpt.text.tokenizer import Vocabulary, read_vocabulary, train_tokenizer
from dcpt.text.tokenizer_files import (
    TOKENIZER_FILES,
    copy_tokenizer,
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
    decides = channels, tokenizer_name, add_bos, template
    trained_on = [channel for channel in channels if channel.train is not None]
    request = Request(
        folder=folder,
        channels=channels,
        keys=channel_keys(*decides),
        earlier_keys=channel_keys(*decides, trained_on=trained_on),
        tokenizer=tokenizer,
        tokenizer_name=tokenizer_name,
        add_bos=add_bos,
        chat_template=template,
        near_duplicates=near_duplicates,
        settings=settings,
        sequence_tokens=sequence_tokens,
        bases=bases,
    )
    with _explaining_full_disks(folder):
        done = request.find_done()
        if done is not None:
            return request.keep_settings(done)
        return _Work(request, workers, progress or _report_nothing).do()


@contextmanager
def _explaining_full_disks(folder: Path) -> Iterator[None]:
    """Say what to do where the folder cannot be written."""
    try:
        yield
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

    request: Request
    workers: int
    progress: Progress

    @property
    def unfinished(self) -> Path:
        return self.request.folder / UNFINISHED

    def do(self) -> Prepared:
        request, folder = self.request, self.request.folder
        check_output(folder, request.keys)
        folder.mkdir(parents=True, exist_ok=True)
        if read_record(folder) is None and not is_marked(folder):
            mark_folder(folder)
        with wait_and_hold(folder / LEASE) as lease:
            if done := request.find_done():  # another process was faster
                return done
            damaged = list(request.find_damaged())
            self.unfinished.mkdir(exist_ok=True)
            mark_folder(self.unfinished)
            prepared, places = self.make()
            lease.check()
            put_in_place(prepared, places)
            return prepared.model_copy(update={"warnings": (*prepared.warnings, *damaged)})

    def make(self) -> tuple[Prepared, dict[str, Path]]:
        """Make all parts of the folder; returns their record, and where each of them is."""
        request = self.request
        tokenizer = self.place_tokenizer()
        if request.bases:
            check_bases(request.bases, tokenizer, sample_documents(request.channels))
        vocabulary = read_vocabulary(tokenizer, request.add_bos)
        places: dict[str, Path] = {}
        clean = self._make_folder(CLEAN_FOLDER)
        with start_pool(self.workers) as pool:
            for channel in request.channels:
                places[channel.asked.name] = self.place_channel(channel, vocabulary, pool)
            manifests = {name: _read_made(place) for name, place in places.items()}
            check_sizes(manifests, request.sequence_tokens)
            found = self.screen(places, manifests, vocabulary, pool, clean)
        request.check_sizes(manifests, found)
        overlaps = count_overlaps(places)
        prepared = Prepared(
            folder=request.folder,
            channels=manifests,
            tokenizer_name=request.tokenizer_name,
            tokenizer_files=_hash_tokenizer(tokenizer),
            overlaps=overlaps,
            near_duplicates=found,
            settings=request.settings,
            warnings=tuple(
                find_warnings(
                    request.channels, manifests, overlaps, found, request.tokenizer, vocabulary
                )
            ),
        )
        return prepared, {TOKENIZER_FOLDER: tokenizer, **places, CLEAN_FOLDER: clean}

    def screen(
        self,
        places: dict[str, Path],
        manifests: dict[str, Manifest],
        vocabulary: Vocabulary,
        pool: Executor | None,
        clean: Path,
    ) -> NearDuplicates | None:
        """Find near-copies and write the validation text without them into the folder ``clean``."""
        request = self.request
        if request.stays_unscreened():
            return None
        if request.threshold is None:
            return NearDuplicates(threshold=None)
        screened = screen(
            places,
            {name: manifest.dtype for name, manifest in manifests.items()},
            vocabulary,
            request.threshold,
            pool,
            self.workers,
            lambda done, total: self.progress(NEAR_DUPLICATES, done, total),
        )
        return summarize(
            screened, request.threshold, request.channels, manifests, clean, vocabulary
        )

    def place_tokenizer(self) -> Path:
        """Train or copy the tokenizer, unless it is there; returns the folder that holds it now."""
        request = self.request
        if (known := request.find_tokenizer()) is not None:
            return known
        folder = self._make_folder(TOKENIZER_FOLDER)
        if isinstance(request.tokenizer, int):
            texts = sample_texts(general_text(request.channels), self.progress)
            train_tokenizer(texts, request.tokenizer, folder)
        else:
            copy_tokenizer(request.tokenizer, folder)
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
        for place in (self.request.folder / name, self.unfinished / name):
            if self.request.is_made(place, name, vocabulary):
                return place
        place = self._make_folder(name)
        try:
            encode_channel(
                channel,
                self.request.keys[name],
                vocabulary,
                place,
                pool,
                self.workers,
                self.progress,
            )
        except BaseException:
            remove_folder(place)  # gives a full disk its room back
            raise
        return place


def _read_made(place: Path) -> Manifest:
    """The manifest of a channel that was just encoded."""
    manifest = read_manifest(place)
    assert manifest is not None, place
    return manifest


def _hash_tokenizer(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a tokenizer."""
    files = (path for path in sorted(folder.iterdir()) if path.name in TOKENIZER_FILES)
    return {path.name: hash_file(path) for path in files}


def _find_template(tokenizer: str | int) -> str:
    folder = find_tokenizer(str(tokenizer))
    assert folder is not None
    return read_template(folder)


def _report_nothing(name: str, done: int, total: int) -> None:
    """The progress of callers that asked for none."""
