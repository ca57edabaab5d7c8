"""Read YAML and JSON files written by users, with errors in plain sentences.

Values follow YAML 1.2's core schema, plus underscores in numbers: ``1e-3`` is a number, ``on`` and
``2024-01-01`` are text. Keys are always text.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dcpt.errors import InputError
from dcpt.names import shorten

LARGEST_FILE = 1_000_000
"""Bytes; a study has a few thousand. PyYAML reads about 100 kB/s."""

MOST_VALUES = 100_000
"""Number of values after expanding aliases; ten nested lists of ten aliases would make 10^10."""

DEEPEST = 30
"""Levels of nested lists and mappings; a study has 6."""

MOST_DIGITS = 30
"""Digits of a whole number; no count needs more than 19."""

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class _BadYamlError(Exception):
    """The problem and the remedy, and the line, counted from 1, if it is known."""

    def __init__(self, problem: str, node: Node | None = None, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = node.start_mark.line + 1 if node is not None else line


def read_yaml(path: Path, if_absent: str) -> Any:
    """Read a YAML file, or JSON where its name ends in ``.json``.

    Args:
        path: The file, in UTF-8.
        if_absent: The remedy if there is no such file.

    Returns:
        Dicts with text as keys, lists, text, numbers, booleans and None.

    Raises:
        InputError: If the file cannot be read, repeats a key, is nested too deeply, or holds
            anything but plain values; names the file, the line, the value and the remedy.
    """
    text = _read_text(path, if_absent)
    try:
        found = _parse_json(text) if path.suffix.lower() == ".json" else _parse_yaml(text)
        _check_characters(found)
        return found
    except _BadYamlError as error:
        line = "" if error.line is None else f", line {error.line}"
        raise InputError(f"{path}{line}: {error}") from None


def _read_text(path: Path, if_absent: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; {if_absent}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give the path of the file") from None
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{str(path)!r} cannot be read ({reason}); give a readable file") from None
    if len(content) > LARGEST_FILE:
        raise InputError(
            f"{path} is larger than {LARGEST_FILE:,} bytes, too large for such a file; give the "
            "path of another file"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8 text; save the "
            "file as UTF-8"
        ) from None


def _check_characters(value: Any, depth: int = 1) -> None:
    r"""Refuse characters that names and paths cannot contain; escapes such as ``\0`` give them."""
    if depth > DEEPEST:
        raise _BadYamlError(_too_deep())
    if isinstance(value, str):
        found = _NO_TEXT.search(value)
        if found is not None:
            raise _BadYamlError(
                f"the text {shorten(value)} contains the character U+{ord(found[0]):04X}; remove it"
            )
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_characters(key, depth)
            _check_characters(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_characters(inner, depth + 1)


# ------------------------------------------------------------------------------------------ JSON
def _parse_json(text: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=_object_from_pairs,
            parse_float=_read_float,
            parse_int=_read_int,
            parse_constant=_refuse_infinite,
        )
    except json.JSONDecodeError as error:
        words = f"is not valid JSON: {error.msg.lower()} (column {error.colno}); correct it there"
        raise _BadYamlError(words, line=error.lineno) from None
    except RecursionError:
        raise _BadYamlError(_too_deep()) from None


def _object_from_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a mapping and refuse repeated keys; the parser would silently keep the last."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _BadYamlError(_repeated(key))
        found[key] = value
    return found


def _refuse_infinite(text: str) -> NoReturn:
    raise _BadYamlError(f"{shorten(text)} is not a finite number; write a number")


# ------------------------------------------------------------------------------------------ YAML
class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the types of YAML 1.2 and a limit on nesting."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _BadYamlError(_too_deep(), line=self.line + 1)
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.add_implicit_resolver(_MERGE, re.compile(r"<<\Z"), ["<"])
_Loader.add_implicit_resolver(
    f"{_TAG}null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    f"{_TAG}bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")
)
_Loader.add_implicit_resolver(
    f"{_TAG}int", re.compile(r"[-+]?[0-9][0-9_]*\Z"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"[-+]?(?:(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|\.(?:inf|Inf|INF))\Z|\.(?:nan|NaN|NAN)\Z"
    ),
    list("-+.0123456789"),
)


def _parse_yaml(text: str) -> Any:
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _Builder().build(node, 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = " ".join(part for part in (error.problem, error.context) if part)
        line = None if mark is None else mark.line + 1
        raise _BadYamlError(f"is not valid YAML: {_with_remedy(words)}", line=line) from None
    except yaml.reader.ReaderError as error:
        found = error.character if isinstance(error.character, str) else chr(error.character)
        line = text.count("\n", 0, error.position) + 1
        raise _BadYamlError(
            f"YAML does not allow the character U+{ord(found):04X}; remove it, and save the file "
            "as UTF-8",
            line=line,
        ) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # "\\U99999999", %YAML 9...9
        words = shorten(" ".join(str(error).split()), 200)
        raise _BadYamlError(f"is not valid YAML: {words}; correct it") from None
    finally:
        if loader is not None:
            loader.dispose()


def _with_remedy(words: str) -> str:
    if "'\\t'" in words:
        return f"{words}; indent with spaces"
    return f"{words}; correct it there"


class _Builder:
    """Builds plain values from YAML's nodes; aliases are expanded, up to ``MOST_VALUES``."""

    def __init__(self) -> None:
        self.left = MOST_VALUES

    def build(self, node: Node, depth: int) -> Any:
        """The value of a node at a depth, from 1."""
        self.left -= 1
        if self.left < 0:
            raise _BadYamlError(
                f"holds more than {MOST_VALUES:,} values after expanding its aliases; use fewer "
                "aliases"
            )
        if depth > DEEPEST:  # an alias may refer to a list that contains it
            raise _BadYamlError(_too_deep(), node)
        if isinstance(node, ScalarNode):
            return _read_scalar(node)
        if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.build(child, depth + 1) for child in node.value]
        if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
            return self._build_mapping(node, depth)
        raise _BadYamlError(_foreign_tag(node), node)

    def _build_mapping(self, node: MappingNode, depth: int) -> dict[str, Any]:
        """Build a mapping: own keys replace those merged by ``<<``; repeated keys are errors."""
        found: dict[str, Any] = {}
        spelt: set[str] = set()
        merged: list[Node] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                kind = "list" if isinstance(key_node, SequenceNode) else "mapping"
                raise _BadYamlError(f"a {kind} is a key; write a name as the key", key_node)
            key: str = key_node.value
            # Names are compared in normal form C later, where one of two keys would be lost.
            same = unicodedata.normalize("NFC", key)
            if same in spelt:
                raise _BadYamlError(_repeated(key), key_node)
            spelt.add(same)
            if key_node.tag == _MERGE:
                merged = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
            else:
                found[key] = self.build(value_node, depth + 1)
        for other in merged:  # of several, the first with a key counts
            if not isinstance(other, MappingNode):
                raise _BadYamlError("<< merges a mapping; give the alias of a mapping", other)
            found = self.build(other, depth + 1) | found
        return found


