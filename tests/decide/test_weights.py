"""A weighted mean of losses in place of a limit."""

from __future__ import annotations

import numpy as np
import pytest
from known_truth import BASE_GENERAL, COST, GAIN_RATE, GAIN_SHARE, LARGE_RATE

from dcpt.decide import Target, recommend, summarise
from dcpt.decide.limited_channels import find_weights
from dcpt.decide.question import ask
from dcpt.errors import InputError
from dcpt.report.card import recommend_command
from dcpt.report.decision_tables import choices_table


def asked(target, **weights: float):
    return target(limit="none", weights=weights)


def test_the_pair_with_the_lowest_mean_loss_is_found(known_fit, target) -> None:
    answer = recommend(known_fit(), asked(target, domain=1.0, general=3.0))
    ratio = np.linspace(0.01, 0.97, 2000)[None, :]
    lam = np.geomspace(1e-4, 4e-3, 400)[:, None] / LARGE_RATE
    domain = 4 - GAIN_RATE * np.log(lam) - GAIN_SHARE * np.log(ratio)
    mean = (domain + 3 * COST * lam * ratio / (1 - ratio)) / 4
    row, column = np.unravel_index(mean.argmin(), mean.shape)
    assert answer.best.ratio == pytest.approx(ratio[0, column], abs=0.02)
    assert answer.best.learning_rate == pytest.approx(lam[row, 0] * LARGE_RATE, rel=0.12)
    assert answer.best.probability is None
    assert all(habit.regret.value >= -1e-6 for habit in answer.habits)
    assert "the mean loss (domain 1, general 3) is minimized" in summarise(answer)[1]
    assert "regret" in choices_table(answer).head
    assert {"--weight=domain=1", "--weight=general=3"} <= set(recommend_command(answer))


def test_more_weight_on_the_general_loss_gives_a_smaller_share(known_fit, target) -> None:
    fit = known_fit(only_rates=((8e6, 1e-3, "annealed"),), rates=(1e-3,))
    light, heavy = (recommend(fit, asked(target, domain=1, general=w)) for w in (1.0, 4.0))
    assert heavy.best.ratio < light.best.ratio - 0.1
    assert ask(fit, asked(target, domain=1, general=4)).minimized == {"domain": 1, "general": 4}
    for answer, weight in ((light, 1.0), (heavy, 4.0)):
        ratio = answer.best.ratio  # where the slopes of both losses cancel
        slope = weight * COST / (1 - ratio) ** 2 - GAIN_SHARE / ratio
        assert abs(slope) < 0.12


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"code": 1.0}, "weight code=1: the fit has no such channel"),
        ({"general": -1.0, "domain": 1.0}, "weight general=-1: write a number of at least 0"),
        ({"general": 0.0}, "the weights of all channels are 0"),
    ],
)
def test_weights_that_cannot_be_meant(known_fit, target, weights, says) -> None:
    with pytest.raises(InputError, match=says):
        recommend(known_fit(), asked(target, **weights))


def test_a_channel_has_a_single_weight(known_fit) -> None:
    target = Target(8e6, 44e6, None, {}, weights={"general": 3.0, "web": 1.0, "domain": 1.0})
    fit = known_fit(general_channels=("web",))
    with pytest.raises(InputError, match="weight web=1: web has a weight already; give one"):
        find_weights(fit, target, "web")


def test_the_mean_loss_is_minimized_within_a_limit(known_fit, target) -> None:
    fit = known_fit()
    light = {"domain": 3.0, "general": 0.1}
    free = recommend(fit, asked(target, **light))
    kept = recommend(fit, target(weights=light))
    assert ask(fit, kept.target).limits.keys() == {"general"}
    assert free.best.general_rise.value > 0.03 * BASE_GENERAL  # the limit decides
    assert kept.best.probability >= kept.target.confidence
    assert kept.best.ratio < free.best.ratio
    ratio = np.linspace(0.01, 0.97, 2000)[None, :]
    lam = np.geomspace(1e-4, 4e-3, 400)[:, None] / LARGE_RATE
    at_odds = np.quantile(fit.costs, kept.target.confidence)
    within = at_odds * lam * ratio / (1 - ratio) <= 0.03 * BASE_GENERAL
    domain = 4 - GAIN_RATE * np.log(lam) - GAIN_SHARE * np.log(ratio)
    mean = (3 * domain + 0.1 * COST * lam * ratio / (1 - ratio)) / 3.1
    row, column = np.unravel_index(np.where(within, mean, np.inf).argmin(), mean.shape)
    assert kept.best.ratio == pytest.approx(ratio[0, column], abs=0.03)
    assert kept.best.learning_rate == pytest.approx(lam[row, 0] * LARGE_RATE, rel=0.15)
    said = summarise(kept)[1]
    assert "the mean loss (domain 3, general 0.1) is minimized; the limit is +3%" in said
    heavy = recommend(fit, target(weights={"domain": 1.0, "general": 50.0}))
    (flag,) = (flag for flag in heavy.flags if flag.kind == "limit_does_not_bind")
    assert "The mean loss (domain 1, general 50) is lowest at a share of" in flag.sentence
    assert {"--limit=+3%", "--weight=domain=3"} <= set(recommend_command(kept))
