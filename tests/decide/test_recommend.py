from __future__ import annotations

import numpy as np
import pytest
from known_truth import BASE_GENERAL, COST

from dcpt.decide.recommend import recommend
from dcpt.decide.sentences import summarise
from dcpt.errors import InputError
from dcpt.limit import Limit

ALLOWED_RISE = 0.03 * BASE_GENERAL
BEST_RATIO = 0.5
BEST_RATE = ALLOWED_RISE / COST * 1e-3


def share_at(rate: float, cost: float | np.ndarray = COST, rise: float = ALLOWED_RISE):
    odds = rise / (cost * rate / 1e-3)
    return odds / (1 + odds)


def is_rounded_down(ratio: float, share: float) -> bool:
    """Whether a ratio is a share down to three decimals, itself known to 3e-4."""
    return ratio == round(ratio, 3) and -3e-4 <= share - ratio < 1e-3 + 3e-4


def names(recommendation) -> set[str]:
    return {flag.label for flag in recommendation.flags}


def test_best_pair_is_the_known_optimum(known_fit, target):
    fit = known_fit()
    answer = recommend(fit, target())
    best = answer.central
    # The grid of rates is log-spaced; along it the optimum is flat, so its value is what counts.
    assert best.learning_rate == pytest.approx(BEST_RATE, rel=0.08)
    assert is_rounded_down(best.ratio, share_at(best.learning_rate))
    assert best.ratio == pytest.approx(BEST_RATIO, abs=0.03)
    lowest = 4 - 0.3 * np.log(BEST_RATE / 1e-3) - 0.6 * np.log(BEST_RATIO)
    rounding = 0.6 / best.ratio * 1e-3  # what a thousandth of a share is worth
    assert -5e-4 <= best.losses["domain"].value - lowest <= rounding + 5e-4
    assert best.within_limit
    rounding = COST * best.learning_rate / 1e-3 / (1 - best.ratio) ** 2 * 1e-3
    assert -rounding - 2e-4 <= best.general_rise.value - ALLOWED_RISE <= 2e-4
    assert answer.evidence.level == "recommended"
    assert answer.allowed_general_loss == pytest.approx(BASE_GENERAL * 1.03)
    assert answer.phase == "annealed"
    assert answer.flags == []


def test_intervals_are_the_quantiles_of_the_known_draws(known_fit, target):
    fit = known_fit()
    answer = recommend(fit, target(), level=0.8)
    low, high = np.quantile(share_at(answer.best.learning_rate, fit.costs), [0.1, 0.9])
    assert answer.ratio_interval.low == pytest.approx(low, abs=5e-4)
    assert answer.ratio_interval.high == pytest.approx(high, abs=5e-4)
    assert is_rounded_down(answer.ratio_interval.value, share_at(answer.best.learning_rate))
    rates = np.quantile(ALLOWED_RISE / fit.costs * 1e-3, [0.1, 0.9])
    assert answer.learning_rate_interval.low == pytest.approx(rates[0], rel=0.1)
    assert answer.learning_rate_interval.high == pytest.approx(rates[1], rel=0.1)
    rise = (
        fit.costs * answer.best.learning_rate / 1e-3 * answer.best.ratio / (1 - answer.best.ratio)
    )
    assert answer.best.probability == (rise <= ALLOWED_RISE).mean()
    assert answer.best.general_rise.high == pytest.approx(np.quantile(rise, 0.9), abs=1e-9)


def test_held_rate_gives_its_own_share_and_says_what_it_costs(known_fit, target):
    fit = known_fit()
    answer = recommend(fit, target(learning_rate=5e-4))
    assert answer.best.learning_rate == answer.central.learning_rate == 5e-4
    assert is_rounded_down(answer.central.ratio, share_at(5e-4))
    assert is_rounded_down(answer.best.ratio, share_at(5e-4, np.quantile(fit.costs, 0.8)))
    assert answer.learning_rate_interval is None
    assert "learning_rate_held" in names(answer)
    free = answer.alternatives["learning rate chosen"]
    kept = ALLOWED_RISE / np.quantile(fit.costs, 0.8) * 1e-3
    assert free.learning_rate == pytest.approx(kept, rel=0.08)
    assert free.regret.value < -0.03


