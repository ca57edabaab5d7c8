"""Lines of logs: read one by one, with a torn last line forgiven."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcpt.errors import InputError

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text log, without the escape sequences that colour a terminal."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            yield without_colours(line)


def without_colours(text: str) -> str:
    """A text without the escape sequences that colour a terminal."""
    return _COLOURS.sub("", text) if "\x1b" in text else text


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file with the numbers of their lines, from 1.

    Raises:
        InputError: If a line other than the last one is not a JSON object.
    """
    torn = None
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if torn is not None:
                raise torn
            try:
                found = json.loads(line)
            except ValueError as error:
                torn = InputError(
                    f"{path}, line {number}: not a JSON object ({error}); remove the line, or copy "
                    "the log again"
                )
                continue
            if isinstance(found, dict):
                yield number, found


def first_object(head: str) -> dict[str, Any]:
    """The first line of a file as a JSON object; empty if it is none."""
    try:
        found = json.loads(head.lstrip().split("\n", 1)[0])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
