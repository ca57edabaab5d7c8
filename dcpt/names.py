"""Names given by users: the alphabet of channel names, and how text is shown in messages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

LONGEST_CHANNEL = 40
"""Characters; a channel's name is also the name of a folder and part of column names."""

CHANNEL_RULE = (
    "is not a name of a channel; write letters, digits, _, . and -, a letter or digit first, "
    f"at most {LONGEST_CHANNEL} characters"
)
"""The part of a sentence after the name."""

CHANNEL_NAME = re.compile(rf"[^\W_][\w.-]{{0,{LONGEST_CHANNEL - 1}}}")
"""The alphabet of names, in normal form C."""


def read_channel_name(text: str) -> str:
    """Check the name of a channel.

    Letters and digits are those of Unicode.

    Returns:
        The name in normal form C, so that equal names have equal spellings.

    Raises:
        ValueError: If the name is not in the alphabet.
    """
    name = unicodedata.normalize("NFC", text)
    if CHANNEL_NAME.fullmatch(name) is None:
        raise ValueError(f"{shorten(text)} {CHANNEL_RULE}")
    return name


def same_but_case(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different names that are the same folder if the file system ignores case."""
    first: dict[str, str] = {}
    pairs = []
    for name in dict.fromkeys(names):
        other = first.setdefault(name.casefold(), name)
        if other != name:
            pairs.append((other, name))
    return pairs


def shorten(value: object, longest: int = 60) -> str:
    """Format a value for a message: in quotes if it is text, and at most a line long."""
    if isinstance(value, str) and len(value) > longest:
        return repr(value[:longest] + "...")
    text = repr(value)
    return text if len(text) <= longest + 2 else text[:longest] + "..."


def escape_controls(text: str) -> str:
    r"""Escape control characters: ``\x1b`` for ESC, ``\u202e`` for a change of direction.

    Line breaks are kept.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text
    )
