"""The warmup in tokens, resolved once for a study: ``resolved.json`` beside its file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from dcpt.atomic_files import DamagedFileError, read_record, set_aside, write_record
from dcpt.errors import InputError
from dcpt.runs.identity import ChannelIdentity, Frozen, RunConfig
from dcpt.runs.records import first_problem
from dcpt.runs.stored import StoredRuns
from dcpt.study.folder import StudyFolder
from dcpt.study.schema import Study

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


def resolve_warmup(
    study: Study,
    folder: StudyFolder,
    stored: StoredRuns,
    channels: tuple[ChannelIdentity, ...],
    n_tokens: int,
) -> Warmup:
    """The study's warmup in tokens.

    A share is resolved once, so that a longer trunk is the same run.

    Args:
        study: The study.
        folder: Where it lives.
        stored: The runs that are there.
        channels: What its trunks read.
        n_tokens: Tokens of a trunk, whole steps.

    Raises:
        InputError: If it cannot be known, see :func:`read_warmup`.
    """
    training = study.training
    if training.warmup_tokens is not None:
        return Warmup(share=None, warmup_tokens=training.warmup_tokens)
    if training.warmup is None and study.bases.all_bring_moments:
        return Warmup(share=None, warmup_tokens=0)
    share = 0.01 if training.warmup is None else training.warmup
    trunks = [config for config in stored.configs if config.identity.kind == "trunk"]
    if trunks or stored.n_begun > len(stored.configs):  # what cannot be read may be a trunk
        alike = [trunk for trunk in trunks if _is_alike(trunk, study, channels)]
        known = read_warmup(folder, share, alike)
        if known is not None:
            return known
    # Until a trunk was begun nothing depends on what was resolved before.
    batch = training.batch_sequences * training.sequence_tokens
    tokens = max(math.ceil(share * n_tokens / batch) * batch, batch)
    return Warmup(share=share, of_tokens=n_tokens, warmup_tokens=tokens)


def _is_alike(stored: RunConfig, study: Study, channels: tuple[ChannelIdentity, ...]) -> bool:
    """Whether a stored trunk is of the study as it is now, but for base, rate and warmup."""
    identity, training = stored.identity, study.training
    return (
        identity.channels,
        identity.batch_sequences,
        identity.sequence_tokens,
        identity.warmup_ratio,
    ) == (channels, training.batch_sequences, training.sequence_tokens, training.warmup_ratio)


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
