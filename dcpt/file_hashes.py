"""SHA-256 of files, computed again only if a file changes.

Shards, states and bases are checked against the hashes recorded when they were written. Hashing
reads the whole file, at 1 to 2 GB/s at best, so a file's hash is cached with its size, modification
times and inode. If these are unchanged, the file is not read.
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
    """SHA-256 of a file, computed only if the file changed since the last call on this machine.

    Args:
        path: The file.

    Returns:
        64 hex digits.

    Raises:
        OSError: If the file cannot be read.
    """
    return remembered_digest("file", [path], lambda: hash_file(path))


def remembered_digest(method: str, files: Sequence[Path], compute: Callable[[], str]) -> str:
    """A digest of files, computed only if a file changed since the last call on this machine.

    Args:
        method: Name of the way the digest is computed, part of the cache's key.
        files: The files that the digest depends on.
        compute: Computes the digest.

    Returns:
        The digest.

    Raises:
        OSError: If a file does not exist.
    """
    files = [path.resolve() for path in files]
    names, before = [str(path) for path in files], [file_state(path) for path in files]
    memory = _memory(method, names)
    with suppress(OSError, ValueError, KeyError, TypeError):  # no cache entry, or a damaged one
        known = read_record(memory) or {}
        if known["files"] == names and known["states"] == before:
            return str(known["digest"])
    digest = compute()
    if [file_state(path) for path in files] == before:  # else they are being written to
        _remember(memory, {"files": names, "states": before, "digest": digest})
    return digest


def hash_file(path: Path) -> str:
    """SHA-256 of a file, always computed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_state(path: Path) -> list[int]:
    """Values that change with a file's content: size, modification times in ns, inode, device."""
    about = os.stat(path)
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_dev]


def _memory(method: str, names: Sequence[str]) -> Path:
    """The cache file of a digest; each digest has its own, so that workers do not collide."""
    asked = "\0".join([method, *names])
    name = hashlib.sha256(asked.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return user_cache_path("dcpt") / "sha256" / f"{name}.json"


def _remember(memory: Path, record: dict[str, object]) -> None:
    with suppress(OSError):  # without a cache, hashing only takes longer
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_record(memory, record)
