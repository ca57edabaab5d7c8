"""The warmup in tokens, resolved once for a study: ``resolved.json`` beside its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from dcpt.atomic_files import DamagedFileError, read_record, set_aside, write_record
from dcpt.errors import InputError
from dcpt.runs.identity import Frozen, RunConfig
from dcpt.runs.records import first_problem
from dcpt.study.folder import StudyFolder

REMEDY = "`dcpt run-grid` sets it aside and reads the warmup from the stored runs"


class Warmup(Frozen):
    """A warmup in tokens.

    Attributes:
        share: The share of a trunk that it was; None where it was given in tokens.
        of_tokens: The length of that trunk; None where that is not known any more.
        warmup_tokens: What it is in tokens.
    """

    share: float | None
    of_tokens: int | None = None
    warmup_tokens: int


def read_warmup(folder: StudyFolder, share: float, alike: Sequence[RunConfig]) -> Warmup | None:
    """The warmup that a share was resolved to before runs were trained.

    Args:
        folder: The study.
        share: The share that is asked for now.
        alike: Stored trunks of the study. Where ``resolved.json`` is damaged or gone, the warmup
            is theirs: with another one they would all be trained again.

    Returns:
        The warmup; None if this share was not resolved yet.

    Raises:
        InputError: If the file is damaged and the stored trunks have different warmups.
    """
    try:
        known = _read(folder)
    except DamagedFileError:
        known = None
    if known is not None:
        return known if known.share == share else None
    found = sorted({config.identity.warmup_tokens for config in alike})
    if len(found) > 1:
        raise InputError(
            f"{_file(folder)}: the file is damaged or gone, and the stored runs have warmups of "
            f"{', '.join(map(str, found))} tokens; give training.warmup_tokens in the study"
        )
    return Warmup(share=share, warmup_tokens=found[0]) if found else None


def damaged_warmup(folder: StudyFolder) -> list[str]:
    """A sentence if ``resolved.json`` is damaged."""
    try:
        _read(folder)
    except DamagedFileError as damaged:
        return [str(damaged)]
    return []


def write_warmup(folder: StudyFolder, warmup: Warmup) -> None:
    """Keep a warmup that was resolved from a share; a damaged file is set aside."""
    try:
        known = _read(folder)
    except DamagedFileError as damaged:
        set_aside(damaged.path)
        known = None
    if warmup.share is not None and known != warmup:
        write_record(_file(folder), {"warmup": warmup.model_dump()})


def _read(folder: StudyFolder) -> Warmup | None:
    """What ``resolved.json`` holds, None if there is none.

    Raises:
        DamagedFileError: If it is not as dcpt writes it.
    """
    record = read_record(_file(folder), REMEDY)
    if record is None or record.keys() == {"weights"}:  # of a study whose warmup is in tokens
        return None
    try:
        return Warmup.model_validate(record.get("warmup"))
    except ValidationError as error:
        raise DamagedFileError(_file(folder), first_problem(error), REMEDY) from None


def _file(folder: StudyFolder) -> Path:
    return folder.path / "resolved.json"
