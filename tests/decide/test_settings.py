"""Answers at other settings: limited text, and limits on several channels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import test_limited_text

import dcpt
from dcpt.decide.settings import Answer, Cell, Settings, answer_settings
from dcpt.decide.stops import find_stops
from dcpt.laws.fits.result import Fit
from dcpt.limit import Limit

limited_fit = test_limited_text.limited_fit
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def settings(limited_fit: Fit) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcpt.decide.stops.FACTORS", (1.0,))
        asked = test_limited_text.target(domain=4e6)
        return answer_settings(limited_fit, dcpt.recommend(limited_fit, asked))


def own_answer(settings: Settings, cell: Cell) -> Answer:
    limits, odds = settings.stops.limits, settings.stops.confidences
    target = settings.target
    return cell.answers[limits.index(target.limit)][odds.index(target.confidence)]


def test_the_amount_of_text_is_a_setting_where_a_law_depends_on_it(
    settings: Settings, limited_fit: Fit
) -> None:
    own = settings.target.unique_tokens["domain"]
    assert settings.stops.unique_tokens == (own / 2, own, 2 * own)
    shares = []
    for cell in settings.cells:
        expected = dcpt.recommend(limited_fit, cell.target).best
        answer = own_answer(settings, cell)
        assert answer.choice.pair == expected.pair
        shares.append(answer.choice.ratio)
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


def test_limits_on_several_channels_have_no_other_stops(limited_fit: Fit) -> None:
    asked = test_limited_text.target(domain=4e6)
    answer = dcpt.recommend(limited_fit, asked)
    limits = {"en": Limit(3, "percent"), "zh": Limit(1, "percent")}
    stops = find_stops(limited_fit, replace(answer, limits=limits))
    assert stops.limits == (answer.target.limit,)
