"""The best share of every source: a known truth is recovered; what cannot be known is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import dcpt
from dcpt.decide import best_mix, read_recommendation, write_recommendation
from dcpt.decide.general_mix import at_edge_of_mixes, mix_hardly_read
from dcpt.decide.surface import Surface
from dcpt.errors import InputError
from dcpt.laws import Fit, load_fit, write_fit
from dcpt.report.card import recommend_command
from dcpt.report.decision_tables import shares_table

WEIGHTS = {
    "domain": {"domain": 2.0, "en": 0.2, "zh": 0.7},
    "en": {"domain": 0.3, "en": 2.0, "zh": 0.5},
    "zh": {"domain": 0.3, "en": 0.5, "zh": 2.0},
}
POWERS = {"domain": 0.5, "en": 0.4, "zh": 0.3}
BASE = {"en": 3.15, "zh": 3.15, "domain": 3.6}
N_PARAMS, N_TOKENS = 8e6, 4e7


def loss(channel: str, shares: dict, n_params: float = N_PARAMS, n_tokens: float = N_TOKENS):
    """The truth: every source helps every channel, its own most."""
    helped = sum(
        weight * np.asarray(shares[source]) ** POWERS[source]
        for source, weight in WEIGHTS[channel].items()
    )
    return 1.5 + (n_params / 2e6) ** -0.3 + 0.5 * (n_tokens / 1e7) ** -0.3 + 1 / helped


def make_rows(n_runs: int = 24) -> pd.DataFrame:
    """Runs with mixtures of their own: shares alone, without a column ratio."""
    rng, rows = np.random.default_rng(0), []
    sizes = itertools.cycle((2e6, 8e6))
    for number, mixture in enumerate(rng.dirichlet(np.ones(3), n_runs)):
        shares, n_params = dict(zip(WEIGHTS, mixture, strict=True)), next(sizes)
        for n_tokens in (1e7, 4e7):
            row = {"run": f"r{number}", "n_params": n_params, "n_tokens": n_tokens}
            row |= {f"share_{name}": share for name, share in shares.items()}
            for name in WEIGHTS:
                true = loss(name, shares, n_params, n_tokens)
                row[f"loss_{name}"] = true + rng.normal(0, 0.003)
            rows.append(row | {"phase": "constant"})
    return pd.DataFrame(rows)


def best_of_truth(limits: dict[str, float], weights: dict[str, float]) -> dict[str, float]:
    """The best shares by brute force, 0.25 % apart."""
    steps = np.arange(1, 400) / 400
    domain, en = (grid.ravel() for grid in np.meshgrid(steps, steps))
    some = (domain + en < 1 - 1e-9) & (domain <= 0.97)
    shares = {"domain": domain[some], "en": en[some], "zh": 1 - domain[some] - en[some]}
    minimized = sum(weight * loss(name, shares) for name, weight in weights.items())
    for name, allowed in limits.items():
        minimized = np.where(loss(name, shares) <= allowed, minimized, np.inf)
    return {name: float(values[minimized.argmin()]) for name, values in shares.items()}


def target(limits: dict[str, str], **fields: object) -> dcpt.Target:
    return dcpt.Target(N_PARAMS, N_TOKENS, None, BASE, channel_limits=limits, **fields)


@pytest.fixture(scope="module")
def mixtures_fit() -> Fit:
    return dcpt.fit(dcpt.load_runs(make_rows()), "many-sources", n_draws=40)


@pytest.fixture(scope="module")
def answer(mixtures_fit: Fit) -> dcpt.Recommendation:
    return dcpt.recommend(mixtures_fit, target({"en": "0.05", "zh": "-0.1"}))


def check_against_truth(
    answer: dcpt.Recommendation, limits: dict[str, float], weights: dict[str, float]
) -> None:
    best = best_of_truth(limits, weights)
    shares = {name: interval.value for name, interval in answer.shares.items()}
    assert sum(shares.values()) == pytest.approx(1)
    for name, allowed in limits.items():
        assert loss(name, shares) <= allowed
    there, lowest = (
        sum(weight * loss(name, at) for name, weight in weights.items()) / sum(weights.values())
        for at in (shares, best)
    )
    assert there - lowest < 0.005
    for name, interval in answer.shares.items():
        assert interval.low - 0.0025 <= best[name] <= interval.high + 0.0025  # steps of the grid


@pytest.mark.long
def test_two_general_sources_and_the_domain_get_their_best_shares(answer) -> None:
    limits = {"en": BASE["en"] + 0.05, "zh": BASE["zh"] - 0.1}
    check_against_truth(answer, limits, {"domain": 1.0})
    assert answer.ratio_interval.low == answer.shares["domain"].low
    assert answer.best.probability >= answer.target.confidence


@pytest.mark.long
def test_a_general_source_and_two_of_the_domain_get_their_best_shares(mixtures_fit: Fit) -> None:
    weights = {"domain": 1.0, "zh": 1.0}
    found = dcpt.recommend(mixtures_fit, target({"en": "0.1"}, weights=weights))
    check_against_truth(found, {"en": BASE["en"] + 0.1}, weights)


@pytest.mark.long
def test_higher_odds_keep_a_larger_margin(mixtures_fit: Fit, answer) -> None:
    surer = dcpt.recommend(mixtures_fit, target({"en": "0.05", "zh": "-0.1"}, confidence=0.97))
    assert surer.best.probability >= 0.97
    losses = surer.best.losses["domain"].value, answer.best.losses["domain"].value
    assert losses[0] > losses[1]


@pytest.mark.long
def test_limits_that_no_mixture_keeps_have_no_answer(mixtures_fit: Fit) -> None:
    found = dcpt.recommend(mixtures_fit, target({"en": "-0.9", "zh": "-0.9"}))
    assert found.best is None
    assert (found.shares["domain"].value, found.shares["domain"].high) == (None, 0.0)
    assert found.shares["en"] == dcpt.decide.records.Interval(None, None, None)
    assert any("Every mix of the general text was compared" in s for s in dcpt.summarise(found))


@pytest.mark.long
def test_a_mix_that_is_given_is_kept(mixtures_fit: Fit, answer) -> None:
    found = dcpt.recommend(mixtures_fit, replace(answer.target, mix={"en": 0.5, "zh": 0.5}))
    assert found.target.mix == {"en": 0.5, "zh": 0.5}
    assert not found.shares
    assert found.best.losses["domain"].value > answer.best.losses["domain"].value


@pytest.mark.long
def test_a_best_mix_at_the_edge_of_the_runs_is_said(mixtures_fit: Fit, answer) -> None:
    assert answer.target.mix["en"] < 0.4
    assert not [flag for flag in answer.flags if flag.kind == "mix_at_edge"]
    narrow = replace(mixtures_fit, general_mix={"en": (0.4, 0.7), "zh": (0.3, 0.6)})
    found = dcpt.recommend(narrow, target({"en": "0.05", "zh": "-0.1"}))
    assert found.target.mix == {"en": 0.4, "zh": 0.6}
    named = [flag.subject for flag in found.flags if flag.kind == "mix_at_edge"]
    assert named == [{"channel": "en"}, {"channel": "zh"}]


@pytest.mark.long
def test_the_record_the_page_and_the_card_show_every_share(answer, tmp_path) -> None:
    write_recommendation(answer, tmp_path)
    assert read_recommendation(tmp_path).shares == answer.shares
    assert [row[0] for row in shares_table(answer).rows] == ["domain", "en", "zh"]
    assert not [word for word in recommend_command(answer) if word.startswith("--mix")]
    said = dcpt.summarise(answer)
    assert "domain, " in said[0]
    assert " en and " in said[0]
    assert any(f"en {100 * answer.target.mix['en']:.0f} %" in sentence for sentence in said)


@pytest.mark.long
def test_shares_that_change_together_are_refused_by_name(mixtures_fit: Fit, tmp_path) -> None:
    tied = replace(mixtures_fit, tied_sources=("en", "zh"))
    write_fit(tied, tmp_path)
    asked = target({"en": "0.1"})
    with pytest.raises(InputError, match="the shares of en and zh always change together"):
        dcpt.recommend(load_fit(tmp_path), asked)
    alone = replace(mixtures_fit, tied_sources=("en",))
    with pytest.raises(InputError, match=r"the share of en does not change.*--mix en=\.\.\."):
        dcpt.recommend(alone, asked)
    many = replace(mixtures_fit, general_mix={f"s{i}": (0.0, 1.0) for i in range(7)})
    with pytest.raises(InputError, match=r"7 general channels.*at most 6"):
        dcpt.recommend(many, asked)


@pytest.mark.long
def test_laws_without_the_mix_that_decide_are_said(mixtures_fit: Fit) -> None:
    weights = {"domain": {"many-sources": 0.6, "d-cpt": 0.4}, "en": {"d-cpt": 1.0}}
    (flag,) = mix_hardly_read(mixtures_fit, weights)
    assert flag.subject == {"channel": "en"}
    assert flag.values == {"weight": 0}


def test_at_the_asked_odds_a_surer_mix_is_better(monkeypatch) -> None:
    mixes, ratio = np.array([[0.2, 0.8], [0.8, 0.2]]), np.linspace(0.01, 0.97, 97)
    errors = np.linspace(-1, 1, 41)[:, None] * np.array([0.3, 0.01])  # by draw and mix
    general = np.array([0.0, 0.02])[:, None, None] + ratio
    draws = general + errors[:, :, None, None]
    known = Surface(
        ratio=ratio,
        rates=np.array([np.nan]),
        general=general,
        domain=-general,
        minimized=np.broadcast_to(-ratio, general.shape),
        general_draws=draws,
        domain_draws=-draws,
        minimized_draws=np.broadcast_to(-ratio, draws.shape),
        kept=np.quantile(draws, 0.8, axis=0),
    )
    monkeypatch.setattr(best_mix, "predict_mixes", lambda question, mixes: known)
    question = SimpleNamespace(allowed=0.5, choosable=known.rates)
    found = best_mix._compare(question, ["en", "zh"], mixes)
    assert found.answer.tolist() == [[0.8, 0.2]]
    assert found.central.parts.tolist() == [[0.2, 0.8]]
    assert found.central.ratio[0] == pytest.approx(0.5)
    is_first_better = errors[:, 0] < errors[:, 1] + 0.02
    assert (found.draws.parts[:, 0] < 0.5).tolist() == is_first_better.tolist()


def test_a_lattice_lies_between_its_ends() -> None:
    for low, high in (([0.2, 0.2], [0.8, 0.8]), ([0.0, 0.1, 0.0], [0.3, 0.6, 0.9])):
        ends = np.array(low), np.array(high)
        lattice, step = best_mix._lattice(*ends, 200)
        assert len(lattice) > 50
        assert np.allclose(lattice.sum(axis=1), 1)
        assert (lattice >= ends[0] - 1e-9).all()
        assert (lattice <= ends[1] + 1e-9).all()
        assert step.max() < 0.1


def test_the_first_mix_lies_between_its_ends() -> None:
    low, high = np.array([0.6, 0.0, 0.0]), np.array([0.7, 0.4, 0.1])
    middle = best_mix._middle(low, high)
    assert middle.sum() == pytest.approx(1)
    assert ((low <= middle) & (middle <= high)).all()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([0.165] * 5 + [0.175], [0.17, 0.17, 0.17, 0.16, 0.16, 0.17]),
        ([0.004, 0.496, 0.5], [0.0, 0.5, 0.5]),
        ([0.29, 0.57, 0.14], [0.29, 0.57, 0.14]),
    ],
)
def test_no_part_is_a_whole_per_cent_off(parts: list[float], expected: list[float]) -> None:
    names = [f"s{i}" for i in range(len(parts))]
    found = best_mix._in_per_cent(names, np.array(parts))
    assert list(found.values()) == expected
    assert sum(found.values()) == pytest.approx(1)


def test_a_part_as_large_as_in_any_run_is_said(known_fit) -> None:
    fit = known_fit(general_mix={"en": (0.2, 0.8), "zh": (0.2, 0.8)})
    (first, second) = at_edge_of_mixes(fit, {"en": 0.8, "zh": 0.2})
    assert "as much en text as any run (80 % of the general text)" in first.sentence
    assert "as little zh text" in second.sentence
    (rounded,) = at_edge_of_mixes(known_fit(general_mix={"en": (0.2, 0.806)}), {"en": 0.8})
    assert rounded.values == {"part": 0.8, "of_runs": 0.806}
    assert not list(at_edge_of_mixes(fit, {"en": 0.7, "zh": 0.3}))
    of_all = known_fit(general_mix={"en": (0.0, 1.0), "zh": (0.0, 1.0)})
    assert not list(at_edge_of_mixes(of_all, {"en": 1.0, "zh": 0.0}))
