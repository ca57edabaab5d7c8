"""The text of a record: a string, a list of paragraphs, a chat or nothing, in a field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PARAGRAPHS = "\n\n"
"""Joins the paragraphs of a document that is a list of them."""

CHAT_FIELDS = ("messages", "conversations")


@dataclass(frozen=True)
class Fault:
    """Why a record has no text.

    Args:
        kind: Records with the same kind of fault are reported in one line.
        words: The fault and its remedy: the part of a sentence after the place.
    """

    kind: str
    words: str


@dataclass
class Faults:
    """The faults of one source, gathered by kind.

    Args:
        first: For each kind the place of the first record and its fault.
        counts: How many records have it.
    """

    first: dict[str, tuple[str, Fault]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, place: str, fault: Fault) -> None:
        """Note a fault; only the first of a kind is kept in full."""
        self.first.setdefault(fault.kind, (place, fault))
        self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1

    def sentences(self, noun: str) -> list[str]:
        """A sentence for each kind: the first record, and how many more there are."""
        sentences = []
        for kind, (place, fault) in self.first.items():
            more = self.counts[kind] - 1
            also = f" ({more:,} more {noun}{'s' if more > 1 else ''} like it)" if more else ""
            sentences.append(f"{place}: {fault.words}{also}")
        return sentences


Chat = Sequence[Mapping[str, Any]]
"""The messages of a chat."""


@dataclass(frozen=True)
class Field:
    """Where records have their texts.

    Args:
        name: The field, or a path of fields such as ``doc.text``.
        render: Writes a chat in this field as text; None if the field holds texts.
    """

    name: str
    render: Callable[[Chat], str | Fault] | None = None

    def text_of(self, record: Mapping[str, Any]) -> str | Fault:
        """The text of a record, or why it has none."""
        return text_of_record(record, self.name, self.render)


def text_of_record(
    record: Mapping[str, Any],
    text_field: str,
    render: Callable[[Chat], str | Fault] | None = None,
) -> str | Fault:
    """The text of a record.

    Args:
        record: The fields by name.
        text_field: The field, or a path of fields such as ``doc.text``.
        render: Writes a chat as text; None if the field holds texts.

    Returns:
        The text, empty where it is null; or why there is none. Paragraphs are joined by an empty
        line.
    """
    found: Any = record
    for part in [text_field] if text_field in record else text_field.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _no_field(text_field, record, render is not None)
        found = found[part]
    if found is None:
        return ""
    if render is not None:
        if isinstance(found, list) and all(isinstance(part, Mapping) for part in found):
            return render(found)
        return Fault(
            "no chat",
            f"{text_field!r} holds {found!r:.40}, not the messages of a chat; name the field of "
            "texts with text_field, and leave chat_field out",
        )
    if isinstance(found, list | tuple) and all(isinstance(part, str) for part in found):
        found = PARAGRAPHS.join(found)
    if isinstance(found, str):
        return found if is_whole(found) else _half_character(text_field)
    if isinstance(found, list) and all(isinstance(part, Mapping) for part in found):
        return Fault(
            "chat",
            f"{text_field!r} holds the messages of a chat; set chat_field: {text_field} to write "
            "them with the tokenizer's chat template",
        )
    return Fault(
        "type", f"{text_field!r} holds {found!r:.40}, not text; write a text, or drop the record"
    )


def is_whole(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _half_character(text_field: str) -> Fault:
    return Fault(
        "surrogate", f"{text_field!r} holds half of a surrogate pair; write the whole character"
    )


def _no_field(text_field: str, record: Mapping[str, Any], is_chat: bool) -> Fault:
    chat = [name for name in CHAT_FIELDS if name in record]
    if chat and not is_chat:
        return Fault(
            "chat",
            f"no field {text_field!r}, and {chat[0]!r} holds the messages of a chat; set "
            f"chat_field: {chat[0]} to write them with the tokenizer's chat template",
        )
    there = ", ".join(repr(name) for name in _paths(record)) or "none"
    key = "chat_field" if is_chat else "text_field"
    words = f"no field {text_field!r} (fields there: {there}); set {key} to one of these"
    return Fault("field", words)


def _paths(record: Mapping[str, Any]) -> Iterable[str]:
    """The fields, those of nested records as paths."""
    for name, value in record.items():
        if isinstance(value, Mapping) and value:
            yield from (f"{name}.{inner}" for inner in map(str, value))
        else:
            yield str(name)
