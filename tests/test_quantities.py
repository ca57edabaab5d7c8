from __future__ import annotations

import pytest

from dcpt.quantities import format_chance, format_count, parse_count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("10B", 10_000_000_000),
        ("1.5e9", 1_500_000_000),
        ("350M", 350_000_000),
        ("204.8k", 204_800),
        ("1_000", 1000),
        (4096, 4096),
        (2e6, 2_000_000),
        ("0", 0),
    ],
)
def test_human_counts(text: object, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["ten", "", "-3", "1.5", "nan", "inf", True, None, "3 apples"])
def test_what_is_no_count_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="count"):
        parse_count(text)


@pytest.mark.parametrize(("count", "text"), [(1_803_392, "1.8M"), (44e6, "44M"), (512, "512")])
def test_counts_for_people(count: float, text: str) -> None:
    assert format_count(count) == text


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.994, "99 %"), (0.996, "over 99 %"), (1.0, "over 99 %"), (0.006, "1 %"), (0.0, "under 1 %")],
)
def test_a_chance_is_never_written_as_0_or_100_percent(probability: float, words: str) -> None:
    assert format_chance(probability) == words
