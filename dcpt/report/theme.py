"""The colours of figures and page, in light and dark, and figures as SVG that follow both.

A figure is drawn with the light colours. In the page every such colour becomes a CSS variable, so
the same SVG serves light, dark and print.

The palette is safe for colour-blind readers: simulated without one kind of cones (Machado et al.
2009), blue, vermilion and green are at least 14 units of CAM02-UCS apart, and neighbours of the
ordered scale (inferno) 5. That is little for thin lines, so every step of the scale has a mark too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Colour:
    """Colours of a role; all have a contrast of 3:1 or more except grid lines.

    Args:
        light: Hex colour in light mode and in print.
        dark: Hex colour in dark mode.
    """

    light: str
    dark: str


COLOURS = {
    "ink": Colour("#1c2128", "#e6e9ee"),
    "muted": Colour("#57606b", "#a3adb9"),
    "rule": Colour("#dee2e7", "#323a44"),
    "paper": Colour("#fefefe", "#14181d"),
    "general": Colour("#0b67b0", "#6bb6f0"),
    "domain": Colour("#b54800", "#ff9f60"),
    "pick": Colour("#0a4f37", "#3d8f76"),
    "s0": Colour("#2f0a5b", "#b43359"),
    "s1": Colour("#59106e", "#cc4248"),
    "s2": Colour("#7c1d6d", "#e15635"),
    "s3": Colour("#922568", "#f1711f"),
    "s4": Colour("#a52c60", "#f98e09"),
    "s5": Colour("#b93556", "#fcb014"),
    "s6": Colour("#ce4347", "#f7d340"),
    "s7": Colour("#e15635", "#f1ed71"),
    "s8": Colour("#ef6e21", "#fcffa4"),
}
"""Colours by role. ``s0`` to ``s8`` are an ordered scale, low to high."""

INK, MUTED, RULE, PAPER = (COLOURS[role].light for role in ("ink", "muted", "rule", "paper"))
GENERAL, DOMAIN, PICK = (COLOURS[role].light for role in ("general", "domain", "pick"))
_STEPS = 9

MARKS = {
    f"s{step}": mark
    for step, mark in enumerate(
        (
            ("o", "\u25cb"),
            ("s", "\u25a1"),
            ("^", "\u25b3"),
            ("v", "\u25bd"),
            ("D", "\u25c7"),
            ("P", "\u271a"),
            ("<", "\u25c1"),
            (">", "\u25b7"),
            ("p", "\u2b20"),
        )
    )
}
"""Marks of the ordered scale by role: that of matplotlib, and the character that looks like it."""


def scale_roles(values: Sequence[float | None]) -> dict[float | None, str]:
    """Give every distinct value a role of the ordered scale, evenly spaced by rank.

    Args:
        values: Ratios or learning rates; None (unknown) comes first.

    Returns:
        Role (``s0`` .. ``s8``) by value; neighbours share a role beyond nine values.
    """
    ordered = sorted(set(values), key=lambda value: -1.0 if value is None else value)
    last = max(len(ordered) - 1, 1)
    return {value: f"s{round(i * (_STEPS - 1) / last)}" for i, value in enumerate(ordered)}


def css_variables(mode: str) -> str:
    """CSS declarations of all colours for ``light`` or ``dark``."""
    return " ".join(f"--{role}: {getattr(colour, mode)};" for role, colour in COLOURS.items())


_BY_LIGHT = {colour.light: role for role, colour in COLOURS.items()}
_HEX = re.compile(r"#[0-9a-f]{6}\b")
_FAMILY = re.compile(r"font-family: [^;\"]*;? ?")
_FONT = re.compile(r"font: (?:(\d{3}|bold) )?([\d.]+)px [^;\"]*")


def to_svg(figure: Figure, label: str) -> str:
    """Write a figure as an inline SVG that follows the page's colours and fonts.

    Args:
        figure: Drawn with the colours of this module.
        label: Text for screen readers.

    Returns:
        An ``<svg>`` element without size, which fills the width of its container. On a page with
        several, its ids need :func:`number_ids`.
    """
    buffer = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "dcpt"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    body = text[text.index("<svg") : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.S)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.S)
    head, inner = body.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', head)
    assert box is not None
    inner = re.sub(r'<g id="[^"]*"', "<g", inner)
    inner = inner.replace("xlink:href", "href")
    inner = _HEX.sub(_variable, inner)
    inner = _FAMILY.sub("", _FONT.sub(_font, inner))
    inner = re.sub(r"\s*\n\s*", "\n", inner)
    return f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(label)}">{inner}</svg>'


def number_ids(svg: str, number: int) -> str:
    """Put a figure's number before its ids, so that figures on a page have distinct ids.

    A number cannot contain markup, while the name of a channel can.
    """
    svg = re.sub(r'(<[^<>]* id=")', rf"\g<1>f{number}-", svg)
    return re.sub(r'(<[^<>]* href="|url\()#', rf"\1#f{number}-", svg)


def _variable(match: re.Match[str]) -> str:
    """A colour of the palette as a CSS variable; other colours stay."""
    role = _BY_LIGHT.get(match[0])
    return f"var(--{role})" if role else match[0]


def _font(match: re.Match[str]) -> str:
    """Keep size and weight; the page sets the family."""
    weight = f"font-weight: {match[1]}; " if match[1] else ""
    return f"{weight}font-size: {match[2]}px"


def new_axes(
    width: float = 4.6, height: float = 3.4, head: float = 0.12, side: float = 0.68
) -> Axes:
    """Axes on a new figure, in inches; margins are fixed, since measuring text is slow."""
    figure = Figure(figsize=(width, height))
    ax = figure.add_subplot()
    figure.subplots_adjust(
        left=side / width, right=1 - 0.1 / width, bottom=0.55 / height, top=1 - head / height
    )
    return ax


def dress(ax: Axes) -> Axes:
    """Style axes for the report: two spines, a grid behind the data, readable labels."""
    ax.set_facecolor("none")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)
    ax.tick_params(colors=MUTED, labelsize=9.5, length=3)
    ax.tick_params(which="minor", length=0)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    ax.grid(color=RULE, linewidth=0.7)
    ax.set_axisbelow(True)
    return ax
