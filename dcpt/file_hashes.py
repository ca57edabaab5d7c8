"""SHA-256 of files, computed once for every state of a file on this machine.

Shards, states and bases are checked against the hashes that were written down when they were made.
Hashing reads the whole file, 1 to 2 GB a second at best, so what a file's hash was is remembered
with its size, time of change and inode: a start that finds these unchanged reads nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

from dcpt.atomic_files import write_json


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read only if the file changed since it was last asked for here.

    Args:
        path: The file.

    Returns:
        64 hex digits.

    Raises:
        OSError: If the file cannot be read.
    """
    path = path.resolve()
    before, memory = _state(path), _memory(path)
    with suppress(OSError, ValueError, KeyError, TypeError):  # a memory that is not there or torn
        known = json.loads(memory.read_text(encoding="utf-8"))
        if known["path"] == str(path) and known["state"] == before:
            return str(known["sha256"])
    digest = hash_file(path)
    if _state(path) == before:  # else someone writes to it just now
        _remember(memory, {"path": str(path), "state": before, "sha256": digest})
    return digest


def hash_file(path: Path) -> str:
    """SHA-256 of a file, read from its first byte to its last."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(path: Path) -> list[int]:
    """What changes when a file's content does: size, times of change in ns, inode and device."""
    about = os.stat(path)
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_dev]


def _memory(path: Path) -> Path:
    """The file that remembers the hash of ``path``: one each, so that workers do not collide."""
    name = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return user_cache_path("dcpt") / "sha256" / f"{name}.json"


def _remember(memory: Path, record: dict[str, object]) -> None:
    with suppress(OSError):  # a cache folder that cannot be written costs time only
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_json(memory, record)
