"""Bases that are checkpoints: which weights they are, and whether these are still the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dcpt.errors import InputError
from dcpt.runs.identity import RunConfig
from dcpt.study.folder import StudyFolder
from dcpt.text.manifest import Prepared
from dcpt.text.shard_files import largest_id


def identify_checkpoint(
    label: str,
    model: str,
    folder: StudyFolder,
    prepared: Prepared,
    stored: Sequence[RunConfig],
) -> tuple[str, str]:
    """Identity of a checkpoint, and where it is.

    Args:
        label: The base's name in the study.
        model: Its folder or hub id, as the study has it.
        folder: The study.
        prepared: Its texts, whose tokenizer has to be the checkpoint's.
        stored: Configurations of the runs that are there.

    Raises:
        InputError: If it cannot be read, has another tokenizer, knows fewer ids than the text, has
            weights that are not finite, or changed in its place since runs started from it.
    """
    from dcpt.text.tokenizer import check_same_tokenizer
    from dcpt.training.checkpoints import (
        check_finite,
        check_ids,
        checkpoint_files,
        checkpoint_sha256,
        embedded_ids,
        locate_checkpoint,
    )

    path = locate_checkpoint(model, folder.path)
    place = f"bases.checkpoints.{label}: {path}"
    check_same_tokenizer(checkpoint_files(path)[0].parent, prepared.tokenizer_path, place, model)
    known = embedded_ids(path)
    if known is not None:
        largest = max(largest_id(prepared.folder, name) for name in prepared.channels)
        check_ids(largest, known, place)
    check_finite(path, place)
    base = f"weights:{checkpoint_sha256(path)}"
    _check_unchanged(label, model, base, stored)
    return base, path


def _check_unchanged(label: str, model: str, base: str, stored: Sequence[RunConfig]) -> None:
    """Refuse a checkpoint whose name stored trunks know with other weights only."""
    parts = Path(model).parts
    others = [
        config
        for config in stored
        if config.identity.kind == "trunk"
        and config.identity.base.startswith("weights:")  # others start from a state of a run
        and config.recorded.size == label
        and Path(config.recorded.base_path or "").parts[-len(parts) :] == parts
    ]
    if others and all(config.identity.base != base for config in others):
        raise InputError(
            f"bases.checkpoints.{label}: the files of {model} are not those that "
            f"{len(others)} stored runs started from; put the old files back, or give the new "
            "checkpoint a folder of its own"
        )
