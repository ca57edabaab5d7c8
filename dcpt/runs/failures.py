"""What a run that failed leaves in its folder."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from dcpt.atomic_files import write_record
from dcpt.runs.folders import RunFolder

ErrorKind = Literal[
    "not_finite",
    "out_of_memory",
    "device",
    "disk",
    "killed",
    "hung",
    "input",
    "lease_lost",
    "other",
]
"""Why a run failed, in ``error.json``; files of older versions do not have it. A run whose lease
was lost goes on in another process and has no such file."""


def write_error(folder: RunFolder, message: str, trace: str, kind: ErrorKind = "other") -> str:
    """Write ``error.json`` to a run's folder; returns the message, even if the disk is full."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_record(
            folder.path / "error.json", {"message": message, "traceback": trace, "kind": kind}
        )
    except OSError as full:  # a full disk takes the error file too
        message += f" (and error.json could not be written: {full})"
    return message


def add_stacks(folder: RunFolder, stacks: str) -> None:
    """Add the stacks of a process that made no progress to ``stacks.txt`` in a run's folder."""
    with suppress(OSError):  # a full disk must not keep the other runs from training
        folder.path.mkdir(parents=True, exist_ok=True)
        with (folder.path / "stacks.txt").open("a", encoding="utf-8") as file:
            file.write(stacks + "\n")
