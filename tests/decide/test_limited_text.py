"""Limited domain text: the best share is the one at which repetition costs more than it brings."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import dcpt
from dcpt.errors import InputError
from dcpt.laws import Fit

SIZES, TEXTS = (5e6, 20e6), (2e6, 8e6)
TARGET_TOKENS, LIMIT = 6e7, 0.6


def domain_loss(n_params: float, n_tokens: float, ratio: float, unique: float) -> float:
    """A loss that falls with the domain tokens read and rises with every epoch after the first."""
    read = ratio * n_tokens
    learnt = 1.2 * (read / 4e6) ** -0.25 * (n_params / 5e6) ** -0.1
    return 2.0 + learnt + 0.03 * max(read / unique - 1, 0) ** 1.1


def base_loss(n_params: float) -> float:
    return 3.0 * (n_params / 5e6) ** -0.03


def general_loss(n_params: float, n_tokens: float, ratio: float) -> float:
    rise = 0.05 * ratio / (1 - ratio) ** 0.7 * (n_tokens / 1e7) ** 0.2
    return base_loss(n_params) + rise


def make_runs(texts: tuple[float, ...]) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for unique, size, ratio in itertools.product(texts, SIZES, (0.1, 0.25, 0.5, 0.75, 0.9)):
        run = {"run": f"u{unique:g}-n{size:g}-r{ratio}", "base": f"b{size:g}", "ratio": ratio}
        run |= {"n_params": size, "unique_tokens_domain": unique}
        off = rng.normal(0, 0.003, 2)
        start = {"n_tokens": 0, "phase": "base", "loss_general": base_loss(size)}
        rows.append(run | start | {"loss_domain": 5.0})
        for tokens in (5e6, 1e7, 2e7, 4e7):
            general = general_loss(size, tokens, ratio) + off[0] + rng.normal(0, 0.001)
            domain = domain_loss(size, tokens, ratio, unique) + off[1] + rng.normal(0, 0.001)
            there = {"n_tokens": tokens, "phase": "constant"}
            rows.append(run | there | {"loss_general": general, "loss_domain": domain})
    return pd.DataFrame(rows)


def best_share(unique: float) -> float:
    """The true best share of the target within the limit."""
    shares = np.linspace(0.01, 0.97, 193)
    size = SIZES[-1]
    within = [
        domain_loss(size, TARGET_TOKENS, share, unique)
        if general_loss(size, TARGET_TOKENS, share) <= base_loss(size) + LIMIT
        else np.inf
        for share in shares
    ]
    return float(shares[int(np.argmin(within))])


def target(**unique: float) -> dcpt.Target:
    return dcpt.Target(
        n_params=SIZES[-1],
        n_tokens=TARGET_TOKENS,
        limit=f"+{LIMIT}",
        base_losses={"general": base_loss(SIZES[-1])},
        unique_tokens=unique,
    )


@pytest.fixture(scope="module")
def limited_fit() -> Fit:
    return dcpt.fit(make_runs(TEXTS), n_draws=20)


@pytest.mark.long
def test_the_share_follows_the_amount_of_text(limited_fit: Fit) -> None:
    assert best_share(2e6) < 0.2
    for unique in (2e6, 4e6):
        answer = dcpt.recommend(limited_fit, target(domain=unique))
        assert answer.best is not None
        assert answer.best.ratio == pytest.approx(best_share(unique), abs=0.02)
    plenty = dcpt.recommend(limited_fit, target(domain=2e9))
    assert plenty.best is not None
    assert plenty.best.ratio > 0.9
    assert plenty.twice_the_text is None


@pytest.mark.long
def test_without_a_limit_repetition_decides_the_share(limited_fit: Fit) -> None:
    asked = replace(target(domain=2e6), limit=None)
    shares = np.linspace(0.01, 0.9, 179)
    true = [domain_loss(SIZES[-1], TARGET_TOKENS, share, 2e6) for share in shares]
    answer = dcpt.recommend(limited_fit, asked)
    assert answer.best is not None
    assert answer.best.ratio == pytest.approx(shares[np.argmin(true)], abs=0.03)
    (flag,) = (flag for flag in answer.flags if flag.kind == "no_limit")
    assert "the share with the lowest domain loss was chosen" in flag.sentence


@pytest.mark.long
def test_epochs_and_what_more_text_would_bring_are_said(limited_fit: Fit) -> None:
    answer = dcpt.recommend(limited_fit, target(domain=2e6))
    assert answer.best is not None
    more = answer.twice_the_text
    assert more is not None
    assert more.ratio == pytest.approx(best_share(4e6), abs=0.02)
    true = domain_loss(SIZES[-1], TARGET_TOKENS, best_share(4e6), 4e6)
    true -= domain_loss(SIZES[-1], TARGET_TOKENS, best_share(2e6), 2e6)
    assert more.regret.value == pytest.approx(true, abs=0.02)
    epochs = answer.best.ratio * TARGET_TOKENS / 2e6
    said = next(line for line in dcpt.summarise(answer) if "unique tokens" in line)
    assert f"The 2M unique tokens of domain text are read {epochs:.2g} times." in said
    assert f"{-more.regret.value:.3f} nats lower" in said


@pytest.mark.long
def test_text_that_a_law_needs_is_asked_for_by_name(limited_fit: Fit) -> None:
    with pytest.raises(InputError, match="unique tokens of channel domain are missing") as caught:
        dcpt.recommend(limited_fit, target())
    assert "repetition-penalty" in str(caught.value)
    assert "--unique-tokens domain=" in str(caught.value)
    with pytest.raises(InputError, match="unique tokens of code: the fit has no such channel"):
        dcpt.recommend(limited_fit, target(code=2e6))
    with pytest.raises(InputError, match="unique tokens of domain are 0"):
        dcpt.recommend(limited_fit, target(domain=0.0))


@pytest.mark.long
def test_text_of_one_amount_is_taken_from_the_runs_and_said() -> None:
    fit = dcpt.fit(make_runs((2e6,)), n_draws=20)
    assert fit.weights("domain")["repetition-penalty"] > 0
    answer = dcpt.recommend(fit, target())
    assert answer.target.unique_tokens == {"domain": 2e6}
    flag = next(flag for flag in answer.flags if flag.kind == "unique_tokens_of_runs")
    assert "Those of the runs, 2M, were used" in flag.sentence
