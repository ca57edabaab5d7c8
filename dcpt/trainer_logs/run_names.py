"""Columns of the runs table in the names of runs: ``r{ratio}-lr{learning_rate}-*``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dcpt.errors import InputError
from dcpt.table.columns import known_column, nearest_column

_NUMBER = r"\d+(?:\.\d+)?(?:[eE]-?\d+)?[kKmMbBtT]?|\.\d+"
_PART = re.compile(r"\{([^{}]*)\}|\*")
_HINTS = {
    "ratio": re.compile(
        r"(?<![A-Za-z])(?:ratio|share|mix|r)[-_=]?(0?\.\d+|[01]\.\d+|[01])(?![\d.])"
    ),
    "learning_rate": re.compile(r"(?<![A-Za-z])lr[-_=]?(\d+(?:\.\d+)?e-?\d+|0?\.\d+)"),
    "seed": re.compile(r"(?<![A-Za-z])(?:seed|s)[-_=]?(\d+)(?![\d.A-Za-z])"),
    "n_params": re.compile(r"(?<![A-Za-z\d.])(\d+(?:\.\d+)?[MB])(?![A-Za-z\d])"),
}
"""Where the draft looks for columns in names, such as ``r0.3``, ``lr3e-4``, ``seed1``, ``1.5B``."""


def compile_pattern(pattern: str, place: str) -> re.Pattern[str]:
    """A regular expression with a group for each column of a pattern.

    Args:
        pattern: Text with columns in braces and ``*`` for anything.
        place: Where the pattern is written, for messages.

    Raises:
        InputError: If a column is unknown or is there twice.
    """
    parts, last, seen = [], 0, set()
    for found in _PART.finditer(pattern):
        parts.append(re.escape(pattern[last : found.start()]))
        last, name = found.end(), found[1]
        if name is None:
            parts.append(".*?")
            continue
        column = known_column(name)
        if column is None or name in seen or name.endswith("_"):
            near = nearest_column(name)
            hint = f"; did you mean {near}?" if near and near != name else ""
            wrong = "is there twice" if name in seen else "is not a column of the runs table"
            raise InputError(f"{place}: {{{name}}} {wrong}{hint}")
        seen.add(name)
        parts.append(f"(?P<{name}>{'.+?' if column.kind == 'text' else _NUMBER})")
    return re.compile("".join([*parts, re.escape(pattern[last:])]))


def columns_in_name(run: str) -> dict[str, str]:
    """Columns that the name of a run seems to tell; the draft shows them to a person."""
    found = ((column, hint.search(run)) for column, hint in _HINTS.items())
    return {column: match[1] for column, match in found if match}


def guess_pattern(runs: Sequence[str]) -> str | None:
    """The pattern that all names share, for the draft; None if they share none with a column."""
    patterns = {_pattern_of(run) for run in runs}
    if len(patterns) != 1:
        return None
    pattern = patterns.pop()
    return pattern if "{" in pattern else None


def _pattern_of(run: str) -> str:
    spans = {
        match.span(1): column for column, hint in _HINTS.items() if (match := hint.search(run))
    }
    text, last = "", 0
    for (start, end), column in sorted(spans.items()):
        if start >= last:
            text += f"{run[last:start]}{{{column}}}"
            last = end
    return text + run[last:]
