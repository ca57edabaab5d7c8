"""Write files atomically, and handle damaged files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dcpt.errors import InputError


class DamagedFileError(InputError):
    """A file that dcpt wrote cannot be read: it is incomplete, or was changed.

    Args:
        path: The file.
        reason: The problem.
        remedy: What the user can do.
    """

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        self.path = path
        self._about = (path, reason, remedy)
        super().__init__(f"{path}: the file is damaged ({reason}); {remedy}")

    def __reduce__(self) -> tuple[type[DamagedFileError], tuple[Path, str, str]]:
        """Let it be passed on to the other processes of a run."""
        return type(self), self._about


PARTIAL = re.compile(r"\.\d+-[0-9a-f]{8}\.partial$")
"""The end of the name of a file that is being written."""


def partial_path(path: Path) -> Path:
    """A new path next to a file, to write it to; its name ends like ``PARTIAL``.

    Containers on several hosts use the same few process ids, so the id alone is no name.
    """
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename the file written there to ``path`` at the end.

    The content is on disk before the rename: after a power loss, the old or the new file is there,
    never a part of it. After an error, the old file is unchanged.

    Args:
        path: The file to write or replace.

    Yields:
        A path in the same folder, which the body of the ``with`` statement writes.
    """
    partial = partial_path(path)
    try:
        with naming(path):
            yield partial
            sync_file(partial)
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an ``OSError`` the name of the file that is written; a full disk names none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def sync_file(path: Path) -> None:
    """Flush a file's content to disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names of a folder's files to disk, so that a rename survives a power loss."""
    if os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with replace_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file atomically."""
    with replace_file(path) as partial:
        partial.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; NaN and infinities raise an error."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str = "set it aside and start again") -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        remedy: The end of the message if the file is damaged.

    Returns:
        Its content; None if there is no such file.

    Raises:
        DamagedFileError: If it is not JSON in UTF-8, or cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # NotADirectory: its folder is a file
        return None
    except (IsADirectoryError, PermissionError) as error:
        raise DamagedFileError(path, f"{error.strerror}", remedy) from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise DamagedFileError(path, f"it holds no JSON: {error}", remedy) from None


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object with the hash of its content, which ``read_record`` checks."""
    make_room(path)
    write_json(path, {**record, "sha256": _record_sha256(record)})


def read_record(path: Path, remedy: str = "set it aside and start again") -> dict[str, Any] | None:
    """Read a JSON object that ``write_record`` wrote.

    Files of earlier versions, and those that people write, have no hash and are read as they are.

    Args:
        path: The file.
        remedy: The end of the message if the file is damaged.

    Returns:
        Its content without the hash; None if there is no such file.

    Raises:
        DamagedFileError: If it is not a JSON object, or its content does not match the hash.
    """
    record = read_json(path, remedy)
    if record is None and not path.exists():
        return None
    if not isinstance(record, dict):
        raise DamagedFileError(path, "it holds no JSON object", remedy)
    written = record.pop("sha256", None)
    if written is not None and written != _record_sha256(record):
        raise DamagedFileError(path, "its content is not what was written", remedy)
    return record


def _record_sha256(record: Mapping[str, Any]) -> str:
    read_back = json.loads(json.dumps(record))  # as in the file: keys are text, tuples are lists
    canonical = json.dumps(read_back, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def make_room(path: Path) -> None:
    """Rename a folder that has the path of a file to be written."""
    if path.is_dir() and not path.is_symlink():
        set_aside(path)


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to ``<name>.damaged``; no existing file is replaced.

    Returns:
        Its new path: ``<name>.damaged``, or ``<name>.damaged-2`` and so on if that exists.
    """
    number, target = 1, path.with_name(f"{path.name}.damaged")
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{path.name}.damaged-{number}")
    with suppress(FileNotFoundError):  # another process has just renamed it
        path.rename(target)
    sync_folder(path.parent)
    return target
