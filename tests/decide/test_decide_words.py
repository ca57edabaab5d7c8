from __future__ import annotations

from dcpt.decide.recommend import recommend
from dcpt.decide.words import summarise
from dcpt.limit import Limit
from dcpt.quantities import format_rate


def test_the_answer_comes_first_and_warnings_last(known_fit, target):
    answer = recommend(known_fit(), target(n_params=80e6))
    words = summarise(answer)
    best = answer.best
    assert words[0].startswith("Train with 49.1% domain text and the rest general text")
    assert f"a peak learning rate of {format_rate(best.learning_rate)}:" in words[0]
    assert "80M parameters and 44M tokens" in words[0]
    assert "+3%" in words[0]
    assert "after its final decay" in words[0]
    interval = answer.ratio_interval
    assert f"{interval.low:.2f} to {interval.high:.2f}" in words[1]
    assert words[-1].startswith("Warning: the target has 80M parameters")
    assert any("to be safer take" in word for word in words)


def test_no_answer_is_said_first(known_fit, target):
    answer = recommend(known_fit(rewarm=0.5, rates=(9e-4, 2e-3)), target())
    words = summarise(answer)
    assert words[0].startswith("No share of domain text is within the limit +3%")
    assert any(word.startswith("Warning: no share at any learning rate") for word in words)


def test_a_held_rate_is_named_with_what_a_free_one_gives(known_fit, target):
    fit = known_fit(rewarm=0.05)
    words = summarise(recommend(fit, target(learning_rate=4e-3)))
    assert words[0].endswith("at a peak learning rate of 4e-3.")
    assert any(word.startswith("Warning: no share at the rate 4e-3 meets") for word in words)
    assert any(word.startswith("With the learning rate 3e-4 held the best share") for word in words)
    assert any(word.startswith("With the learning rate chosen freely (") for word in words)


def test_words_name_no_rate_where_there_is_none(known_fit, target):
    fit = known_fit(rates=(), annealed=False, need=frozenset({"ratio"}))
    words = summarise(recommend(fit, target(limit=Limit(0.05, "nats"))))
    assert "learning rate" not in words[0]
    assert "at constant rate" in words[0]
    assert "+0.05 nats" in words[0]


def test_rates_read_like_rates():
    assert format_rate(9e-4) == "9e-4"
    assert format_rate(0.000722) == "7.22e-4"
    assert format_rate(1e-3) == "1e-3"
