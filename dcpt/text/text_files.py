"""Text files: a whole file is one document, or a separator parts its documents."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dcpt.errors import InputError
from dcpt.text.documents import LONG_CHARACTERS, Document

BLOCK = 1 << 20
"""Bytes read at once."""


def read_text_file(
    path: Path, raw: IO[bytes], stream: IO[bytes], separator: str | None
) -> Iterator[Document]:
    """Read the documents of a text file; a long document comes in pieces.

    Args:
        path: The file, for errors.
        raw: The file as it is on disk, whose position is reported.
        stream: Its content, decompressed.
        separator: What parts documents, with the line breaks around it; None takes the file as one
            document.

    Raises:
        InputError: If the file is not UTF-8.
    """
    rest, started, number = "", False, 1
    for block in decode_blocks(path, stream):
        rest += block
        parts = [rest] if separator is None else rest.split(separator)
        rest = parts.pop()
        for part in parts:
            text = part if started else part.lstrip("\n")
            yield Document(text.rstrip("\n"), raw.tell(), f"{path}: document {number}")
            started, number = False, number + 1
        if len(rest) > LONG_CHARACTERS:
            piece = rest if separator is None else _before_an_end(rest, separator)
            rest = rest[len(piece) :]
            text = piece if started or separator is None else piece.lstrip("\n")
            if text:
                yield Document(text, raw.tell(), f"{path}: document {number}", more=True)
                started = True
    if separator is not None:
        rest = (rest if started else rest.lstrip("\n")).rstrip("\n")
    place = str(path) if separator is None else f"{path}: document {number}"
    yield Document(rest, raw.tell(), place)


def _before_an_end(text: str, separator: str) -> str:
    """A text without what may belong to a separator, and the line breaks before it."""
    return text[: len(text) - len(separator) + 1].rstrip("\n")


def decode(data: bytes, path: Path) -> str:
    """The text of a whole UTF-8 file, with or without a byte-order mark.

    Raises:
        InputError: As :func:`decode_blocks`.
    """
    return "".join(decode_blocks(path, io.BytesIO(data)))


def decode_blocks(path: Path, stream: IO[bytes]) -> Iterator[str]:
    """The text of a UTF-8 file, with or without a byte-order mark, in blocks.

    Raises:
        InputError: With the line and the byte where the file is not UTF-8.
    """
    pending, read_bytes, line = b"", 0, 1
    while True:
        block = stream.read(BLOCK)
        data = pending + block
        try:
            text, used = codecs.utf_8_decode(data, "strict", not block)
        except UnicodeDecodeError as error:
            line += data.count(b"\n", 0, error.start)
            raise InputError(
                f"{path}: line {line}, byte {read_bytes + error.start}: not UTF-8 "
                f"(0x{data[error.start]:02x}); convert the file to UTF-8"
            ) from error
        yield text.removeprefix("\ufeff") if read_bytes == 0 else text
        line += data.count(b"\n", 0, used)
        read_bytes, pending = read_bytes + used, data[used:]
        if not block:
            return
