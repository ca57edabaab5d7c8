"""Access to the shards of prepared text, after a check that they are what was written."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcpt.atomic_files import DamagedFileError
from dcpt.errors import InputError
from dcpt.file_hashes import file_sha256, remembered_digest
from dcpt.text.manifest import (
    CLEAN_FOLDER,
    RECORD_FILE,
    REMEDY,
    SPLITS,
    Manifest,
    Overlap,
    Prepared,
    Split,
    SplitCounts,
    read_manifest,
)
from dcpt.text.near_duplicates.records import CleanText


def open_shard(folder: Path, channel: str, split: Split) -> NDArray[np.unsignedinteger]:
    """Map the token ids of one split of one channel, shape (tokens,), read only.

    The file's hash is checked; it is computed once for every state of the file on a machine.

    Raises:
        DamagedFileError: If the file is not the one that was written.
        InputError: If the channel was not prepared.
    """
    manifest = read_manifest(folder / channel)
    if manifest is None:
        raise InputError(f"{folder}: channel {channel} is not prepared here; run `dcpt prepare`")
    path = _check_shard(folder / channel, manifest, split)
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, dtype=np.dtype(manifest.dtype))
    return np.memmap(path, dtype=np.dtype(manifest.dtype), mode="r")


def open_evaluated(prepared: Prepared, channel: str) -> NDArray[np.unsignedinteger]:
    """Map the ids of the validation text that losses are measured on, as :func:`open_shard`."""
    counts, manifest = prepared.evaluated(channel), prepared.channels[channel]
    if counts is manifest.valid:
        return open_shard(prepared.folder, channel, "valid")
    path = prepared.folder / CLEAN_FOLDER / channel / "valid.bin"
    _check_file(path, counts, manifest.dtype, f"the one in {RECORD_FILE}")
    return np.memmap(path, dtype=np.dtype(manifest.dtype), mode="r")


def is_clean_whole(prepared: Prepared) -> bool:
    """Whether the clean validation text of all channels is that which was written."""
    try:
        for channel in prepared.channels:
            open_evaluated(prepared, channel)
    except (InputError, OSError):
        return False
    return True


def largest_id(folder: Path, channel: str) -> int:
    """The largest token id in both shards of a channel; read once per state of the files.

    Raises:
        DamagedFileError: As :func:`open_shard`.
        InputError: As :func:`open_shard`.
    """
    files = [folder / channel / f"{split}.bin" for split in SPLITS]
    shards = [open_shard(folder, channel, split) for split in SPLITS]
    largest = remembered_digest(
        "largest id", files, lambda: str(max(int(shard.max()) for shard in shards if len(shard)))
    )
    return int(largest)


def is_whole(place: Path, manifest: Manifest) -> bool:
    """Whether the shards and the document hashes of a channel are those that were written."""
    try:
        for split in SPLITS:
            _check_shard(place, manifest, split)
        hashes = _read_document_hashes(place)
    except (InputError, OSError):
        return False
    return all(
        len(hashes[split]) == counts.documents - counts.repeated_documents
        for split, counts in (("train", manifest.train), ("valid", manifest.valid))
    )


def _check_shard(place: Path, manifest: Manifest, split: Split) -> Path:
    path = place / f"{split}.bin"
    counts = manifest.train if split == "train" else manifest.valid
    _check_file(path, counts, manifest.dtype, "the one in manifest.json")
    return path


def _check_file(path: Path, counts: SplitCounts | CleanText, dtype: str, recorded: str) -> None:
    """Check that a shard is there, and that size and hash are the recorded ones."""
    if not path.is_file():
        raise InputError(f"{path}: this file is missing; {REMEDY}")
    expected = counts.tokens * np.dtype(dtype).itemsize
    if path.stat().st_size != expected:
        reason = f"{path.stat().st_size} bytes where {expected} were written"
        raise DamagedFileError(path, reason, REMEDY)
    if file_sha256(path) != counts.sha256:
        raise DamagedFileError(path, f"its SHA-256 is not {recorded}", REMEDY)


def _read_document_hashes(place: Path) -> dict[str, NDArray[np.uint64]]:
    path = place / "documents.npz"
    try:
        with path.open("rb") as file, np.load(file) as archive:  # checks the archive's checksums
            return {split: archive[split] for split in SPLITS}
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds
        raise DamagedFileError(path, f"it cannot be read: {error}", REMEDY) from error


def count_shared(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> int:
    """Count the hashes that are in both of two arrays of distinct hashes."""
    return len(np.intersect1d(first, second, assume_unique=True))


def count_overlaps(places: Mapping[str, Path]) -> tuple[Overlap, ...]:
    """Compare the documents of every pair of channels.

    Args:
        places: The folder of each channel.

    Returns:
        One record for each pair that shares any.
    """
    hashes = {name: _read_document_hashes(place) for name, place in places.items()}
    overlaps = []
    for first, second in combinations(hashes, 2):
        a, b = hashes[first], hashes[second]
        shared = np.intersect1d(
            np.union1d(a["train"], a["valid"]), np.union1d(b["train"], b["valid"])
        )
        leaked = np.union1d(
            np.intersect1d(a["train"], b["valid"]), np.intersect1d(a["valid"], b["train"])
        )
        if len(shared):
            overlaps.append(
                Overlap(
                    channels=(first, second),
                    documents=len(shared),
                    trained_and_validated=len(leaked),
                )
            )
    return tuple(overlaps)
