"""What a file of text was when it was read, so that a change is noticed."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dcpt.file_hashes import file_sha256


class InputFile(BaseModel):
    """What a file was when it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int
    mtime_ns: int
    sha256: str


def identify(path: Path) -> InputFile:
    """Hash a file; a file that did not change since the last call here is not read again."""
    stat = path.stat()
    return InputFile(
        path=str(path), size=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=file_sha256(path)
    )
