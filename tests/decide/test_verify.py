from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from known_truth import BASE_GENERAL, COST

from dcpt.decide.recommend import recommend
from dcpt.decide.surface import round_down
from dcpt.decide.verify import compare_verification, plan_verification
from dcpt.errors import InputError
from dcpt.limit import Limit
from dcpt.quantities import format_loss, format_rate
from dcpt.runs.course import channel_shares
from dcpt.text.mixture import LONGEST_PERIOD

ALLOWED = BASE_GENERAL * 1.03


def trained(planned, cost: float, n_tokens: float = 44e6, domain_off: float = 0.0) -> pd.DataFrame:
    """A runs table as training would give it, were the true cost this one."""
    rows = []
    for run in planned:
        lam = run.learning_rate / 1e-3
        end = BASE_GENERAL + cost * lam * run.ratio / (1 - run.ratio)
        domain = 4 - 0.3 * np.log(lam) - 0.6 * np.log(run.ratio) + domain_off
        fixed = {"run": run.label, "ratio": run.ratio, "learning_rate": run.learning_rate}
        rows.append(
            fixed | {"n_tokens": 0, "phase": "base", "loss_general": 2.8, "loss_domain": 9.0}
        )
        rows.append(
            fixed
            | {"n_tokens": n_tokens, "phase": "constant", "loss_general": 9.0, "loss_domain": 9.0}
        )
        rows.append(
            fixed
            | {
                "n_tokens": n_tokens,
                "phase": "annealed",
                "loss_general": end,
                "loss_domain": domain,
            }
        )
    return pd.DataFrame(rows)


@pytest.fixture
def settled(known_fit, target):
    """A fit, its recommendation, the plan and the labels of its runs."""
    fit = known_fit()
    answer = recommend(fit, target(confidence=0.6))
    planned = plan_verification(answer)
    return fit, answer, planned, {run.label: run.label for run in planned}


def test_plan_is_the_recommendation_and_a_neighbour_on_each_side(settled):
    _, answer, planned, _ = settled
    by_label = {run.label: run for run in planned}
    assert list(by_label) == ["recommendation", "lower share", "higher share"]
    main = by_label["recommendation"].ratio
    assert main == answer.best.ratio
    assert by_label["lower share"].ratio == round(min(answer.ratio_interval.low, main - 0.1), 2)
    assert by_label["higher share"].ratio == round(max(answer.ratio_interval.high, main + 0.1), 2)
    assert {run.learning_rate for run in planned} == {answer.best.learning_rate}
    assert all(run.ratio == round(run.ratio, 3) for run in planned)


@pytest.mark.parametrize("amount", [0.001, 0.003, 0.02, 0.2, 0.6, 1.0])
def test_planned_shares_are_apart_and_trainable(known_fit, target, amount):
    answer = recommend(known_fit(rates=(9e-4,)), target(limit=Limit(amount, "nats")))
    ratios = sorted(run.ratio for run in plan_verification(answer))
    assert len(ratios) == 3
    assert ratios[0] >= min(0.02, answer.best.ratio)
    assert ratios[-1] <= 0.97
    assert min(np.diff(ratios)) >= 0.045
    assert abs(ratios[0] - answer.best.ratio) <= 0.51


def test_nothing_to_verify(known_fit, target):
    answer = recommend(known_fit(rewarm=0.2, rates=(2e-3,)), target())
    with pytest.raises(InputError, match="nothing to verify"):
        plan_verification(answer)


def test_a_hit_is_said(settled):
    fit, answer, planned, labels = settled
    found = compare_verification(fit, answer, trained(planned, COST), labels)
    assert found.recommendation_held
    assert found.limit_held
    assert found.best_measured == "recommendation"
    assert found.measured_ratio == pytest.approx(answer.best.ratio, abs=0.03)
    assert found.ratio_held
    main = found.runs[0]
    assert main.measured["general"] == pytest.approx(main.predicted["general"].value)
    rate = format_rate(answer.best.learning_rate)
    assert found.words[0] == (
        f"Measured: 49.5 % domain text at a peak learning rate of {rate} keeps the limit of +3% "
        "and is the best of the trained pairs."
    )
    assert found.words[1].startswith("The limit held: at 49.5 % domain text")
    assert "OUTSIDE" not in " ".join(found.words)


