"""The schema of ``result.json`` and of the lines of ``metrics.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dcpt.atomic_files import DamagedFileError


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Written(_Record):
    """Size and hash of ``metrics.jsonl`` when the run ended; more may be appended later."""

    bytes: int
    sha256: str


class _Result(_Record):
    """``result.json``; earlier versions wrote neither ``metrics`` nor ``files``.

    Attributes:
        metrics: The metrics at the end of the run.
        files: Hashes of the files that other runs start from, by path within the folder.
    """

    n_tokens: int
    loss: dict[str, float] = {}
    epochs: dict[str, float] = {}
    tokens_per_s: float | None = None
    wall_s: float = 0.0
    metrics: _Written | None = None
    files: dict[str, str] = {}


class _Event(_Record):
    event: str


class _OnAll(_Record):
    """Losses on all validation text, where ``loss`` leaves near-copies of training text out."""

    eval_id: str
    loss: dict[str, float]
    se: dict[str, float] = {}


class _Point(_Event):
    n_tokens: int
    loss: dict[str, float] = {}
    se: dict[str, float] = {}
    train_loss: dict[str, float] = {}
    share: dict[str, float] = {}
    all: _OnAll | None = None


class _Training(_Event):
    n_tokens: int
    channel_loss: dict[str, float] = {}
    tokens_per_s: float | None = None


_KINDS: dict[str, type[_Event]] = {"point": _Point, "train": _Training}


EvaluatedText = Literal["clean", "all"]
"""Validation text without near-copies of training text, or all of it."""


def on_text(point: Mapping[str, Any], text: EvaluatedText) -> Mapping[str, Any]:
    """A point with its losses, standard errors and ``eval_id`` on the chosen validation text.

    A point has two sets of losses only where near-copies were left out of its validation text.
    """
    return {**point, **point.get("all", {})} if text == "all" else point


def check_result(result: Any) -> None:
    """Check a result.

    Raises:
        ValueError: If a field that readers use is missing or wrong.
    """
    _Result.model_validate(result)


def read_lines(path: Path, remedy: str) -> bytes:
    """The whole lines of metrics, without an incomplete last line of a killed process.

    Raises:
        DamagedFileError: If the file cannot be read; ``remedy`` ends the message.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except (IsADirectoryError, PermissionError) as error:
        raise DamagedFileError(path, f"{error.strerror}", remedy) from None
    return content[: content.rfind(b"\n") + 1]


def read_events(path: Path, remedy: str) -> Iterator[dict[str, Any]]:
    """The events of metrics, in order.

    Raises:
        DamagedFileError: At an invalid line; ``remedy`` ends the message.
    """
    for number, line in enumerate(read_lines(path, remedy).split(b"\n")[:-1], start=1):
        try:
            event = _read_event(line)
        except (ValueError, RecursionError) as error:
            reason = f"line {number} cannot be read: {first_problem(error)}"
            raise DamagedFileError(path, reason, remedy) from None
        yield event


def readable_lines(path: Path) -> bytes:
    """The lines of damaged metrics before the first invalid line."""
    kept: list[bytes] = []
    with suppress(ValueError, RecursionError):  # also raised if there is no file
        for line in read_lines(path, "").split(b"\n")[:-1]:
            _read_event(line)
            kept.append(line + b"\n")
    return b"".join(kept)


def _read_event(line: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(line.decode())  # bytes take a third longer
    kind = event.get("event") if isinstance(event, dict) else None
    record = _KINDS.get(kind, _Event) if isinstance(kind, str) else _Event
    record.model_validate(event)
    return event


def first_problem(error: Exception) -> str:
    """The first problem of a record, from the error of its validation."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg'].lower()}" if where else first["msg"].lower()
    return str(error)
