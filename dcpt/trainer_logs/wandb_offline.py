"""Offline runs of W&B: ``wandb/offline-run-*/run-<id>.wandb``.

The file is a log of LevelDB after a header of 7 bytes: blocks of 32 KiB that hold fragments, each
with a checksum (4 bytes), its length (2) and its kind (1). Joined fragments are a ``Record``:
``history`` (field 2) holds items with ``key`` (1), ``nested_key`` (2) and ``value_json`` (16),
``run`` (17) the id (1), the configuration (4) and the display name (8), ``config`` (5) later
changes of the configuration.

The step is ``_step``, the number that ``wandb.log`` counts or was given.

Source: ``wandb/proto/wandb_internal.proto`` and ``wandb/sdk/internal/datastore.py`` of
https://github.com/wandb/wandb, and https://github.com/google/leveldb/blob/main/doc/log_format.md,
checked with wandb 0.31.0.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcpt.errors import InputError
from dcpt.trainer_logs.protobuf import as_bytes, as_signed, as_text, read_fields
from dcpt.trainer_logs.records import Format, LogBuilder

_HEADER = b":W&B"
_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _CONFIG, _RUN = 2, 5, 17


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a file; the last one may be torn."""
    place, parts = 7, b""
    while place + 7 <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < 7:
            place += left
            continue
        size, kind = struct.unpack_from("<HB", data, place + 4)
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            raise ValueError(f"unknown kind {kind} of a record")
        content = data[place + 7 : place + 7 + size]
        if len(content) < size:
            return
        place += 7 + size
        parts = content if kind in (_FULL, _FIRST) else parts + content
        if kind in (_FULL, _LAST):
            yield parts


def _read_items(data: bytes, number: int) -> Iterator[tuple[list[str], Any]]:
    """Keys and values of the items in a message's field."""
    for field, item in read_fields(data):
        if field != number:
            continue
        keys, text = [], "null"
        for inner, value in read_fields(as_bytes(item)):
            if inner in (1, 2):
                keys.append(as_text(value))
            elif inner == 16:
                text = as_text(value)
        yield [key for key in keys if key], json.loads(text)


def _flatten(keys: list[str], value: Any) -> Iterator[tuple[str, Any]]:
    """Values by dotted name, as W&B shows them; numbers that are not finite are written as text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten([*keys, str(key)], inner)
    else:
        name = ".".join(keys)
        yield name, float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def _add_history(log: LogBuilder, data: bytes) -> None:
    values = [pair for keys, value in _read_items(data, 1) for pair in _flatten(keys, value)]
    step = next((value for name, value in values if name == "_step"), None)
    for field, value in read_fields(data):
        if field == 2:  # HistoryStep; step 0 is an empty message
            found = dict(read_fields(as_bytes(value)))
            step = as_signed(found.get(1, 0))
    if isinstance(step, int):
        log.add(step, values)


def _add_run(log: LogBuilder, data: bytes) -> str | None:
    """The configuration of a run, and its name: what W&B shows, or else its id."""
    names: dict[int, str] = {}
    for field, value in read_fields(data):
        if field in (1, 8):
            names[field] = as_text(value)
        elif field == 4:
            _add_config(log, as_bytes(value))
    return names.get(8) or names.get(1)


def _add_config(log: LogBuilder, data: bytes) -> None:
    for keys, value in _read_items(data, 1):
        if keys[:1] != ["_wandb"]:
            log.config.update(_flatten(keys, value))


def _read(path: Path) -> Iterator[tuple[str | None, LogBuilder]]:
    log, run = LogBuilder(), None
    try:
        for record in _records(path.read_bytes()):
            for field, value in read_fields(record):
                if field == _HISTORY:
                    _add_history(log, as_bytes(value))
                elif field == _CONFIG:
                    _add_config(log, as_bytes(value))
                elif field == _RUN:
                    run = _add_run(log, as_bytes(value)) or run
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({error}); copy it again, or sync the run and export it as CSV"
        ) from None
    yield run, log


FORMAT = Format(
    "W&B offline run",
    ("*.wandb",),
    lambda path, head: path.suffix == ".wandb" and head.startswith(_HEADER.decode()),
    _read,
)
