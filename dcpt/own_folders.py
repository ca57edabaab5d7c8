"""A marker file tells folders that dcpt made from a person's own."""

from __future__ import annotations

from pathlib import Path

MARKER = ".made-by-dcpt"
"""Hidden, so that no folder of texts is read with it."""


def mark_folder(folder: Path) -> None:
    """Mark an existing folder as made by dcpt."""
    # Written in place: the name is what counts, and it must never be absent beside other files.
    (folder / MARKER).write_text(
        "dcpt made this folder and replaces what it wrote here. Keep your own files elsewhere.\n",
        encoding="utf-8",
    )


def is_marked(folder: Path) -> bool:
    """Whether dcpt made a folder."""
    return (folder / MARKER).is_file()
