"""Write and read ``recommendation.json`` and ``verification.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from dcpt.atomic_files import read_record, write_record
from dcpt.decide.records import Recommendation, Verification
from dcpt.errors import InputError

REMEDY = "run `dcpt recommend` again, and `dcpt verify` if it was verified"

Record = TypeVar("Record", Recommendation, Verification)


def write_recommendation(recommendation: Recommendation, folder: str | Path) -> Path:
    """Write ``recommendation.json`` into a folder; returns its path."""
    return _write(recommendation, Path(folder) / "recommendation.json")


def read_recommendation(folder: str | Path) -> Recommendation:
    """Read ``recommendation.json`` of a folder.

    Raises:
        InputError: If there is none, or it is not as dcpt writes it.
    """
    place = Path(folder) / "recommendation.json"
    if not place.exists():
        raise InputError(f"{place} does not exist: run `dcpt recommend` first")
    return _read(place, Recommendation)


def write_verification(verification: Verification, folder: str | Path) -> Path:
    """Write ``verification.json`` into a folder; returns its path."""
    return _write(verification, Path(folder) / "verification.json")


def read_verification(folder: str | Path) -> Verification | None:
    """Read ``verification.json`` of a folder; None if nothing was verified there yet.

    Raises:
        InputError: If it is not as dcpt writes it.
    """
    place = Path(folder) / "verification.json"
    return _read(place, Verification) if place.exists() else None


def _write(record: Recommendation | Verification, place: Path) -> Path:
    write_record(place, json.loads(TypeAdapter(type(record)).dump_json(record)))
    return place


def _read(place: Path, kind: type[Record]) -> Record:
    found = read_record(place, REMEDY)
    try:
        record: Record = TypeAdapter(kind).validate_json(json.dumps(found))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"{place} is not a {kind.__name__.lower()} as dcpt writes it: {where}: "
            f"{first['msg'].lower()}; {REMEDY}"
        ) from None
    return record
