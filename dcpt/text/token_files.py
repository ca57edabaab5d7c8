"""Files of token ids that other tools wrote: Megatron's ``.bin`` and datatrove's ``.ds``.

Megatron-LM (also NeMo and GPT-NeoX) writes ``x.bin`` with ids and ``x.idx`` with their type, the
lengths of sequences, and the sequences at which documents end (``megatron.core.datasets.
indexed_dataset``). datatrove writes ``x.ds`` with ids of 2 or 4 bytes, ``x.ds.index`` with the ends
of documents, and ``x.ds.metadata`` with the tokenizer and the size of an id; nanotron's nanosets
are such files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.text.documents import Document
from dcpt.text.record_text import Fault, Faults
from dcpt.text.tokenizer import Vocabulary

_MAGIC = b"MMIDIDX\x00\x00"
_HEADER = struct.Struct("<9sQBQQ")
_MEGATRON_TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_PIECE = 250_000
"""Tokens of a long document that are decoded at once: about a megabyte of text."""

_BLOCK = 1 << 24
_FETCH = "fetch both files again, or write them again"


@dataclass(frozen=True)
class TokenFile:
    """The ids of many documents.

    Attributes:
        ids: Ids of all documents, mapped from the file, shape (tokens,).
        ends: Where each document ends in ``ids``, shape (documents,).
    """

    ids: NDArray[np.integer]
    ends: NDArray[np.int64]


def companions(path: Path) -> list[Path]:
    """The files that belong to a file of ids, those that exist."""
    names = {
        ".bin": [path.with_suffix(".idx")],
        ".ds": [path.with_name(f"{path.name}{end}") for end in (".index", ".metadata")],
    }
    return [other for other in names.get(path.suffix, []) if other.is_file()]


def is_companion(path: Path) -> bool:
    """Whether a file belongs to a file of ids."""
    if path.suffix == ".idx":
        return path.with_suffix(".bin").is_file()
    return path.name.endswith((".ds.index", ".ds.metadata"))


def read_token_file(path: Path, vocabulary: Vocabulary) -> Iterator[Document]:
    """Read the documents of a file of ids; a long document comes in pieces.

    The end-of-sequence token behind a document, and the beginning-of-sequence token before it, are
    left out, since every document of a shard has them. The former ends a document wherever it is.

    Args:
        path: The file.
        vocabulary: The tokenizer that wrote the ids.

    Raises:
        InputError: If the file and its index do not fit, or ids are not the tokenizer's.
    """
    file = _open_megatron(path) if path.suffix == ".bin" else _open_datatrove(path)
    tokenizer = vocabulary.load()
    faults, size = Faults(), path.stat().st_size
    _check_ends(path, file, vocabulary)
    ends = _all_ends(file, vocabulary.eos_id)
    for number, (first, last) in enumerate(pairwise([0, *ends.tolist()]), 1):
        place = f"{path}: document {number}"
        start, end = _without_marks(file.ids, first, last, vocabulary)
        wrong = _find_foreign(file.ids[start:end], vocabulary)
        if wrong is not None:
            faults.add(place, wrong)
        if faults.first:
            continue
        for at in range(start, max(end, start + 1), _PIECE):
            stop = min(at + _PIECE, end)
            ids = np.asarray(file.ids[at:stop], dtype=np.int64)
            text = tokenizer.decode(ids.tolist(), skip_special_tokens=False)
            position = size * stop // max(len(file.ids), 1)
            yield Document(text, position, place, more=stop < end, ids=ids)
    if faults.first:
        raise InputError(faults.sentences("document"))


def _all_ends(file: TokenFile, eos_id: int) -> NDArray[np.int64]:
    """The ends in the index, and those that the end-of-sequence token marks within documents."""
    found = [
        np.flatnonzero(file.ids[at : at + _BLOCK] == eos_id) + at + 1
        for at in range(0, len(file.ids), _BLOCK)
    ]
    return np.unique(np.concatenate([file.ends, *found]))


def _without_marks(
    ids: NDArray[np.integer], start: int, end: int, vocabulary: Vocabulary
) -> tuple[int, int]:
    if end > start and ids[end - 1] == vocabulary.eos_id:
        end -= 1
    if end > start and ids[start] == vocabulary.bos_id:
        start += 1
    return start, end


def _find_foreign(ids: NDArray[np.integer], vocabulary: Vocabulary) -> Fault | None:
    for at in range(0, len(ids), _PIECE):
        for found in (int(ids[at : at + _PIECE].min()), int(ids[at : at + _PIECE].max())):
            if not 0 <= found < vocabulary.size:
                return Fault(
                    "id",
                    f"holds the id {found}, and the study's tokenizer has the ids 0 to "
                    f"{vocabulary.size - 1}; set tokenizer to the one that wrote the file",
                )
    return None


def _check_ends(path: Path, file: TokenFile, vocabulary: Vocabulary) -> None:
    """Refuse documents that all end with a special token which is not the tokenizer's own end."""
    starts = np.concatenate([[0], file.ends[:-1]])
    last = np.unique(file.ids[file.ends[file.ends > starts] - 1])
    if len(file.ends) < 2 or len(last) != 1 or last[0] == vocabulary.eos_id:
        return
    if not 0 <= last[0] < vocabulary.size:  # named with the other ids that are not the tokenizer's
        return
    token = vocabulary.load().id_to_token(int(last[0]))
    if token in vocabulary.special_tokens:
        eos = vocabulary.load().id_to_token(vocabulary.eos_id)
        raise InputError(
            f"{path}: every document ends with {token} (id {last[0]}), and the study's tokenizer "
            f"ends documents with {eos} (id {vocabulary.eos_id}); set tokenizer to the one that "
            "wrote the file, or eos_token in its tokenizer_config.json"
        )