def test_a_miss_is_said_as_plainly(settled):
    fit, answer, planned, labels = settled
    table = trained(planned, 2.2 * COST)
    found = compare_verification(fit, answer, table, labels)
    assert not found.recommendation_held
    assert not found.limit_held
    main = found.runs[0]
    assert main.inside == {"general": False, "domain": True}
    assert " exceeds the limit of +3% by 0.087 nats" in found.words[0]
    assert found.words[1].startswith("The limit did NOT hold")
    assert any("general loss" in words and "OUTSIDE" in words for words in found.words)
    # The lower share breaks the limit as well here, so no run is within it.
    assert found.best_measured is None
    assert found.measured_ratio is None
    assert found.ratio_held is None
    assert any("on one side of the limit" in words for words in found.words)


def test_too_cautious_is_said(settled):
    fit, answer, planned, labels = settled
    found = compare_verification(fit, answer, trained(planned, 0.3 * COST), labels)
    assert found.limit_held
    assert found.best_measured == "higher share"
    assert found.measured_ratio is None
    assert any("too cautious" in words for words in found.words)


def test_a_lower_share_that_kept_the_limit(settled):
    fit, answer, planned, labels = settled
    found = compare_verification(fit, answer, trained(planned, 1.3 * COST), labels)
    assert not found.limit_held
    assert found.best_measured == "lower share"
    lower, main = found.runs[1].ratio, found.runs[0].ratio
    assert lower < found.measured_ratio < main
    assert any("exceeded the limit" in words for words in found.words)


def test_predictions_are_at_what_the_run_had(settled):
    fit, answer, planned, labels = settled
    table = trained(planned, COST)
    table.loc[table["run"] == "recommendation", "ratio"] = 0.6
    table.loc[table["phase"] == "annealed", "n_tokens"] = 44_500_000
    found = compare_verification(fit, answer, table, labels)
    lam = answer.best.learning_rate / 1e-3
    assert found.runs[0].predicted["general"].value == pytest.approx(
        BASE_GENERAL + COST * np.sqrt(44.5 / 44) * lam * 0.6 / 0.4
    )


def test_domain_miss_breaks_the_recommendation_but_not_the_limit(settled):
    fit, answer, planned, labels = settled
    table = trained(planned, COST, domain_off=0.1)
    found = compare_verification(fit, answer, table, labels)
    assert found.limit_held
    assert not found.recommendation_held


def test_runs_that_verify_nothing_are_named(settled):
    fit, answer, planned, labels = settled
    table = trained(planned, COST)
    with pytest.raises(InputError) as caught:
        compare_verification(fit, answer, table[table["phase"] != "annealed"], labels)
    assert len(caught.value.problems) == 3
    assert "no annealed point" in caught.value.problems[0]
    with pytest.raises(InputError, match=r"'absent'.*not in the table"):
        compare_verification(fit, answer, table, {"absent": "recommendation"})
    with pytest.raises(InputError, match=r"no annealed point near 44M tokens \(nearest: 22M"):
        compare_verification(fit, answer, trained(planned, COST, n_tokens=22e6), labels)
    with pytest.raises(InputError, match="lack 'recommendation'"):
        compare_verification(fit, answer, table, {"lower share": "lower share"})
    with pytest.raises(InputError, match="has no loss_domain at its end"):
        compare_verification(fit, answer, table.drop(columns="loss_domain"), labels)


def test_decays_with_mixtures_of_their_own_verify_nothing(settled):
    fit, answer, planned, labels = settled
    table = trained(planned, COST)
    own = table[table["phase"] == "annealed"].assign(
        loss_general=9.0, excluded="decay with a mixture of its own: best"
    )
    both = pd.concat([own, table.assign(excluded=None)], ignore_index=True)
    found = compare_verification(fit, answer, both, labels)
    assert found.words == compare_verification(fit, answer, table, labels).words


def test_the_very_pair_is_trained(known_fit, target):
    answer = recommend(known_fit(), target())
    main = plan_verification(answer)[0]
    assert main.label == "recommendation"
    assert (main.ratio, main.learning_rate) == (answer.best.ratio, answer.best.learning_rate)
    assert answer.best.ratio != round(answer.best.ratio, 2)


