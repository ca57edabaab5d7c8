"""``recommendation.json`` and ``verification.json``: written whole, read back as records."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from dcpt.decide.records import Recommendation, Verification
from dcpt.errors import InputError

Record = TypeVar("Record", Recommendation, Verification)


def to_json(record: Recommendation | Verification, path: str | Path) -> Path:
    """Write a record, replacing the file in one step.

    Args:
        record: A recommendation or a verification.
        path: The file to write.

    Returns:
        The path.
    """
    place = Path(path)
    half_written = place.with_name(f".{place.name}.{os.getpid()}")
    half_written.write_bytes(TypeAdapter(type(record)).dump_json(record, indent=1))
    os.replace(half_written, place)
    return place


def from_json(path: str | Path, kind: type[Record]) -> Record:
    """Read a record that :func:`to_json` wrote.

    Args:
        path: The file.
        kind: :class:`Recommendation` or :class:`Verification`.

    Raises:
        InputError: If the file is missing or is no such record.
    """
    name = kind.__name__.lower()
    place = Path(path)
    if not place.is_file():
        raise InputError(f"{place} does not exist: no {name} has been written there yet")
    try:
        record: Record = TypeAdapter(kind).validate_json(place.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"{place} is not a {name} as dcpt writes it: {where}: {first['msg'].lower()}; make it "
            "anew"
        ) from None
    return record
