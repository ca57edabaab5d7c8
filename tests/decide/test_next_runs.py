"""The runs chosen for fits whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from known_truth import COST, KnownFit

import dcpt
from dcpt.decide.budget import Budget, price_run
from dcpt.decide.next_runs import next_runs
from dcpt.decide.posterior import NOISE, Normal, posterior_of
from dcpt.decide.question import ask
from dcpt.decide.records import Target
from dcpt.decide.run_choice import find_crossings
from dcpt.errors import InputError
from dcpt.table.base_rows import TableBase

Fits = Callable[..., KnownFit]
Targets = Callable[..., Target]


def test_short_runs_at_the_target_are_chosen(known_fit: Fits, target: Targets) -> None:
    chosen = next_runs(known_fit(), target(), "50%")
    assert 1 <= len(chosen.runs) <= 2
    run = chosen.runs[0]
    assert (run.n_params, run.n_tokens) == (8e6, 11e6)
    assert run.decay_tokens == pytest.approx(1e6)
    assert run.price.share == pytest.approx(0.25)
    assert run.price.flops == pytest.approx(6 * 8e6 * 11e6)
    assert run.price.gpu_hours is None
    # At r = .5 the crossing of the best rate (tests of `recommend`).
    assert abs(run.ratio - 0.5) < 0.2
    now, after = chosen.ratio_interval, chosen.expected_interval
    assert now.low < after.low < now.value == after.value < after.high < now.high


def test_a_certain_fit_needs_no_runs(known_fit: Fits, target: Targets) -> None:
    chosen = next_runs(known_fit(costs=np.full(200, COST)), target())
    assert chosen.runs == []
    assert "No run narrows" in chosen.words[0]


def test_runs_of_the_table_are_not_chosen_again(known_fit: Fits, target: Targets) -> None:
    fit = known_fit()
    first = next_runs(fit, target(), "25%").runs[0]
    row = {
        "n_params": 8.02e6,
        "n_tokens": 11.05e6,
        "ratio": first.ratio,
        "learning_rate": first.learning_rate,
    }
    trained = pd.DataFrame([{**row, "phase": "annealed"}])
    again = next_runs(fit, target(), "25%", runs=trained).runs[0]
    assert (again.ratio, again.learning_rate) != (first.ratio, first.learning_rate)
    constant = pd.DataFrame([{**row, "phase": "constant"}])
    assert next_runs(fit, target(), "25%", runs=constant).runs[0] == first


def test_another_size_has_the_same_multiples_of_its_peak(known_fit: Fits, target: Targets) -> None:
    bases = {"third": TableBase(4e6, {"general": 3.0, "domain": 5.0}, 2e-3)}
    asked = target(base_peak_learning_rate=1e-3, learning_rate=9e-4)
    chosen = next_runs(known_fit(), asked, "50%", bases=bases)
    run = chosen.runs[0]
    assert (run.base, run.n_params) == ("third", 4e6)
    rates = {2 * rate for rate in (*known_fit().rates, 9e-4)}
    assert min(abs(run.learning_rate / rate - 1) for rate in rates) < 1e-9
    assert run.price.share == pytest.approx(0.125)


def test_the_level_and_the_lengths_are_those_asked_for(known_fit: Fits, target: Targets) -> None:
    wide = next_runs(known_fit(), target(), "300%", level=0.9, lengths=(0.1, 1.0))
    narrow = next_runs(known_fit(), target(), "300%", level=0.5)
    assert narrow.ratio_interval.low > wide.ratio_interval.low
    assert wide.runs[0].n_tokens == pytest.approx(4.4e6)


def test_hours_come_from_the_speed_of_the_nearest_size(target: Targets) -> None:
    price = price_run(target(), 8e6, 3.6e6, {1e6: 9e3, 4e6: 1e3})
    assert price.gpu_hours == pytest.approx(2.0)  # twice the size takes twice the time
    assert price_run(target(), 2e6, 3.6e6, {4e6: 1e3}).gpu_hours == pytest.approx(1.0)


def test_bad_input_is_refused(known_fit: Fits, target: Targets) -> None:
    with pytest.raises(InputError, match=r"too small for any run: the cheapest costs 25% of"):
        next_runs(known_fit(), target(), "10%")
    with pytest.raises(InputError, match="no run has told its speed"):
        next_runs(known_fit(), target(), "10h")
    with pytest.raises(InputError, match="shares of the target's tokens above 0"):
        next_runs(known_fit(), target(), lengths=())
    assert next_runs(known_fit(), target(), Budget(0.5, "share")).budget == "50%"


def test_the_public_name() -> None:
    assert dcpt.next_runs is next_runs


def test_the_draws_give_the_covariance_and_distance_reduces_it(known_fit: Fits) -> None:
    frame = pd.DataFrame({"ratio": [0.5, 0.5, 0.9], "learning_rate": 1e-3})
    frame = frame.assign(n_tokens=4.4e7, base_loss_general=2.8, base_loss_domain=5.0)
    fit = known_fit()
    joint = posterior_of(fit, "general", frame)
    draws = fit.sample("general", fit.points("general", frame))
    assert joint.covariance[0, 1] == pytest.approx(draws[:, 0].var(ddof=1))
    away = np.log(0.53) - np.log(0.13)
    whole = np.cov(draws[:, 0], draws[:, 2])[0, 1]
    assert joint.covariance[0, 2] == pytest.approx(whole * np.exp(-0.5 * away**2))
    after = joint.given([0])
    assert after.covariance[1, 1] == pytest.approx(
        NOISE**2 * joint.covariance[0, 0] / (joint.covariance[0, 0] + NOISE**2)
    )


def test_the_two_level_model_is_used_where_it_predicts(known_fit: Fits) -> None:
    frame = pd.DataFrame({"ratio": [0.5], "learning_rate": 1e-3, "n_tokens": 4.4e7})
    frame, joint = frame.assign(base_loss_general=2.8), Normal(np.zeros(1), np.eye(1))

    def at(refusal: str | None) -> object:
        model = SimpleNamespace(joint=lambda points: joint)
        two_level = SimpleNamespace(model=model, refuse=lambda points: refusal)
        channels, fit = {"general": SimpleNamespace(two_level=two_level)}, known_fit()
        parts = {name: getattr(fit, name) for name in ("points", "sample", "central")}
        return posterior_of(SimpleNamespace(**parts, by_channel=channels), "general", frame)

    assert at(None) is joint
    assert at("needs learning_rate at every point") is not joint


def test_a_wild_draw_does_not_set_the_covariance(known_fit: Fits) -> None:
    costs = known_fit().costs.copy()
    costs[-1] = 1e3
    frame = pd.DataFrame({"ratio": [0.5], "learning_rate": 1e-3, "n_tokens": 4.4e7})
    frame = frame.assign(base_loss_general=2.8)
    spread = [
        posterior_of(fit, "general", frame).covariance[0, 0]
        for fit in (known_fit(), known_fit(costs=costs))
    ]
    assert spread[1] < 1.3 * spread[0]


def test_conditioning_is_that_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(1)
    root = rng.normal(size=(5, 5))
    joint = Normal(np.zeros(5), root @ root.T, 0.3)
    noisy = joint.covariance + 0.09 * np.eye(5)
    index = [1, 3]
    solved = np.linalg.solve(noisy[np.ix_(index, index)], joint.covariance[index])
    expected = joint.covariance - joint.covariance[:, index] @ solved
    assert joint.given(index).covariance == pytest.approx(expected)
    assert joint.given([1]).given([3]).covariance == pytest.approx(expected)


def test_a_limit_on_each_channel_is_decided_by_the_one_that_rises_most(
    known_fit: Fits, target: Targets
) -> None:
    fit = known_fit(general_channels=("en", "zh", "general_total"))
    losses = {"en": 2.8, "zh": 1.4, "general_total": 2.1}
    asked = target(limit=dcpt.Limit(3, "percent", each=True), base_losses=losses)
    chosen = next_runs(fit, asked, "25%")
    # The rise in nats is the same in both, so that of the smaller loss is the larger share.
    assert {crossing.channel for crossing in find_crossings(ask(fit, asked))} == {"zh"}
    assert len(chosen.runs) == 1


def test_runs_without_learning_rates(known_fit: Fits, target: Targets) -> None:
    fit = known_fit(rates=(), need=frozenset({"ratio", "base_loss_general"}))
    (run, *_) = next_runs(fit, target(), "25%").runs
    assert run.learning_rate is None
