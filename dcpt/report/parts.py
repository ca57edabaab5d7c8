"""What a report is made of: sections of parts, rendered alike as HTML and Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Table:
    """A heading row and rows of text.

    Args:
        head: Column names.
        rows: One list a row, as long as ``head``.
        words: How many leading columns hold words (left-aligned); the others hold numbers.
        strong: Rows to be set apart.
        bad: Rows that report a miss.
    """

    head: list[str]
    rows: list[list[str]]
    words: int = 1
    strong: frozenset[int] = field(default_factory=frozenset)
    bad: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    style: str = ""


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences; with a label it opens on a click."""

    kind: ClassVar[str] = "list"
    items: list[str]
    label: str = ""


@dataclass(frozen=True)
class Warned:
    """A flag: its stable name and its sentence."""

    kind: ClassVar[str] = "flag"
    name: str
    text: str


@dataclass(frozen=True)
class Tabled:
    """A table with its caption and a note above it; a folded one opens on a click."""

    kind: ClassVar[str] = "table"
    table: Table
    label: str
    folded: bool = False
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Panels under a common title, each an SVG element."""

    panels: list[str]
    title: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure of one panel or more, with the sentence that says what to see in it.

    Args:
        groups: Its panels.
        caption: One sentence.
        legend: (text, colour role or nothing) pairs above the panels.
        layout: ``one``, ``small`` or empty (as many as fit beside each other).
    """

    kind: ClassVar[str] = "picture"
    groups: list[Group]
    caption: str
    legend: list[tuple[str, str]] = field(default_factory=list)
    layout: str = ""

    @property
    def across(self) -> int:
        """Panels of the longest group."""
        return max(len(group.panels) for group in self.groups)


Part = Text | Heading | Bullets | Warned | Tabled | Picture


@dataclass(frozen=True)
class Section:
    """A titled part of the page."""

    id: str
    title: str
    parts: list[Part]


@dataclass(frozen=True)
class Tile:
    """A number that matters: its name, the number, and a line about it."""

    name: str
    value: str
    more: str