def test_largest_share_at_every_rate_seen(known_fit, target):
    fit = known_fit()
    answer = recommend(fit, target())
    by_rate = {frontier.learning_rate: frontier for frontier in answer.frontiers}
    assert set(fit.rates) <= set(by_rate)
    assert answer.best.learning_rate in by_rate
    for rate in fit.rates:
        frontier = by_rate[rate]
        assert is_rounded_down(frontier.largest_ratio.value, share_at(rate))
        assert is_rounded_down(frontier.kept_ratio, share_at(rate, np.quantile(fit.costs, 0.8)))
        low, high = np.quantile(share_at(rate, fit.costs), [0.05, 0.95])
        assert frontier.largest_ratio.low == pytest.approx(low, abs=5e-4)
        assert frontier.largest_ratio.high == pytest.approx(high, abs=5e-4)
        assert len(frontier.ratio) == len(frontier.general) == len(frontier.domain_high)
        assert (np.diff(frontier.general) > 0).all()


def test_other_rates_held_are_alternatives_with_their_regret(known_fit, target):
    fit = known_fit()
    answer = recommend(fit, target())
    held = answer.alternatives["learning rate 3e-4 held"]
    assert is_rounded_down(held.ratio, share_at(3e-4, np.quantile(fit.costs, 0.8)))
    gap = held.losses["domain"].value - answer.best.losses["domain"].value
    assert held.regret.value == pytest.approx(gap)
    assert held.regret.value > 0


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.9, 0.99])
def test_the_pair_keeps_the_limit_in_the_asked_share_of_the_draws(known_fit, target, confidence):
    fit = known_fit()
    answer = recommend(fit, target(confidence=confidence))
    assert confidence - 0.01 <= answer.best.probability < confidence + 0.03
    # At each quantile of the cost the same optimum holds: the share stays, the rate gives way.
    cost = np.quantile(fit.costs, confidence)
    assert answer.best.learning_rate == pytest.approx(ALLOWED_RISE / cost * 1e-3, rel=0.1)
    assert is_rounded_down(answer.best.ratio, share_at(answer.best.learning_rate, cost))


def test_certainty_has_a_price(known_fit, target):
    answer = recommend(known_fit(), target())
    price = answer.best.losses["domain"].value - answer.central.losses["domain"].value
    assert 0 < price < 0.2
    assert answer.central.regret.value == pytest.approx(-price)
    surer = recommend(known_fit(), target(confidence=0.95))
    assert surer.best.losses["domain"].value > answer.best.losses["domain"].value
    assert surer.central.pair == answer.central.pair


def test_a_limit_that_too_few_draws_keep(known_fit, target):
    # At cost 100 no share is within the limit: 70 % of the draws can be kept, 80 % cannot.
    fit = known_fit(costs=np.repeat([COST, 100.0], [140, 60]), rates=(9e-4,))
    answer = recommend(fit, target())
    assert answer.best is None
    assert answer.central.probability == pytest.approx(0.7)
    flag = next(flag for flag in answer.flags if flag.kind == "limit_not_kept_at_odds")
    assert "in 80 % of the bootstrap draws" in flag.sentence
    words = summarise(answer)
    assert words[0].endswith("within +3% of the base's in 80 % of the bootstrap draws.")
    assert words[2].startswith("By the central predictions alone the best pair is")
    assert recommend(fit, target(confidence=0.7)).best.ratio == answer.central.ratio


@pytest.mark.parametrize("confidence", [0.49, 0.995, 80])
def test_a_confidence_that_is_none(known_fit, target, confidence):
    with pytest.raises(InputError, match=r"confidence .* is not between 0.5 and 0.99"):
        recommend(known_fit(), target(confidence=confidence))


