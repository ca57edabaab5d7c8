"""SHA-256 of files, computed once for every state of a file on this machine.

Shards, states and bases are checked against the hashes that were written down when they were made.
Hashing reads the whole file, 1 to 2 GB a second at best, so what a file's hash was is remembered
with its size, time of change and inode: a start that finds these unchanged reads nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

from dcpt.atomic_files import read_record, write_record


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read only if the file changed since it was last asked for here.

    Args:
        path: The file.

    Returns:
        64 hex digits.

    Raises:
        OSError: If the file cannot be read.
    """
    return remembered_digest("file", [path], lambda: hash_file(path))


def remembered_digest(method: str, files: Sequence[Path], compute: Callable[[], str]) -> str:
    """A digest of files, computed only if one of them changed since it was last asked for here.

    Args:
        method: Names how the digest is computed, so that two ways do not share one memory.
        files: The files that the digest depends on.
        compute: Computes it.

    Returns:
        What ``compute`` gives.

    Raises:
        OSError: If a file is not there.
    """
    files = [path.resolve() for path in files]
    names, before = [str(path) for path in files], [file_state(path) for path in files]
    memory = _memory(method, names)
    with suppress(OSError, ValueError, KeyError, TypeError):  # a memory that is not there or torn
        known = read_record(memory) or {}
        if known["files"] == names and known["states"] == before:
            return str(known["digest"])
    digest = compute()
    if [file_state(path) for path in files] == before:  # else someone writes to them just now
        _remember(memory, {"files": names, "states": before, "digest": digest})
    return digest


def hash_file(path: Path) -> str:
    """SHA-256 of a file, read from its first byte to its last."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_state(path: Path) -> list[int]:
    """What changes when a file's content does: size, times of change in ns, inode and device."""
    about = os.stat(path)
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_dev]


def _memory(method: str, names: Sequence[str]) -> Path:
    """The file that remembers a digest: one each, so that workers do not collide."""
    asked = "\0".join([method, *names])
    name = hashlib.sha256(asked.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return user_cache_path("dcpt") / "sha256" / f"{name}.json"


def _remember(memory: Path, record: dict[str, object]) -> None:
    with suppress(OSError):  # a cache folder that cannot be written costs time only
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_record(memory, record)
