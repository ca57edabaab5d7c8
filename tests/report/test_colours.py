"""The colours of page and figures, as readers without one kind of cones see them.

Machado, Oliveira and Fernandes (2009) at full severity, and distances in CAM02-UCS (Luo, Cui and Li
2006), both as ``colorspacious`` computes them. Two colours about one unit apart are just
distinguishable side by side.
"""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from colorspacious import cspace_convert

from dcpt.report.theme import COLOURS, MARKS, scale_roles

READERS = (None, "deuteranomaly", "protanomaly", "tritanomaly")
OF_ROLES, OF_NEIGHBOURS, OF_FEW = 14.0, 5.0, 10.0
"""Smallest distances: of roles, of neighbours on the scale, of neighbours among five values."""


def seen(role: str, mode: str, reader: str | None) -> np.ndarray:
    """A colour of the palette in CAM02-UCS, shape (3,)."""
    text = getattr(COLOURS[role], mode)
    colour = np.array([int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    if reader is not None:
        space = {"name": "sRGB1+CVD", "cvd_type": reader, "severity": 100}
        colour = np.clip(cspace_convert(colour, space, "sRGB1"), 0, 1)
    return cspace_convert(colour, "sRGB1", "CAM02-UCS")


def distance(pair: tuple[str, str], mode: str, reader: str | None) -> float:
    first, other = (seen(role, mode, reader) for role in pair)
    return float(np.linalg.norm(first - other))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_reader_tells_the_roles_apart(mode: str, reader: str | None) -> None:
    for pair in combinations(("general", "domain", "pick", "ink"), 2):
        assert distance(pair, mode, reader) >= OF_ROLES, pair


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_reader_sees_the_order_of_the_scale(mode: str, reader: str | None) -> None:
    scale = [f"s{step}" for step in range(9)]
    for pair in pairwise(scale):
        assert distance(pair, mode, reader) >= OF_NEIGHBOURS, pair
    for pair in pairwise(scale_roles([1.0, 2.0, 3.0, 4.0, 5.0]).values()):
        assert distance(pair, mode, reader) >= OF_FEW, pair
    lightness = np.array([seen(role, mode, reader)[0] for role in scale])
    assert (np.diff(lightness) > 0).all()


def test_every_step_of_the_scale_has_a_mark_of_its_own() -> None:
    assert MARKS.keys() == {role for role in COLOURS if role.startswith("s")}
    assert len({mark for mark, _ in MARKS.values()}) == len(MARKS)
    assert len({character for _, character in MARKS.values()}) == len(MARKS)
