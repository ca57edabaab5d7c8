"""``recommendation.json`` and ``verification.json``: written whole, read back as records."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from dcpt.atomic_files import write_bytes
from dcpt.decide.records import Recommendation, Verification
from dcpt.errors import InputError

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
    if not place.is_file():
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
    return _read(place, Verification) if place.is_file() else None


def _write(record: Recommendation | Verification, place: Path) -> Path:
    write_bytes(place, TypeAdapter(type(record)).dump_json(record, indent=1))
    return place


def _read(place: Path, kind: type[Record]) -> Record:
    try:
        record: Record = TypeAdapter(kind).validate_json(place.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"{place} is not a {kind.__name__.lower()} as dcpt writes it: {where}: "
            f"{first['msg'].lower()}; make it anew"
        ) from None
    return record
