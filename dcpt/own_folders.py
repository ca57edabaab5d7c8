"""A marker file tells folders that dcpt made from a person's own."""

from __future__ import annotations

import os
from collections.abc import Collection, Set
from pathlib import Path

from dcpt.atomic_files import DamagedFileError, read_json
from dcpt.errors import InputError

MARKER = ".made-by-dcpt"
"""Hidden, so that no folder of texts is read with it."""


def mark_folder(folder: Path) -> None:
    """Mark an existing folder as made by dcpt."""
    # Written in place: the name is what counts, and it must never be missing next to other files.
    (folder / MARKER).write_text(
        "dcpt made this folder and replaces what it wrote here. Keep your own files elsewhere.\n",
        encoding="utf-8",
    )


def is_marked(folder: Path) -> bool:
    """Whether dcpt made a folder."""
    return (folder / MARKER).is_file()


def check_folder(folder: Path, names: Collection[str], record: str, keys: Set[str]) -> None:
    """Refuse a folder for our files where a file of such a name is a person's.

    A folder is ours if it has the marker, or if it holds our record (folders of versions that
    wrote no marker). Files of other names may lie there and stay.

    Args:
        folder: The folder; it need not exist.
        names: The files that are going to be written or replaced.
        record: The JSON file among them by which an unmarked folder is known.
        keys: Keys that our record has.

    Raises:
        InputError: If one of the files is there and the folder is not ours.
    """
    in_the_way = [name for name in names if os.path.lexists(folder / name)]
    if in_the_way and not is_marked(folder) and not _holds_record(folder / record, keys):
        raise InputError(
            f"{folder / in_the_way[0]}: dcpt writes a file of this name and did not write this "
            "one; choose another folder with --out"
        )


def _holds_record(path: Path, keys: Set[str]) -> bool:
    try:
        content = read_json(path)
    except (DamagedFileError, OSError):
        return False
    return isinstance(content, dict) and content.keys() >= keys
