"""Parts of a report: sections of parts, rendered both as HTML and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Table:
    """A heading row and rows of text.

    Args:
        head: Column names.
        rows: A list of cells for each row, as long as ``head``.
        words: Number of leading columns with words (left-aligned); the others hold numbers.
        strong: Rows to highlight.
        bad: Rows that report a miss.
    """

    head: list[str]
    rows: list[list[str]]
    words: int = 1
    strong: frozenset[int] = field(default_factory=frozenset)
    bad: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Args:
        text: The text.
        style: CSS class, if any.
    """

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
    """A list of sentences.

    Args:
        items: The sentences.
        label: Title of the folded list; without it the list is not folded.
    """

    kind: ClassVar[str] = "list"
    items: list[str]
    label: str = ""


@dataclass(frozen=True)
class Warned:
    """A warning.

    Args:
        name: Stable name of its flag.
        text: The sentence.
    """

    kind: ClassVar[str] = "flag"
    name: str
    text: str


@dataclass(frozen=True)
class Tabled:
    """A table with its caption.

    Args:
        table: The table.
        label: Caption, or the title of a folded table.
        folded: Whether the table opens on a click.
        note: A formula above the table.
    """

    kind: ClassVar[str] = "table"
    table: Table
    label: str
    folded: bool = False
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Panels under a common title.

    Args:
        panels: SVG elements.
        title: The title, if any.
    """

    panels: list[str]
    title: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure of one or more panels, with a sentence on what it shows.

    Args:
        groups: Its panels.
        caption: The sentence.
        legend: (text, colour role or empty) pairs above the panels.
        layout: ``single``, ``middle``, ``small`` or empty (as many as fit side by side).
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


@dataclass(frozen=True)
class Slider:
    """A control that takes one of a few values.

    Args:
        name: Stable name, for the script.
        label: Its name for people.
        labels: Its values, ascending.
        start: Place of the value that it shows first.
    """

    name: str
    label: str
    labels: list[str]
    start: int


@dataclass(frozen=True)
class Sliders:
    """Sliders with the answers at all their positions.

    Args:
        sliders: The sliders.
        data: The answers, JSON for the script of the page.
    """

    kind: ClassVar[str] = "sliders"
    sliders: list[Slider]
    data: str


Part = Text | Heading | Bullets | Warned | Tabled | Picture | Sliders


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        id: Anchor of its link.
        title: Its heading.
        parts: Its parts, in order.
    """

    id: str
    title: str
    parts: list[Part]


@dataclass(frozen=True)
class Tile:
    """An important number.

    Args:
        name: Its name.
        value: The number as text.
        more: A line below it.
    """

    name: str
    value: str
    more: str