def test_habits_are_judged_at_the_recommended_rate(known_fit, target):
    answer = recommend(known_fit(), target())
    assert [habit.ratio for habit in answer.habits] == [0.95, 0.9, 0.8, 0.75, 0.67, 0.5]
    assert {habit.learning_rate for habit in answer.habits} == {answer.best.learning_rate}
    assert not answer.habits[0].within_limit
    assert answer.habits[0].probability == 0
    assert answer.habits[0].regret.value < 0


def test_draws_with_no_feasible_share_count_as_zero(known_fit, target):
    # Re-warm rise of .05 lam: at 2e-3 it is .1, above the limit whatever the share.
    costs = np.full(200, COST)
    fit = known_fit(rewarm=0.05, costs=costs, rates=(2e-3,))
    answer = recommend(fit, target())
    assert answer.best is None
    assert answer.ratio_interval.value is None
    assert answer.ratio_interval.low == answer.ratio_interval.high == 0
    assert answer.frontiers[0].largest_ratio.value is None
    assert [habit.regret.value for habit in answer.habits] == [None] * 6
    flag = next(flag for flag in answer.flags if flag.kind == "no_share_meets_limit")
    least = BASE_GENERAL + 2 * (COST * 0.01 / 0.99 + 0.05)
    assert f"{least:.3f}" in flag.sentence
    assert answer.central is None


def test_draws_out_of_reach_at_some_rates(known_fit, target):
    # The least rise is cost lam .01 / .99: at cost 60 only the lower rate is within .084, at 100
    # none is.
    costs = np.repeat([COST, 60.0, 100.0], [160, 20, 20])
    answer = recommend(known_fit(costs=costs, rates=(1e-4, 9e-4)), target())
    assert answer.best.learning_rate == 9e-4
    assert answer.ratio_interval.low == 0
    assert "may_be_out_of_reach" in names(answer)
    # 20 of the 180 draws that have a choice take the lower rate.
    assert answer.learning_rate_interval.low < 2e-4
    few = np.repeat([COST, 100.0], [195, 5])
    assert "may_be_out_of_reach" not in names(recommend(known_fit(costs=few), target()))


def test_limit_that_does_not_bind_stops_at_the_cliff(known_fit, target):
    answer = recommend(known_fit(rates=(1e-4, 3e-4)), target(limit=Limit(0.9, "nats")))
    assert answer.best.ratio == 0.97
    assert answer.best.learning_rate == 3e-4
    assert answer.ratio_interval.high == 0.97
    assert {"limit_does_not_bind", "near_cliff", "learning_rate_at_edge"} <= names(answer)


def test_excess_at_the_smallest_shares_costs_nothing(known_fit, target):
    plain = recommend(known_fit(), target())
    bent = recommend(known_fit(unseen_text=5.0), target())
    assert bent.best.ratio == plain.best.ratio
    assert bent.best.learning_rate == plain.best.learning_rate


def test_rates_never_leave_what_was_seen(known_fit, target):
    answer = recommend(known_fit(rates=(1e-4, 3e-4)), target())
    assert answer.best.learning_rate == 3e-4
    assert max(frontier.learning_rate for frontier in answer.frontiers) == 3e-4
    assert "learning_rate_at_edge" in names(answer)
    assert answer.learning_rate_interval.high == 3e-4


