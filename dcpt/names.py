"""Names that people give: the alphabet of channels, and how foreign text is shown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

LONGEST_CHANNEL = 40
"""Characters; a channel is also the name of a folder and a part of column names."""

CHANNEL_RULE = (
    "is not a name of a channel; write letters, digits, _, . and -, a letter or digit first, "
    f"at most {LONGEST_CHANNEL} characters"
)
"""The part of a sentence after the name."""

CHANNEL_NAME = re.compile(rf"[^\W_][\w.-]{{0,{LONGEST_CHANNEL - 1}}}")
"""The alphabet, of names in normal form C."""


def read_channel_name(text: str) -> str:
    """Check the name of a channel, wherever it comes from.

    Letters and digits are those of Unicode.

    Returns:
        The name in normal form C, so that one name has one spelling.

    Raises:
        ValueError: If the name is not in the alphabet.
    """
    name = unicodedata.normalize("NFC", text)
    if CHANNEL_NAME.fullmatch(name) is None:
        raise ValueError(f"{shorten(text)} {CHANNEL_RULE}")
    return name


def same_but_case(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different names that are one folder where file systems ignore case."""
    first: dict[str, str] = {}
    pairs = []
    for name in dict.fromkeys(names):
        other = first.setdefault(name.casefold(), name)
        if other != name:
            pairs.append((other, name))
    return pairs


def shorten(value: object, longest: int = 60) -> str:
    """A value as messages show it: in quotes if it is text, and not longer than a line."""
    if isinstance(value, str) and len(value) > longest:
        return repr(value[:longest] + "...")
    text = repr(value)
    return text if len(text) <= longest + 2 else text[:longest] + "..."


def escape_controls(text: str) -> str:
    r"""Text that a terminal shows as it is: ``\x1b`` for ESC, ``\u202e`` for a change of direction.

    Line breaks stay.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text
    )
