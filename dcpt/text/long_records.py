"""A JSON record too long for memory: its text is read in pieces while the record is parsed.

``json`` needs a record whole, and streaming parsers such as ijson need each string whole. Here
only the string that is the text is passed on in pieces; the rest of the record, with all strings
left empty, goes through ``json`` at the end, which finds what is wrong with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from dcpt.text.record_text import PARAGRAPHS, Fault, is_whole, text_of_record

_LONGEST_KEY = 1 << 20
# Characters and whole escapes of a string: a surrogate pair is one unit, so that none is cut.
_IN_STRING = re.compile(
    r"(?:[^\"\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[0-9a-fA-F]{4}|(?=[^\\]|\\[^u]))"
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\[^u])*+",
    re.DOTALL,
)
_LONGEST_ESCAPE = 12
_OUTSIDE = re.compile(r"[^\"{}\[\]:,]++|[\"{}\[\]:,]")


class _NotJsonError(ValueError):
    """What is wrong with the record."""


class _Scanner:
    """Reads a record from blocks of text.

    Args:
        blocks: The record.
        text_field: The field of the text, or a path of fields.
    """

    def __init__(self, blocks: Iterable[str], text_field: str) -> None:
        self._blocks = iter(blocks)
        self._buffer, self._at = "", 0
        self._targets = ([text_field], text_field.split("."))
        self._skeleton: list[str] = []
        self._open: list[str] = []  # brackets and braces
        self._keys: list[str] = []  # one for each open bracket or brace
        self._texts = 0

    def skeleton(self) -> str:
        """The record with empty strings, once it is read."""
        return "".join(self._skeleton)

    def _fill(self) -> bool:
        block = next(self._blocks, "")
        self._buffer, self._at = self._buffer[self._at :] + block, 0
        return bool(block)

    def texts(self) -> Iterator[str]:
        """The pieces of the text; the record is read to its end."""
        key_next = False
        while self._at < len(self._buffer) or self._fill():
            found = _OUTSIDE.match(self._buffer, self._at)
            assert found is not None
            self._at = found.end()
            token = found.group()
            if token == '"' and key_next:
                self._keys[-1] = self._read_key()
                key_next = False
                continue
            self._skeleton.append('""' if token == '"' else token)
            if token == '"':
                yield from self._value()
            elif token in "{[":
                self._open.append(token)
                self._keys.append("")
            elif token in "}]" and self._open:
                self._open.pop()
                self._keys.pop()
            if token in "{,":
                key_next = bool(self._open) and self._open[-1] == "{"

    def _value(self) -> Iterator[str]:
        in_list = self._open[-1:] == ["["]
        containers = self._open[:-1] if in_list else self._open
        is_text = self._keys[: len(containers)] in self._targets and "[" not in containers
        if not is_text:
            for _ in self._string():
                pass
            return
        self._texts += 1
        if in_list and self._texts > 1:
            yield PARAGRAPHS
        elif self._texts > 1:
            raise _NotJsonError("the text is there twice")
        yield from self._string()

    def _read_key(self) -> str:
        key = ""
        for piece in self._string():
            key += piece
            if len(key) > _LONGEST_KEY:
                raise _NotJsonError("the name of a field is longer than a million characters")
        self._skeleton.append(json.dumps(key))
        return key

    def _string(self) -> Iterator[str]:
        """The pieces of the string that starts here, up to its closing quote."""
        while True:
            found = _IN_STRING.match(self._buffer, self._at)
            assert found is not None
            piece, self._at = found.group(), found.end()
            if piece:
                yield json.loads(f'"{piece}"')
            if self._buffer.startswith('"', self._at):
                self._at += 1
                return
            if len(self._buffer) - self._at > _LONGEST_ESCAPE:
                raise _NotJsonError("an escape that is none")
            if not self._fill():
                raise _NotJsonError("a string that does not end")


def read_long_record(blocks: Iterable[str], text_field: str) -> Iterator[str | Fault]:
    """Read the text of one record in pieces.

    Args:
        blocks: The record as text.
        text_field: The field, or a path of fields such as ``doc.text``.

    Yields:
        The pieces of the text; last, if there is one, what is wrong with the record.
    """
    scanner = _Scanner(blocks, text_field)
    try:
        for piece in scanner.texts():
            if not is_whole(piece):
                words = f"{text_field!r} holds half of a surrogate pair; write the whole character"
                yield Fault("surrogate", words)
                return
            yield piece
        record = json.loads(scanner.skeleton())
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        yield Fault("utf-8", f"not UTF-8 (0x{byte:02x}); convert the file to UTF-8")
        return
    except (_NotJsonError, json.JSONDecodeError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        yield Fault("json", f"not JSON ({reason}); write one object a line")
        return
    if not isinstance(record, dict):
        what = type(record).__name__
        yield Fault("object", f"a {what}, not an object; write one object a line")
        return
    text = text_of_record(record, text_field)
    if isinstance(text, Fault):
        yield text