def test_rates_are_those_of_the_nearest_sizes_that_saw_several(known_fit, target):
    def rates_looked_at(seen: list[tuple[float, float, str]], n_params: float) -> set[float]:
        answer = recommend(known_fit(only_rates=tuple(seen)), target(n_params=n_params))
        return {frontier.learning_rate for frontier in answer.frontiers}

    small = [(2e6, rate, "annealed") for rate in (1e-4, 3e-4, 9e-4)]
    apart = [*small, (8e6, 2e-3, "annealed"), (8e6, 4e-3, "annealed")]
    assert rates_looked_at(apart, 8e6) == {2e-3, 4e-3}
    assert rates_looked_at(apart, 8e7) == {2e-3, 4e-3}
    assert {1e-4, 3e-4, 9e-4} <= rates_looked_at(apart, 1e6)
    one_at_large = [*small, (8e6, 2e-3, "annealed")]
    assert {1e-4, 3e-4, 9e-4, 2e-3} <= rates_looked_at(one_at_large, 8e6)
    assert max(rates_looked_at(one_at_large, 1e6)) == 9e-4
    constant_only = [*apart, (8e6, 1e-4, "constant")]
    assert rates_looked_at(constant_only, 8e6) == {2e-3, 4e-3}


def test_one_rate_seen_is_held_and_said(known_fit, target):
    answer = recommend(known_fit(rates=(9e-4,)), target())
    assert answer.best.learning_rate == 9e-4
    assert answer.learning_rate_interval is None
    assert names(answer) == {"learning_rate_held"}


def test_runs_without_a_learning_rate(known_fit, target):
    fit = known_fit(rates=(), need=frozenset({"ratio"}))
    answer = recommend(fit, target())
    assert answer.best.learning_rate is None
    assert is_rounded_down(answer.central.ratio, share_at(1e-3))
    assert answer.frontiers[0].learning_rate is None
    assert "learning_rate_held" in names(answer)
    assert "learning_rate" not in answer.extrapolation
    with pytest.raises(InputError, match="the runs have no learning rate"):
        recommend(fit, target(learning_rate=1e-3))


def test_extrapolation_is_a_factor_per_axis(known_fit, target):
    answer = recommend(known_fit(), target(n_params=80e6, n_tokens=88e6, learning_rate=8e-3))
    assert answer.extrapolation == pytest.approx(
        {"n_params": 10, "n_tokens": 2, "learning_rate": 2}
    )
    assert {
        "extrapolates (n_params)",
        "extrapolates (n_tokens)",
        "extrapolates (learning_rate)",
    } <= names(answer)
    smaller = recommend(known_fit(), target(n_params=1e6))
    assert smaller.extrapolation["n_params"] == pytest.approx(2)


def test_constant_rate_losses_are_said(known_fit, target):
    answer = recommend(known_fit(annealed=False), target())
    assert answer.phase == "constant"
    assert names(answer) == {"constant_rate_losses"}


def test_limits_that_cannot_be_resolved(known_fit, target):
    near = recommend(known_fit(rewarm=0.06, rates=(9e-4,)), target())
    assert "limit_near_rewarm_rise" in names(near)
    noise = recommend(known_fit(), target(limit=Limit(0.005, "nats")))
    assert "limit_within_noise" in names(noise)


def test_uncertain_fits_are_said(known_fit, target):
    costs = COST * np.exp(np.linspace(-3, 3, 200))
    assert "wide_interval" in names(recommend(known_fit(costs=costs), target()))
    apart = recommend(known_fit(laws_apart=0.04), target())
    assert "laws_disagree" in names(apart)
    assert set(apart.ratio_by_law) == {"known", "other"}
    assert apart.ratio_by_law["known"] > apart.ratio_by_law["other"] + 0.1
    biased = recommend(known_fit(costs=np.linspace(1.5, 1.9, 99) * COST), target())
    assert "outside_own_interval" in names(biased)


def test_general_names_the_only_general_channel(known_fit, target):
    answer = recommend(known_fit(general_channels=("en",)), target())
    assert answer.general_channel == "en"
    assert set(answer.best.losses) == {"en", "domain"}
    assert answer.target.base_losses == {"en": BASE_GENERAL}