@pytest.mark.parametrize("weights", [(1.0,), (0.25, 0.75), (0.5, 0.3, 0.2), (1.0, 1.0, 1.0)])
def test_every_recommended_share_can_be_trained(weights):
    channels = [
        SimpleNamespace(name=f"general{i}", side="general", weight=weight)
        for i, weight in enumerate(weights)
    ]
    channels.append(SimpleNamespace(name="law", side="domain", weight=1.0))
    for share in (0.01, 0.123456, 0.573, 0.9699):
        shares = channel_shares(channels, round_down(share))
        assert math.lcm(*(share.denominator for share in shares.values())) <= LONGEST_PERIOD


def with_errors(table: pd.DataFrame, general: float) -> pd.DataFrame:
    return table.assign(se_general=general, se_domain=0.01)


def test_a_limit_held_within_noise(settled):
    fit, answer, planned, labels = settled
    table = trained(planned, COST)
    known = compare_verification(fit, answer, with_errors(table, 0.03), labels)
    assert known.limit_held
    assert known.limit_within_noise
    assert known.runs[0].standard_errors == {"general": 0.03, "domain": 0.01}
    assert "keeps the limit of +3%, within noise" in known.words[0]
    assert known.words[1].startswith("The limit held, within noise (standard error 0.030): ")
    sure = compare_verification(fit, answer, with_errors(table, 1e-6), labels)
    assert sure.limit_within_noise is False
    assert known.limit_margin == pytest.approx(ALLOWED - table["loss_general"].iloc[2])
    unknown = compare_verification(fit, answer, table, labels)
    assert unknown.limit_within_noise is None
    assert "noise" not in " ".join(unknown.words)


def test_a_limit_exceeded_within_noise(settled):
    fit, answer, planned, labels = settled
    table = with_errors(trained(planned, 1.1 * COST), 0.03)
    found = compare_verification(fit, answer, table, labels)
    assert not found.limit_held
    assert found.limit_within_noise
    assert "within noise" in found.words[0]


def test_the_best_measured_pair_is_named_first(settled):
    fit, answer, planned, labels = settled
    found = compare_verification(fit, answer, trained(planned, 0.3 * COST), labels)
    higher = next(run for run in found.runs if run.label == "higher share")
    assert f"The best trained pair within the limit is {100 * higher.ratio:g} %" in found.words[0]


@pytest.mark.parametrize(("off", "side"), [(-0.08, "lower"), (0.08, "higher")])
def test_misses_in_one_direction_are_said(settled, off, side):
    fit, answer, planned, labels = settled
    found = compare_verification(fit, answer, trained(planned, COST, domain_off=off), labels)
    assert found.one_sided == {"domain": pytest.approx(off)}
    said = f"In all 3 runs the domain loss is 0.080 nats {side} than predicted (on average)."
    assert said in found.words


def test_every_channel_in_one_direction_is_said(settled):
    fit, answer, planned, labels = settled
    table = trained(planned, 1.3 * COST, domain_off=0.05)
    found = compare_verification(fit, answer, table, labels)
    assert set(found.one_sided) == {"general", "domain"}
    assert any("every loss is higher than predicted" in line for line in found.words)
    hit = compare_verification(fit, answer, trained(planned, COST), labels)
    assert hit.one_sided == {}
    assert not any("In all 3 runs" in line for line in hit.words)


def test_with_weights_the_best_run_has_the_lowest_mean_loss(known_fit, target):
    fit = known_fit()
    answer = recommend(fit, target(limit="none", weights={"domain": 1.0, "general": 3.0}))
    planned = plan_verification(answer)
    labels = {run.label: run.label for run in planned}
    result = compare_verification(fit, answer, trained(planned, COST), labels)
    domain = {run.label: run.measured["domain"] for run in result.runs}
    assert domain["higher share"] < domain["recommendation"]
    assert result.best_measured == "recommendation"
    main = result.main.measured
    mean = (main["domain"] + 3 * main["general"]) / 4
    said = f"gives a mean loss (domain 1, general 3) of {format_loss(mean)}"
    assert said in result.words[0]
