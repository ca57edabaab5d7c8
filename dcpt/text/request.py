"""What a call of ``prepare`` asks for, and what of it is there already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dcpt.errors import InputError
from dcpt.leases import wait_and_hold
from dcpt.text.bases import StudyBase, check_bases
from dcpt.text.changed_settings import keep_settings
from dcpt.text.chats import read_template
from dcpt.text.manifest import (
    Manifest,
    Prepared,
    check_tokenizer,
    load_prepared,
    read_manifest,
    read_record,
)
from dcpt.text.near_duplicates.records import DEFAULT_THRESHOLD, NearDuplicates
from dcpt.text.prepare_warnings import note_earlier_version
from dcpt.text.settings import TextSettings
from dcpt.text.shard_files import is_clean_whole, is_whole
from dcpt.text.sizes import check_clean_sizes, check_sizes
from dcpt.text.sources import Channel, general_text
from dcpt.text.tokenizer import Vocabulary
from dcpt.text.tokenizer_files import encodes_as_files

LEASE = ".lease"
"""Names the process that prepares a folder."""


@dataclass(frozen=True)
class Request:
    """What is to be in a folder of prepared text.

    Attributes:
        folder: The folder.
        channels: The channels, their files found.
        keys: Hash of all that decides the shards of each channel.
        earlier_keys: The same, where the tokenizer is trained on the training text of all channels,
            as earlier versions did.
        tokenizer: A tokenizer folder or hub id, or the size of a vocabulary to train.
        tokenizer_name: Its description, for records.
        add_bos: Whether documents start with the beginning-of-sequence token.
        chat_template: The template that writes chats; None where no channel has any.
        near_duplicates: Similarity of near-copies, False for no screen, None for the default.
        settings: What the study says of its text.
        sequence_tokens: Targets of a sequence, of which each split must hold one.
        bases: Models whose own tokenizers must give the ids that the text gets.
    """

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
    sequence_tokens: int
    bases: Sequence[StudyBase]

    def find_done(self) -> Prepared | None:
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
        check_bases(self.bases, known.tokenizer_path)
        self.check_sizes(known.channels, known.near_duplicates)
        return known.model_copy(
            update={
                "warnings": (*known.warnings, *note_earlier_version(known, self.add_bos)),
                "did_nothing": True,
            }
        )

    def is_as_asked(self, name: str, manifest: Manifest) -> bool:
        """Whether a channel was made of the text and settings that are asked for."""
        return manifest.key in (self.keys.get(name), self.earlier_keys.get(name))

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

    def find_tokenizer(self) -> Path | None:
        """The tokenizer in the folder, if it need not be made.

        One that is trained on the general text stays as long as that text does.
        """
        known = read_record(self.folder)
        if known is None or not self.keeps_tokenizer(known):
            return None
        general = [known.channels.get(c.asked.name) for c in general_text(self.channels)]
        is_same = all(m is not None and self.is_as_asked(m.channel, m) for m in general)
        return known.tokenizer_path if is_same or isinstance(self.tokenizer, str) else None

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

    def find_damaged(self) -> Iterator[str]:
        """A sentence for each channel that is prepared again because its files were changed."""
        known = read_record(self.folder)
        for name, manifest in known.channels.items() if known is not None else ():
            place = self.folder / name
            if self.is_as_asked(name, manifest) and not (
                read_manifest(place) == manifest and is_whole(place, manifest)
            ):
                yield f"channel {name}: files in {place} were damaged, and are prepared again"

    def check_sizes(self, manifests: Mapping[str, Manifest], found: NearDuplicates | None) -> None:
        """Check that each split holds a sequence, without its near-copies as well."""
        check_sizes(manifests, self.sequence_tokens)
        check_clean_sizes({} if found is None else found.clean, self.sequence_tokens)

    def keep_settings(self, done: Prepared) -> Prepared:
        """Record the settings where they have changed and give the same text."""
        if self.settings is None or done.settings == self.settings:
            return done
        with wait_and_hold(self.folder / LEASE):
            return keep_settings(done, self.settings)
