from __future__ import annotations

import numpy as np
import pytest

from dcpt.decide.trade_off import best_share, largest_share, lowest_stretch

RATIO = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
FALLING = np.array([5.0, 4.0, 3.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("general", "expected"),
    [
        ([1, 2, 3, 4, 5], 0.25),  # crosses half way between .2 and .3
        ([1, 1, 1, 1, 1], 0.5),  # never crosses
        ([3, 3, 3, 3, 3], np.nan),  # never within
        ([4, 2, 2, 3, 4], 0.35),  # an excess below does not count
        ([1, 2, 4, 2, 2], 0.225),  # a dip above does not count
        ([2.5, 3, 3, 3, 2.5], 0.1),  # exactly at the limit is within
    ],
)
def test_largest_share_is_the_end_of_the_lowest_stretch(general, expected):
    share = largest_share(RATIO, np.array(general, dtype=float), 2.5)
    assert share == pytest.approx(expected, nan_ok=True)


def test_rows_are_independent():
    general = np.array([[1.0, 2, 3, 4, 5], [3, 3, 3, 3, 3], [4, 2, 2, 3, 4]])
    together = largest_share(RATIO, general, 2.5)
    apart = [largest_share(RATIO, row, 2.5) for row in general]
    assert together == pytest.approx(np.array(apart), nan_ok=True)
    assert lowest_stretch(general, 2.5).sum(axis=1).tolist() == [2, 0, 2]


def test_best_share_is_the_crossing_where_more_domain_text_is_better():
    share, loss = best_share(RATIO, np.array([1.0, 2, 3, 4, 5]), FALLING, 2.5)
    assert share == pytest.approx(0.25)
    assert loss == pytest.approx(3.5)


def test_best_share_is_inside_where_text_runs_out():
    domain = np.array([5.0, 3, 4, 5, 6])
    share, loss = best_share(RATIO, np.array([1.0, 1, 1, 1, 3]), domain, 2.5)
    assert share == 0.2
    assert loss == 3


def test_best_share_never_uses_the_dip_above_an_excess():
    share, loss = best_share(RATIO, np.array([1.0, 2, 4, 2, 2]), FALLING, 2.5)
    assert share == pytest.approx(0.225)
    assert loss == pytest.approx(3.75)


def test_no_share_within_the_limit():
    share, loss = best_share(RATIO, np.full(5, 3.0), FALLING, 2.5)
    assert np.isnan(share)
    assert np.isinf(loss)
