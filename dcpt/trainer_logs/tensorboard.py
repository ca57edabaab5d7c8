"""Folders that TensorBoard reads: scalars in ``events.out.tfevents.*`` files.

A file is a list of records: their length (8 bytes), a checksum of it (4), the content and its
checksum (4). The content is an ``Event`` with ``step`` (field 2) and ``summary`` (5). Its values
(1) have ``tag`` (1) and ``simple_value`` (2), or a ``tensor`` (8) of one number. A folder is a run,
as in TensorBoard; its files are read in the order of their names, which hold the time of writing.

Source: https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto
(``event.proto``, ``summary.proto``, ``tensor.proto``) and
https://www.tensorflow.org/tutorials/load_data/tfrecord, checked with tensorboard 2.21.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from dcpt.errors import InputError
from dcpt.trainer_logs.protobuf import Field, as_bytes, as_float, as_signed, as_text, read_fields
from dcpt.trainer_logs.records import Format, LogBuilder

_FLOAT, _DOUBLE = 1, 2
"""Types of a tensor's numbers in ``types.proto``."""


def _records(path: Path) -> Iterator[bytes]:
    """The contents of the records; the last one may be torn."""
    data = path.read_bytes()
    place = 0
    while place + 12 <= len(data):
        (size,) = struct.unpack_from("<Q", data, place)
        if place + 16 + size > len(data):
            return
        yield data[place + 12 : place + 12 + size]
        place += 16 + size


def _read_event(data: bytes) -> tuple[int, list[tuple[str, float]]]:
    """The step of an event and its scalars."""
    step, scalars = 0, []
    for number, value in read_fields(data):
        if number == 2:
            step = as_signed(value)
        elif number == 5:
            for inner, summary_value in read_fields(as_bytes(value)):
                if inner == 1:
                    scalars += _read_scalar(as_bytes(summary_value))
    return step, scalars


def _read_scalar(data: bytes) -> list[tuple[str, float]]:
    """The tag and number of a summary's value; empty for images, texts and histograms."""
    fields: dict[int, Field] = dict(read_fields(data))
    if 1 not in fields:
        return []
    if 2 in fields:
        return [(as_text(fields[1]), as_float(fields[2]))]
    number = _read_tensor(as_bytes(fields[8])) if 8 in fields else None
    return [] if number is None else [(as_text(fields[1]), number)]


def _read_tensor(data: bytes) -> float | None:
    """The number of a tensor without dimensions; None for other tensors."""
    fields: dict[int, Field] = dict(read_fields(data))
    kind = {_FLOAT: "<f", _DOUBLE: "<d"}.get(as_signed(fields.get(1, 0)))
    if kind is None or as_bytes(fields.get(2, b"")):
        return None
    content = as_bytes(fields.get(4, fields.get(5 if kind == "<f" else 6, b"")))
    return float(struct.unpack(kind, content)[0]) if len(content) == struct.calcsize(kind) else None


def _read(folder: Path) -> Iterator[tuple[str | None, LogBuilder]]:
    log = LogBuilder()
    for path in sorted(folder.glob("*tfevents*")):
        try:
            for data in _records(path):
                step, scalars = _read_event(data)
                if scalars:
                    log.add(step, scalars)
        except ValueError as error:
            raise InputError(
                f"{path} is damaged ({error}); move it away, or copy it again"
            ) from None
    yield None, log


FORMAT = Format(
    "TensorBoard",
    ("*tfevents*",),
    lambda path, head: "tfevents" in path.name,
    _read,
    of_folder=True,
)
