"""Growth of errors with the rise of the general loss: values that follow by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dcpt.laws.fits.growth import growth_at, typical_rise
from dcpt.laws.points.channel_data import points_from_table
from dcpt.laws.points.record import Points

RISES = np.array([0.0, 0.1, -0.1, 0.3])


def test_errors_grow_with_the_rise_in_units_of_the_typical_one() -> None:
    points = Points(base_loss=np.full(4, 3.0))
    grown = growth_at(points, 3.0 + RISES, 0.1)
    assert grown == pytest.approx([1, 2**0.5, 2**0.5, 10**0.5])
    assert growth_at(points, 3.0 + RISES, None) == pytest.approx(np.ones(4))
    # Without the base's loss the rise is taken to be the typical one.
    unknown = replace(points, base_loss=np.array([3.0, np.nan, np.nan, np.nan]))
    assert growth_at(unknown, 3.0 + RISES, 0.1) == pytest.approx([1, *[2**0.5] * 3])
    assert growth_at(Points(), 3.0 + RISES, 0.1) == pytest.approx(np.full(4, 2**0.5))


def test_the_typical_rise_is_that_of_a_general_channel_in_its_phase(ladder: pd.DataFrame) -> None:
    data = points_from_table(ladder, "general")
    annealed = data.points.get("annealed") > 0
    rises = np.abs(data.losses - data.points.get("base_loss"))
    assert typical_rise(data, True) == pytest.approx(np.median(rises[annealed]))
    assert typical_rise(data, False) == pytest.approx(np.median(rises[~annealed]))
    assert typical_rise(points_from_table(ladder, "domain"), True) is None
    unknown = replace(data, points=replace(data.points, base_loss=None))
    assert typical_rise(unknown, True) is None
