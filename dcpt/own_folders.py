"""A marker file tells folders and files that dcpt wrote from a person's own."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from dcpt.atomic_files import DamagedFileError, read_json, write_json
from dcpt.errors import InputError
from dcpt.file_hashes import hash_file

MARKER = ".made-by-dcpt"
"""Hidden, so that no folder of texts is read with it."""

_ABOUT = "dcpt made this folder and replaces what it wrote here. Keep your own files elsewhere."


def mark_folder(folder: Path) -> None:
    """Mark an existing folder as made by dcpt."""
    # Written in place: the name is what counts, and it must never be missing next to other files.
    (folder / MARKER).write_text(json.dumps({"about": _ABOUT, "files": {}}) + "\n", "utf-8")


def is_marked(folder: Path) -> bool:
    """Whether dcpt made a folder."""
    return (folder / MARKER).is_file()


def check_files(folder: Path, names: Collection[str]) -> None:
    """Refuse files of a person where dcpt is going to write.

    A file is dcpt's if the marker has its hash, or if a write of it was interrupted.

    Args:
        folder: The folder; it need not exist.
        names: The files that are going to be written or replaced.

    Raises:
        InputError: If one of the files is there and dcpt did not write it, or it was changed since.
    """
    recorded = _recorded_files(folder)
    for name in names:
        path = folder / name
        if not os.path.lexists(path) or recorded is None:
            continue
        if name not in recorded:
            raise InputError(
                f"{path}: dcpt writes a file of this name and did not write this one; choose "
                "another folder with --out"
            )
        if recorded[name] is not None and (path.is_symlink() or _digest(path) != recorded[name]):
            raise InputError(
                f"{path}: this file was changed after dcpt wrote it; move it away, or choose "
                "another folder with --out"
            )


def claim_files(folder: Path, names: Collection[str]) -> None:
    """Check the files that dcpt is going to write, and note that it is going to write them.

    The folder is created if it does not exist.

    Args:
        folder: The folder.
        names: The files.

    Raises:
        InputError: As :func:`check_files`.
    """
    check_files(folder, names)
    folder.mkdir(parents=True, exist_ok=True)
    _write_marker(folder, {**(_recorded_files(folder) or {}), **dict.fromkeys(names)})


def record_files(folder: Path, names: Collection[str]) -> None:
    """Record the files that dcpt has just written, so that it may replace them later."""
    written = {name: _digest(folder / name) for name in names}
    _write_marker(folder, {**(_recorded_files(folder) or {}), **written})


def _recorded_files(folder: Path) -> dict[str, str | None] | None:
    """Hashes of the files that dcpt wrote by name, None for one that was being written.

    Markers of earlier versions record no files: then the result is None, and all are dcpt's.
    """
    if not is_marked(folder):
        return {}
    try:
        content: Any = read_json(folder / MARKER)
    except DamagedFileError:
        return None
    files = content.get("files") if isinstance(content, dict) else None
    return files if isinstance(files, dict) else None


def _write_marker(folder: Path, files: dict[str, str | None]) -> None:
    write_json(folder / MARKER, {"about": _ABOUT, "files": files})


def _digest(path: Path) -> str | None:
    return hash_file(path) if path.is_file() else None
