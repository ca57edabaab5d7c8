from __future__ import annotations

from dcpt.decide.recommend import recommend
from dcpt.decide.sentences import summarise
from dcpt.limit import Limit
from dcpt.quantities import format_rate


def test_the_answer_comes_first_and_warnings_last(known_fit, target):
    answer = recommend(known_fit(), target(n_params=80e6))
    words = summarise(answer)
    best = answer.best
    assert words[0] == (
        "Tentative: train with 49.2 % domain text at a peak learning rate of "
        f"{format_rate(best.learning_rate)}."
    )
    assert words[1].startswith("For 80M parameters and 44M tokens the domain loss is predicted")
    assert "+3%" in words[1]
    assert "after the final decay" in words[1]
    assert words[2].startswith("The chance of staying within the limit is 80 %; 80 % was asked for")
    assert words[3].startswith("Why tentative: The target has 80M parameters, a factor of 10")
    interval = answer.ratio_interval
    assert f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %" in words[4]


def test_no_answer_is_said_first(known_fit, target):
    answer = recommend(known_fit(rewarm=0.5, rates=(9e-4, 2e-3)), target())
    words = summarise(answer)
    assert words[0] == "No share of domain text keeps the general loss within +3% of the base's."
    assert words[1].startswith("No share of domain text is within the limit +3%")
    assert any(word.startswith("Warning: No share at any learning rate") for word in words)


def test_a_held_rate_is_named_with_what_a_free_one_gives(known_fit, target):
    fit = known_fit(rewarm=0.05)
    words = summarise(recommend(fit, target(learning_rate=4e-3)))
    assert words[1].endswith("at 4e-3.")
    assert any(
        word.startswith("Warning: No share at the learning rate 4e-3 meets") for word in words
    )
    assert any(word.startswith("If the learning rate is fixed at 3e-4, the best") for word in words)
    assert any(word.startswith("If the learning rate is chosen freely (") for word in words)


def test_words_name_no_rate_where_there_is_none(known_fit, target):
    fit = known_fit(rates=(), annealed=False, need=frozenset({"ratio"}))
    words = summarise(recommend(fit, target(limit=Limit(0.05, "nats"))))
    assert "learning rate" not in words[0]
    assert "at constant learning rate" in words[1]
    assert "+0.05 nats" in words[1]


def test_rates_read_like_rates():
    assert format_rate(9e-4) == "9e-4"
    assert format_rate(0.000722) == "7.22e-4"
    assert format_rate(1e-3) == "1e-3"
