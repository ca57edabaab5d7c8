"""Escape text for Markdown, so that names and sentences never become markup."""

from __future__ import annotations

import re

_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
"""Underscores inside a word are text in Markdown, so ``n_params`` stays readable."""

_BLOCK = re.compile(r"^([#>+=-]+|\d+[.)])(?= |$)")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_TICKS = re.compile(r"`+")


def escape_markdown(text: str) -> str:
    """Escape a text as a single line of Markdown."""
    line = _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))
    line = _ENTITY.sub("&amp;", line).replace("<", "&lt;")
    return _BLOCK.sub(lambda found: f"{found[1][:-1]}\\{found[1][-1]}", line)


def code_span(text: str) -> str:
    """Format a text as a single line of code, between more backticks than it contains."""
    line = " ".join(text.split())
    longest = max((len(run) for run in _TICKS.findall(line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest else f"{fence}{line}{fence}"