def test_weighted_total_is_what_the_limit_is_on(known_fit, target):
    fit = known_fit(general_channels=("en", "zh", "general_total"))
    answer = recommend(fit, target(base_losses={"general_total": BASE_GENERAL}))
    assert answer.general_channel == "general_total"
    assert set(answer.best.losses) == {"en", "zh", "general_total", "domain"}
    with pytest.raises(InputError, match=r"2 general channels \(en, zh\) and no weighted total"):
        recommend(known_fit(general_channels=("en", "zh")), target())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"n_params": 7}, "n_params 7 is below 1,000"),
        ({"n_tokens": 0}, "n_tokens 0 is not above 0"),
        ({"n_tokens": float("nan")}, "n_tokens nan is not above 0"),
        ({"limit": Limit(-100, "percent")}, r"limit -100% is not above minus 100 percent"),
        ({"limit": Limit(float("nan"), "nats")}, r"limit \+?nan nats is"),
        ({"limit": Limit(3, "nats")}, r"limit \+3 nats is above 1 nats"),
        ({"base_losses": {"general": -2.0}}, "base loss of general is -2"),
        ({"base_losses": {"general": 31.0}}, "perplexity"),
        ({"base_losses": {}}, "base loss of channel general is missing.*dcpt evaluate MODEL"),
        ({"learning_rate": 2.0}, r"learning_rate 2 is not in \(0, 1\]"),
        ({"base_peak_learning_rate": 0.0}, "base_peak_learning_rate 0 is not in"),
        ({"base_n_tokens": -1.0}, "base_n_tokens -1 is not above 0"),
        ({"warmup_tokens": 1e9}, "warmup_tokens 1e.09 is not between 0 and n_tokens"),
    ],
)
def test_impossible_targets_are_named(known_fit, target, fields, says):
    with pytest.raises(InputError, match=says) as caught:
        recommend(known_fit(), target(**fields))
    assert len(caught.value.problems) == 1


def test_all_problems_come_together(known_fit, target):
    fit = known_fit(need=frozenset({"ratio", "base_loss", "base_peak_learning_rate"}))
    with pytest.raises(InputError) as caught:
        recommend(fit, target(n_params=7, base_losses={}))
    said = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for part in ("n_params 7", "channel general", "channel domain", "base_peak_learning_rate"):
        assert part in said


def test_laws_without_a_share_choose_none(known_fit, target):
    with pytest.raises(InputError, match="do not depend on the share"):
        recommend(known_fit(need=frozenset({"n_params"})), target())
    with pytest.raises(InputError, match="no domain channel"):
        recommend(known_fit(domain_channel=None), target())


def test_level_is_a_share_of_the_draws(known_fit, target):
    with pytest.raises(InputError, match="level 90 is not between 0 and 1"):
        recommend(known_fit(), target(), level=90)


def test_a_held_rate_outside_of_the_grid_is_no_free_choice(known_fit, target):
    # The domain gains with the rate, so 9e-4 would win were it free to choose.
    fit = known_fit(rates=(1e-4, 3e-4))
    answer = recommend(fit, target(learning_rate=9e-4))
    assert answer.alternatives["learning rate chosen"].learning_rate <= 3e-4


def test_a_rate_seen_at_other_sizes_only_is_said(known_fit, target):
    small = [(2e6, rate, "annealed") for rate in (1e-4, 3e-4, 9e-4)]
    large = [(8e6, 2e-3, "annealed"), (8e6, 4e-3, "annealed")]
    fit = known_fit(only_rates=(*small, *large))
    assert "rate_not_seen_near_size" in names(recommend(fit, target(learning_rate=3e-4)))
    assert "rate_not_seen_near_size" not in names(recommend(fit, target(learning_rate=3e-3)))


def test_a_warmup_that_the_runs_do_not_agree_on_is_asked_for(known_fit, target):
    fit = known_fit(need=frozenset({"ratio", "warmup_tokens"}), warmup_tokens=None)
    with pytest.raises(InputError, match="target warmup_tokens is missing"):
        recommend(fit, target())
    assert recommend(fit, target(warmup_tokens=4e5)).best is not None
