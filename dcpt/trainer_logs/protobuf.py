"""The wire format of protocol buffers: fields of a message by number.

TensorBoard and W&B write protocol buffers. Reading a handful of their fields needs this page and
none of the two packages, so a table can be made on a machine that has neither.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

Field = int | bytes
"""A varint, or the bytes of anything else: text, a message, or a fixed number (little endian)."""


def read_fields(data: bytes) -> Iterator[tuple[int, Field]]:
    """The fields of a message in their order, as (number, value).

    Raises:
        ValueError: If the bytes are not a message.
    """
    place, end = 0, len(data)
    while place < end:
        key, place = _read_varint(data, place)
        kind = key & 7
        if kind == 0:
            value, place = _read_varint(data, place)
            yield key >> 3, value
            continue
        if kind == 2:
            size, place = _read_varint(data, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + size > end:
            raise ValueError("a field is longer than its message")
        yield key >> 3, data[place : place + size]
        place += size


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError("a number is not complete")
        byte = data[place]
        place += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, place
        shift += 7


def as_bytes(value: Field) -> bytes:
    """The bytes of a field that is no varint.

    Raises:
        ValueError: If it is one.
    """
    if isinstance(value, int):
        raise ValueError("a number where text or a message is expected")
    return value


def as_signed(value: Field) -> int:
    """A varint as int64.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(value, int):
        raise ValueError("text or a message where a number is expected")
    return value - (1 << 64) if value >= 1 << 63 else value


def as_text(value: Field) -> str:
    """A text field."""
    return as_bytes(value).decode("utf-8", errors="replace")


def as_float(value: Field) -> float:
    """A field of type float."""
    return float(struct.unpack("<f", as_bytes(value))[0])
