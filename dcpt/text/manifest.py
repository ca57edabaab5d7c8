"""What was prepared: its records, the checks of its files, and access to the shards."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dcpt.atomic_files import DamagedFileError, read_json
from dcpt.errors import InputError
from dcpt.file_hashes import file_sha256
from dcpt.text.input_files import InputFile
from dcpt.text.near_duplicates.records import CleanText, NearDuplicates
from dcpt.text.settings import TextSettings

Split = Literal["train", "valid"]
SPLITS: tuple[Split, Split] = ("train", "valid")

TOKENIZER_FOLDER = "tokenizer"
"""Next to the folders of the channels, so no channel may have this name."""

CLEAN_FOLDER = "_clean"
"""Next to the folders of the channels, whose names cannot begin so: validation text without the
documents that have near-copies in training text."""

RECORD_FILE = "prepared.json"
"""The record of a prepared folder."""

REMEDY = "run `dcpt prepare` again"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitCounts(_Record):
    """One split of one channel.

    Attributes:
        documents: Documents that hold more than white space.
        repeated_documents: Those of them that occurred before in the same split.
        tokens: Tokens in the shard, one end of text for each document included.
        text_bytes: UTF-8 bytes of the documents, to compute losses in bits per byte.
        sha256: Hash of the shard file.
        unique_tokens: Tokens of its distinct documents; None where an earlier version prepared it.
    """

    documents: int
    repeated_documents: int
    tokens: int
    text_bytes: int
    sha256: str
    unique_tokens: int | None = None


class Manifest(_Record):
    """One prepared channel: what is in its shards, from what, and by which rule.

    Attributes:
        channel: Its name.
        key: Hash of all that decides the shards; the same key is never prepared again.
        source: Where the text came from, as written.
        is_trained: Whether runs can be trained on it; without, it has validation text alone.
        valid_source: Where the validation text came from, None where it was held out by hash.
        text_field: The field that held the text.
        split_rule: A description of the split.
        max_tokens: Cap on training tokens, None if all the text was read.
        dtype: Type of the ids in both shards, ``uint16`` or ``uint32``.
        vocab_size: Ids lie below it.
        eos_id: Id behind each document.
        bos_id: Id before each document, None if there is none.
        spelled_out: How often the text spells out special tokens, which are read as characters.
        tokenizer_sha256: Hash of the ``tokenizer.json`` that made the ids.
        empty_documents: Documents of white space only; they are in no shard.
        documents_in_both_splits: Distinct documents in training and in validation.
        train: Training split.
        valid: Validation split.
        inputs: The files read, in order; none for a hub dataset.
    """

    channel: str
    key: str
    source: str
    valid_source: str | None
    text_field: str
    split_rule: str
    max_tokens: int | None
    dtype: Literal["uint16", "uint32"]
    vocab_size: int
    eos_id: int
    tokenizer_sha256: str
    empty_documents: int
    documents_in_both_splits: int
    train: SplitCounts
    valid: SplitCounts
    inputs: tuple[InputFile, ...]
    bos_id: int | None = None
    spelled_out: dict[str, int] = {}
    is_trained: bool = True


class Overlap(_Record):
    """Distinct documents that two channels share (white space aside).

    Attributes:
        channels: The two channels.
        documents: Shared by them in any split.
        trained_and_validated: Those that one trains on while the other validates on them.
    """

    channels: tuple[str, str]
    documents: int
    trained_and_validated: int


class Prepared(_Record):
    """A folder of prepared channels.

    Attributes:
        folder: Where it is.
        channels: Manifest of each channel.
        tokenizer_name: Which tokenizer was asked for.
        tokenizer_files: SHA-256 of each file of the tokenizer's folder; empty where an older
            version prepared the text.
        overlaps: One for each pair of channels that shares documents.
        near_duplicates: What the screen for near-duplicates found; None where an earlier version
            prepared the text.
        settings: The study's settings that it was prepared with; None where an earlier version
            prepared it, or a program that gave none.
        warnings: What a person should know, a sentence each.
        did_nothing: Whether all of it was there already.
    """

    folder: Path = Field(exclude=True)
    channels: dict[str, Manifest]
    tokenizer_name: str
    tokenizer_files: dict[str, str] = {}
    overlaps: tuple[Overlap, ...]
    near_duplicates: NearDuplicates | None = None
    settings: TextSettings | None = None
    warnings: tuple[str, ...]
    did_nothing: bool = Field(default=False, exclude=True)

    @property
    def tokenizer_path(self) -> Path:
        """An ordinary tokenizer folder, as ``AutoTokenizer.from_pretrained`` takes it."""
        return self.folder / TOKENIZER_FOLDER

    def evaluated(self, channel: str) -> SplitCounts | CleanText:
        """The validation text that losses are measured on: without near-copies of training text."""
        clean = {} if self.near_duplicates is None else self.near_duplicates.clean
        return clean.get(channel, self.channels[channel].valid)

    def bytes_per_token(self, channel: str) -> float:
        """Bytes of text per validation token: nats/token over this, over ln 2, is bits/byte."""
        evaluated = self.evaluated(channel)
        return evaluated.text_bytes / evaluated.tokens

    def unique_tokens(self, channel: str) -> int:
        """Training tokens of a channel's distinct documents; near-copies count once, if known."""
        train = self.channels[channel].train
        screened = {} if self.near_duplicates is None else self.near_duplicates.unique_tokens
        return screened.get(channel) or train.unique_tokens or train.tokens


