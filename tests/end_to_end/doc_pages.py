"""Commands and Python code of the documentation.

Blocks marked ``bash`` are run. Blocks marked ``console`` are parsed only: they need hours, a GPU or
files of the user.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def commands(page: Path, language: str = "bash") -> list[list[str]]:
    """Return the arguments of every line with ``dcpt``, or ``-m dcpt``, in blocks of a language."""
    whole = [block.replace("\\\n", " ") for block in blocks(page, language)]
    lines = [line for block in whole for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [arguments for line in words if (arguments := _arguments(line)) is not None]


def _arguments(words: list[str]) -> list[str] | None:
    if words[:1] == ["dcpt"]:
        return words[1:]
    modules = [i for i in range(1, len(words)) if words[i - 1 : i + 1] == ["-m", "dcpt"]]
    return words[modules[0] + 1 :] if modules else None