def _read_scalar(node: ScalarNode) -> Any:
    kind = node.tag.removeprefix(_TAG)
    reader = _SCALARS.get(kind)
    if reader is None:
        raise _BadYamlError(_foreign_tag(node), node)
    try:
        return reader(node.value)
    except (ValueError, KeyError):
        raise _BadYamlError(f"{shorten(node.value)} is not of the type {kind}", node) from None
    except _BadYamlError as error:
        raise _BadYamlError(str(error), node) from None


def _read_int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise _BadYamlError(
            f"the number {text[:10]}... has {len(text):,} digits; write at most {MOST_DIGITS}"
        )
    return int(text.replace("_", ""))


def _read_float(text: str) -> float:
    plain = text.lower().replace("_", "")
    number = float(plain.replace(".inf", "inf").replace(".nan", "nan"))
    if not math.isfinite(number):
        _refuse_infinite(text)
    return number


_SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": _read_int,
    "float": _read_float,
    "str": str,
    "merge": str,
}


def _foreign_tag(node: Node) -> str:
    tag = node.tag.replace(_TAG, "!!")
    return f"the type {shorten(tag)} is not supported; write plain text or a number"


def _repeated(key: str) -> str:
    return f"the key {shorten(key)} occurs twice; remove one of the two"


def _too_deep() -> str:
    return f"lists and mappings are nested more than {DEEPEST} deep; remove levels"