def load_prepared(folder: Path) -> Prepared:
    """Read the record of a prepared folder, and check its manifests and its tokenizer.

    Raises:
        DamagedFileError: If one of them is not what was written.
        InputError: If nothing was prepared there, or a change of it was interrupted.
    """
    prepared = _load_record(folder)
    if prepared is None:
        raise InputError(f"{folder}: no prepared text here; run `dcpt prepare` first")
    for name, manifest in prepared.channels.items():
        if _load_manifest(folder / name) != manifest:
            raise InputError(
                f"{folder}: channel {name} is not the one that was recorded (an interrupted "
                f"change?); {REMEDY}"
            )
    check_tokenizer(prepared)
    return prepared


def check_tokenizer(prepared: Prepared) -> None:
    """Check that the files of the tokenizer are those that were recorded.

    Raises:
        DamagedFileError: If one is not.
        InputError: If one is missing.
    """
    recorded = prepared.tokenizer_files
    for manifest in prepared.channels.values() if not recorded else ():  # of an older version
        recorded = {"tokenizer.json": manifest.tokenizer_sha256}
    for name, sha256 in recorded.items():
        path = prepared.tokenizer_path / name
        if not path.is_file():
            raise InputError(f"{path}: this file is missing; {REMEDY}")
        if file_sha256(path) != sha256:
            raise DamagedFileError(path, "its SHA-256 is not the recorded one", REMEDY)
    path = prepared.tokenizer_path / "tokenizer_config.json"
    if not isinstance(read_json(path, REMEDY), dict):
        raise DamagedFileError(path, "it holds no JSON object", REMEDY)


def read_record(folder: Path) -> Prepared | None:
    """Read ``prepared.json``; None if there is none that can be read."""
    try:
        return _load_record(folder)
    except (InputError, OSError):
        return None


def read_manifest(channel_folder: Path) -> Manifest | None:
    """Read a channel's manifest; None if there is none that can be read."""
    try:
        return _load_manifest(channel_folder)
    except (InputError, OSError):
        return None


def _load_record(folder: Path) -> Prepared | None:
    path = folder / RECORD_FILE
    content = read_json(path, REMEDY)
    if content is None:
        return None
    try:
        return Prepared.model_validate({**content, "folder": folder})
    except (TypeError, ValueError) as error:  # pydantic's errors are ValueErrors
        raise DamagedFileError(path, "it is no record of prepared text", REMEDY) from error


def _load_manifest(channel_folder: Path) -> Manifest | None:
    path = channel_folder / "manifest.json"
    content = read_json(path, REMEDY)
    if content is None:
        return None
    try:
        return Manifest.model_validate(content)
    except ValueError as error:
        raise DamagedFileError(path, "it is no manifest of a channel", REMEDY) from error
