"""JSON Lines, and ``.json`` files of one array or record."""

from __future__ import annotations

import codecs
import json
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from dcpt.errors import InputError
from dcpt.text.documents import LONG_CHARACTERS, Document
from dcpt.text.long_records import read_long_record
from dcpt.text.record_text import Fault, Faults, Field
from dcpt.text.text_files import BLOCK, decode

LONG_LINE = 4 * LONG_CHARACTERS
"""A longer line of JSON, in bytes, is read in pieces."""

Found = tuple[str, Document | Fault]
"""The place of a record, and its document, a piece of it, or why it has none."""


def read_json(path: Path, raw: IO[bytes], stream: IO[bytes], field: Field) -> Iterator[Document]:
    """A ``.json`` file: one array or record over any lines, else JSON Lines.

    An array is read whole; JSON Lines are read line by line.
    """
    first = stream.readline(LONG_LINE)
    start = first.decode("utf-8-sig", errors="replace").lstrip()
    is_long = len(first) == LONG_LINE and not first.endswith(b"\n")
    if start[:1] not in ("[", "{") or (start[0] == "{" and (is_long or _is_json(start))):
        yield from read_json_lines(path, raw, stream, field, first)
        return
    text = decode(first + stream.read(), path)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: line {error.lineno}: not JSON ({error.msg}); write one array of objects, or "
            "one object a line in a .jsonl file"
        ) from error
    records = enumerate(found if isinstance(found, list) else [found], 1)
    position = raw.tell()
    yield from without_faults(
        (
            as_found(f"{path}: record {i}", _text_of(record, field), position)
            for i, record in records
        ),
        "record",
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def read_json_lines(
    path: Path, raw: IO[bytes], stream: IO[bytes], field: Field, first: bytes = b""
) -> Iterator[Document]:
    """JSON Lines: one record a line; a long one comes in pieces.

    Args:
        path: The file, for errors.
        raw: The file as it is on disk, whose position is reported.
        stream: Its content, decompressed.
        field: Where a record has its text.
        first: The beginning of the content, where it is read already.

    Raises:
        InputError: If lines hold no record with a text, once the file is read.
    """
    yield from without_faults(_read_lines(path, raw, stream, field, first), "line")


def _read_lines(
    path: Path, raw: IO[bytes], stream: IO[bytes], field: Field, first: bytes
) -> Iterator[Found]:
    number, line = 1, first or stream.readline(LONG_LINE)
    while line:
        place = f"{path}: line {number}"
        if len(line) >= LONG_LINE and not line.endswith(b"\n") and field.render is None:
            blocks = _blocks_of_line(line, stream)
            for piece in read_long_record(_decode(blocks), field.name):
                if isinstance(piece, Fault):
                    yield place, piece
                    deque(blocks, maxlen=0)  # the next line starts behind this one
                    break
                yield place, Document(piece, raw.tell(), place, more=True)
            else:
                yield place, Document("", raw.tell(), place)
        else:
            if not line.endswith(b"\n"):
                line += stream.readline()
            if not line.isspace():
                yield as_found(place, _text_of_line(line, field), raw.tell())
        number, line = number + 1, stream.readline(LONG_LINE)


def _blocks_of_line(start: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    block = start
    while block:
        yield block
        block = b"" if block.endswith(b"\n") else stream.readline(BLOCK)


def _decode(blocks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    for block in blocks:
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def _text_of_line(line: bytes, field: Field) -> str | Fault:
    """The text in a line of JSON, or what is wrong with the line."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        words = (
            f"not UTF-8 at byte {error.start} of the line (0x{line[error.start]:02x}); "
            "convert the file to UTF-8"
        )
        return Fault("utf-8", words)
    except json.JSONDecodeError as error:
        words = f"not JSON ({error.msg} at character {error.pos}); write one object a line"
        return Fault("json", words)
    return _text_of(record, field)


def _text_of(record: object, field: Field) -> str | Fault:
    if not isinstance(record, dict):
        what = type(record).__name__
        return Fault("object", f"a {what}, not an object; write one object a line")
    return field.text_of(record)


def as_found(place: str, text: str | Fault, position: int) -> Found:
    """A whole document, or why a record has none."""
    return place, text if isinstance(text, Fault) else Document(text, position, place)


def without_faults(found: Iterable[Found], noun: str) -> Iterator[Document]:
    """The documents up to the first record without a text; all faults are raised at the end.

    Args:
        found: The records in order.
        noun: What a record is called in the error.

    Raises:
        InputError: A sentence for each kind of fault.
    """
    faults = Faults()
    for place, document in found:
        if isinstance(document, Fault):
            faults.add(place, document)
        elif not faults.first:
            yield document
    if faults.first:
        raise InputError(faults.sentences(noun))
