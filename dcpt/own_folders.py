"""A marker file distinguishes folders created by dcpt from the user's own."""

from __future__ import annotations

import os
from collections.abc import Collection, Set
from pathlib import Path

from dcpt.atomic_files import DamagedFileError, read_json
from dcpt.errors import InputError

MARKER = ".made-by-dcpt"
"""Hidden, so that it is never read as text."""


def mark_folder(folder: Path) -> None:
    """Mark an existing folder as created by dcpt."""
    # Not atomic: only the name counts, and it must exist before other files do.
    (folder / MARKER).write_text(
        "dcpt made this folder and replaces what it wrote here. Keep your own files elsewhere.\n",
        encoding="utf-8",
    )


def is_marked(folder: Path) -> bool:
    """Whether dcpt created a folder."""
    return (folder / MARKER).is_file()


def check_folder(folder: Path, names: Collection[str], record: str, keys: Set[str]) -> None:
    """Refuse an output folder in which a file of the user would be replaced.

    A folder is dcpt's if it has the marker, or dcpt's record (folders of versions without marker).
    It may contain other files, which are kept.

    Args:
        folder: The folder; it need not exist.
        names: The files that will be written or replaced.
        record: The JSON file among them that identifies an unmarked folder.
        keys: Keys of that record.

    Raises:
        InputError: If one of the files exists and the folder is not dcpt's.
    """
    in_the_way = [name for name in names if os.path.lexists(folder / name)]
    if in_the_way and not is_marked(folder) and not _holds_record(folder / record, keys):
        raise InputError(
            f"{folder / in_the_way[0]}: dcpt writes a file of this name, but this file is not from "
            "dcpt; choose another folder with --out"
        )


def _holds_record(path: Path, keys: Set[str]) -> bool:
    try:
        content = read_json(path)
    except (DamagedFileError, OSError):
        return False
    return isinstance(content, dict) and content.keys() >= keys
