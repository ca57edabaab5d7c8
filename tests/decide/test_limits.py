"""No limit, and limits on several channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from known_truth import BASE_GENERAL, LARGE_RATE

from dcpt.decide import read_recommendation, recommend, summarise, write_recommendation
from dcpt.decide.measured_words import measured_headline
from dcpt.decide.next_runs import next_runs
from dcpt.decide.records import Verification, Verified
from dcpt.errors import InputError
from dcpt.limit import Limit
from dcpt.report.card import recommend_command
from dcpt.report.decision_sections import learning_rate_section, trade_off_section
from dcpt.report.decision_tables import choices_table
from dcpt.report.decision_tiles import answer_tiles

NO_BASE = frozenset({"ratio", "learning_rate"})
DOMAIN_ALONE = {
    "general_channels": (),
    "need": NO_BASE,
    "shares": (0.1, 0.5, 0.9),
}


def test_without_a_limit_the_largest_share_of_the_runs_is_best_and_said(known_fit, target) -> None:
    answer = recommend(known_fit(shares=(0.1, 0.5, 0.9)), target(limit="none"))
    assert answer.best.ratio == 0.9
    assert answer.best.learning_rate == 4e-3
    assert (answer.best.probability, answer.best.within_limit) == (None, None)
    assert answer.allowed_general_loss is None
    assert answer.best.general_rise.value == pytest.approx(0.06 * 4 * 9)
    assert answer.central.pair == answer.best.pair
    (flag,) = (flag for flag in answer.flags if flag.kind == "no_limit")
    assert "the largest share of the runs, 90 %, which was chosen" in flag.sentence
    assert not any(flag.kind.startswith("limit_") for flag in answer.flags)
    said = " ".join(summarise(answer))
    assert "the general loss rises by 2.160 to 4.960; no limit was asked for." in said
    assert "The chance" not in said


def test_without_a_general_channel_the_domain_alone_decides(
    known_fit, target, tmp_path: Path
) -> None:
    answer = recommend(known_fit(**DOMAIN_ALONE), target(limit="none", base_losses={}))
    assert answer.general_channel is None
    assert answer.best.ratio == 0.9
    assert answer.ratio_interval.low == answer.ratio_interval.high == 0.9
    assert set(answer.best.losses) == {"domain"}
    assert answer.best.general_rise.value is None
    assert "no general loss is known, so neither is what the model forgets" in summarise(answer)[1]
    assert "general rise" not in choices_table(answer).head
    assert [tile.name for tile in answer_tiles(answer)][2:] == ["Domain loss, predicted"]
    assert len(trade_off_section(answer, {}).parts) == 3  # text, losses, one figure
    assert len(learning_rate_section(answer).parts) == 2  # no table of shares within a limit
    write_recommendation(answer, tmp_path)
    assert read_recommendation(tmp_path) == answer


def test_base_losses_that_laws_need_are_asked_for_by_name(known_fit, target) -> None:
    with pytest.raises(
        InputError, match=r"base loss of channel general is missing, which its laws"
    ):
        recommend(known_fit(), target(limit="none", base_losses={}))
    alone = known_fit(**{**DOMAIN_ALONE, "need": frozenset({"ratio", "base_loss_general"})})
    with pytest.raises(InputError, match=r"base loss of channel domain is missing, which its laws"):
        recommend(alone, target(limit="none", base_losses={}))


def test_a_limit_needs_a_channel(known_fit, target) -> None:
    with pytest.raises(InputError, match=r"no general channel.*--limit none"):
        recommend(known_fit(**DOMAIN_ALONE), target(base_losses={}))


def asked(target, **limits: str):
    return target(limit="none", channel_limits=limits, base_losses={"en": 2.5, "zh": 3.5})


def test_limits_on_channels_are_all_kept_and_the_binding_one_is_named(known_fit, target) -> None:
    fit = known_fit(general_channels=("en", "zh"), need=NO_BASE)
    both = recommend(fit, asked(target, en="4%", zh="1%"))
    alone = recommend(fit, asked(target, zh="1%"))
    # Both rise alike: 1 % of 3.5 is reached before 4 % of 2.5.
    assert both.best.pair == alone.best.pair
    assert both.central.losses["zh"].value == pytest.approx(3.5 * 1.01, abs=3e-4)
    assert both.best.probability == pytest.approx(alone.best.probability)
    assert (both.general_channel, alone.general_channel) == ("general_worst", "zh")
    (flag,) = (flag for flag in both.flags if flag.kind == "limit_on_each")
    assert flag.values["binding"] == "zh"
    assert "The limits en +4%, zh +1% must all be kept." in flag.sentence
    assert "the loss of zh, the binding channel, rises by" in " ".join(summarise(both))
    assert "the loss of zh rises by" in " ".join(summarise(alone))
    other = recommend(fit, asked(target, en="1%", zh="4%"))
    assert next(f for f in other.flags if f.kind == "limit_on_each").values["binding"] == "en"


def test_a_limit_on_each_channel_and_on_another_are_both_named(known_fit, target) -> None:
    fit, bases = known_fit(general_channels=("en", "zh"), need=NO_BASE), {"en": 2.5, "zh": 3.5}
    each = recommend(fit, target(limit="+3% each", base_losses=bases))
    assert "the limit is +3%" in " ".join(summarise(each))
    asked = replace(each.target, channel_limits={"tasks": Limit.parse("+1%")})
    both = " ".join(summarise(replace(each, target=asked)))
    assert "the limits are +3% each, tasks +1%" in both


def test_odds_count_the_draws_that_keep_every_limit(known_fit, target) -> None:
    fit = known_fit(general_channels=("en", "zh"), need=NO_BASE)
    answer = recommend(fit, asked(target, en="0.03", zh="0.05"))
    rises = fit.costs * answer.best.learning_rate / LARGE_RATE
    rises = rises * answer.best.ratio / (1 - answer.best.ratio)
    assert answer.best.probability == pytest.approx((rises <= 0.03).mean(), abs=0.006)
    assert answer.best.general_rise.value == pytest.approx(
        answer.best.losses["en"].value - 2.5, abs=1e-6
    )


def test_a_limit_on_the_total_and_on_a_channel(known_fit, target) -> None:
    fit = known_fit(general_channels=("en", "zh", "general_total"))
    losses = {"en": 2.5, "zh": 3.5, "general_total": BASE_GENERAL}
    answer = recommend(fit, target(base_losses=losses, channel_limits={"zh": Limit(1, "percent")}))
    assert set(answer.limits) == {"general_total", "zh"}
    assert answer.target.limits_in_words == "+3%, zh +1%"
    named = recommend(
        fit, target(limit="none", channel_limits={"general": "3%"}, base_losses=losses)
    )
    assert named.general_channel == "general_total"


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"code": "3%"}, r"limit code=\+3%: the fit has no such channel; it can limit en, zh"),
        ({"domain": "3%"}, "the loss of the domain channel is minimized and takes no limit"),
        ({"en": "3% each"}, "each is for the limit on all channels"),
        ({"en": "300%"}, r"target en: limit \+300% is above 100 percent"),
    ],
)
def test_limits_that_no_channel_can_have(known_fit, target, limits, says) -> None:
    with pytest.raises(InputError, match=says):
        recommend(known_fit(general_channels=("en", "zh"), need=NO_BASE), asked(target, **limits))


def test_a_channel_has_one_limit(known_fit, target) -> None:
    with pytest.raises(InputError, match="this channel has a limit already"):
        recommend(known_fit(), target(channel_limits={"general": "1%"}))


def test_next_runs_need_a_limit(known_fit, target) -> None:
    with pytest.raises(InputError, match="without a limit there is no share"):
        next_runs(known_fit(), target(limit="none"))


def test_the_command_of_a_card_repeats_the_limits(known_fit, target) -> None:
    fit = known_fit(general_channels=("en", "zh"), need=NO_BASE)
    words = recommend_command(recommend(fit, asked(target, en="4%", zh="1%")))
    assert {"--limit=en=+4%", "--limit=zh=+1%"} <= set(words)
    assert "--limit=none" in recommend_command(recommend(known_fit(), target(limit="none")))


def test_a_verification_without_a_limit_compares_domain_losses(known_fit, target) -> None:
    answer = recommend(known_fit(), target(limit="none"))
    run = Verified("recommendation", "a", 0.97, 4e-3, {}, {"domain": 3.5}, {})
    checked = Verification(0.9, [run], True, None, "recommendation", [])
    assert measured_headline(answer, checked) == (
        "Measured: 97 % domain text at a peak learning rate of 4e-3 gives a domain loss of "
        "3.500, the lowest of the trained pairs."
    )