def _open_megatron(path: Path) -> TokenFile:
    index = path.with_suffix(".idx")
    content = _read_index(path, index)
    if len(content) < _HEADER.size:
        raise InputError(f"{index}: cut off ({len(content)} bytes); {_FETCH}")
    magic, version, code, n_sequences, n_ends = _HEADER.unpack_from(content)
    if magic != _MAGIC or version != 1:
        raise InputError(f"{index}: no index of Megatron (version 1); write both files again")
    if code not in _MEGATRON_TYPES:
        raise InputError(
            f"{index}: its ids have the type of number {code}, and ids are whole numbers; write "
            "both files again"
        )
    expected = _HEADER.size + 12 * n_sequences + 8 * n_ends
    if len(content) not in (expected, expected + n_sequences):  # modes of sequences may follow
        raise InputError(
            f"{index}: {len(content)} bytes, and {n_sequences} sequences with {n_ends - 1} "
            f"documents take {expected}; {_FETCH}"
        )
    dtype = np.dtype(_MEGATRON_TYPES[code])
    at = _HEADER.size
    lengths = np.frombuffer(content, "<i4", n_sequences, at).astype(np.int64)
    pointers = np.frombuffer(content, "<i8", n_sequences, at + 4 * n_sequences)
    documents = np.frombuffer(content, "<i8", n_ends, at + 12 * n_sequences)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    if (lengths < 0).any() or (pointers != ends[:-1] * dtype.itemsize).any():
        raise InputError(f"{index}: its sequences do not follow each other; write both files again")
    if (
        n_ends < 1
        or documents[0] != 0
        or documents[-1] != n_sequences
        or (np.diff(documents) < 0).any()
    ):
        raise InputError(
            f"{index}: its documents do not end with its {n_sequences} sequences; write both files "
            "again"
        )
    ids = _map_ids(path, dtype, int(ends[-1]), index)
    return TokenFile(ids, ends[documents[1:]])


def _open_datatrove(path: Path) -> TokenFile:
    index, metadata = (path.with_name(f"{path.name}{end}") for end in (".index", ".metadata"))
    content = _read_index(path, index)
    if len(content) % 8 or not content:
        raise InputError(f"{index}: {len(content)} bytes, no whole number of ends; {_FETCH}")
    ends = np.frombuffer(content, "<u8").astype(np.int64)
    if ends[0] < 0 or (np.diff(ends) < 0).any():
        raise InputError(f"{index}: its documents do not follow each other; write both files again")
    n_tokens = int(ends[-1])
    itemsize = _read_itemsize(metadata, n_tokens) if metadata.is_file() else None
    if itemsize is None:
        itemsize = path.stat().st_size // max(n_tokens, 1)
    if itemsize not in (2, 4):
        raise InputError(
            f"{path}: {path.stat().st_size} bytes for the {n_tokens} tokens of {index.name}, and "
            f"an id takes 2 or 4; {_FETCH}"
        )
    return TokenFile(_map_ids(path, np.dtype(f"<u{itemsize}"), n_tokens, index), ends)


def _read_itemsize(metadata: Path, n_tokens: int) -> int:
    """The size of an id in bytes: the first line is ``tokenizer|size``, the second the tokens."""
    try:
        first, second, *_ = metadata.read_text(encoding="utf-8").split("\n")
        itemsize, written = int(first.rpartition("|")[2]), int(second)
    except ValueError as error:
        raise InputError(
            f"{metadata}: no metadata of datatrove (tokenizer|size of an id, then the number of "
            "tokens); restore the file, or remove it"
        ) from error
    if written != n_tokens:
        raise InputError(
            f"{metadata}: {written} tokens, and the index has {n_tokens}; fetch all files again"
        )
    return itemsize


def _read_index(path: Path, index: Path) -> bytes:
    if not index.is_file():
        raise InputError(
            f"{path}: its index {index.name} is missing, without which documents have no ends; put "
            "it next to the file"
        )
    return index.read_bytes()


def _map_ids(
    path: Path, dtype: np.dtype[np.integer], n_tokens: int, index: Path
) -> NDArray[np.integer]:
    found, expected = path.stat().st_size, n_tokens * dtype.itemsize
    if found != expected:
        raise InputError(
            f"{path}: {found} bytes, and {index.name} tells of {n_tokens} ids of {dtype.itemsize} "
            f"bytes ({expected}); {_FETCH}"
        )
    return np.memmap(path, dtype, "r") if n_tokens else np.empty(0, dtype)
