"""Writes both shards of a channel, and the hashes of its documents."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import IO

import numpy as np

from dcpt.atomic_files import partial_path, replace_file
from dcpt.text.manifest import SPLITS, Split, SplitCounts
from dcpt.text.shard_files import count_shared
from dcpt.text.shards import EncodedBatch, EncodedParts, ShardWriter, SplitRule


class ChannelWriter:
    """Writes a channel.

    Args:
        place: The channel's folder.
        max_tokens: Cap on training tokens; None takes all.

    Attributes:
        empty_documents: Documents of white space only.
        spelled_out: How often the text spells out each special token.
    """

    def __init__(self, place: Path, max_tokens: int | None) -> None:
        self._place = place
        self._writers: dict[Split, ShardWriter] = {
            "train": ShardWriter(place, "train", max_tokens),
            "valid": ShardWriter(place, "valid", None),
        }
        self._long: _LongIds | None = None
        self.empty_documents = 0
        self.spelled_out: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether the cap on training tokens is reached."""
        return self._writers["train"].full

    def write(self, batch: EncodedBatch | EncodedParts, rule: SplitRule) -> None:
        """Add a batch of documents, or parts of a long one."""
        self.spelled_out.update(batch.spelled_out)
        if isinstance(batch, EncodedParts):
            self._write_parts(batch, rule)
            return
        for split, encoded in batch.splits.items():
            self._writers[split].write(encoded)
        self.empty_documents += batch.empty_documents

    def _write_parts(self, parts: EncodedParts, rule: SplitRule) -> None:
        """Its end decides the side of a long document, so its ids wait in a file of their own."""
        self._long = self._long or _LongIds(self._place)
        self._long.add(parts)
        if parts.ends is None:
            return
        long, self._long = self._long, None
        with closing(long):
            if parts.ends.empty:
                self.empty_documents += 1
                return
            value = parts.ends.value()
            long.file.seek(0)
            self._writers[rule.side(value)].write_long(
                value, long.file, long.tokens, long.text_bytes
            )

    def finish(self) -> tuple[dict[Split, SplitCounts], int]:
        """Bring the files to disk; returns the counts of each split, and how many both share."""
        finished = {split: self._writers[split].finish() for split in SPLITS}
        hashes = {split: distinct for split, (_, distinct) in finished.items()}
        path = self._place / "documents.npz"
        with replace_file(path) as partial, partial.open("wb") as file:
            np.savez(file, train=hashes["train"], valid=hashes["valid"])
        counts = {split: found for split, (found, _) in finished.items()}
        return counts, count_shared(hashes["train"], hashes["valid"])

    def close(self) -> None:
        """Close all files, however far they came."""
        for writer in self._writers.values():
            writer.close()
        if self._long is not None:
            self._long.close()


class _LongIds:
    """The ids of a long document, on disk until it is known where they go."""

    def __init__(self, place: Path) -> None:
        self._path = partial_path(place / "train.bin")
        self.file: IO[bytes] = self._path.open("w+b")
        self.tokens = self.text_bytes = 0

    def add(self, parts: EncodedParts) -> None:
        ids = parts.ids
        self.file.write(ids.astype(ids.dtype.newbyteorder("<"), copy=False).tobytes())
        self.tokens += len(ids)
        self.text_bytes += parts.text_bytes

    def close(self) -> None:
        self.file.close()
        self._path.unlink(missing_ok=True)
