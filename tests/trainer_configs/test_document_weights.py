"""Shares of tokens become weights of documents, with the error that this has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_recipe import DOMAIN, GENERAL, make_recipe

from dcpt.errors import InputError
from dcpt.trainer_configs.document_weights import (
    describe_documents,
    document_counts,
    document_weights,
    share_errors,
)
from dcpt.trainer_configs.records import DocumentLengths


def test_weights_of_documents_give_the_shares_of_tokens() -> None:
    recipe = make_recipe()
    weights = document_weights(recipe, recipe.stages[0])
    assert sum(weights.values()) == pytest.approx(1)
    tokens = {"web": weights["web"] * GENERAL.mean, "law": weights["law"] * DOMAIN.mean}
    assert tokens["law"] / sum(tokens.values()) == pytest.approx(0.3)
    assert weights["law"] > 0.96  # of documents; a share of tokens taken for it would be 0.3


def test_counts_of_documents_give_the_tokens_of_the_stage() -> None:
    recipe = make_recipe(own_decay=True)
    counts = document_counts(recipe, recipe.stages[1])
    assert counts["web"] * GENERAL.mean == pytest.approx(0.2 * 100 * 64 * 4096, rel=1e-3)
    assert counts["law"] * DOMAIN.mean == pytest.approx(0.8 * 100 * 64 * 4096, rel=1e-3)


def test_unknown_lengths_are_asked_for_by_name() -> None:
    recipe = make_recipe()
    law = replace(recipe.sources["law"], lengths=None)
    recipe = replace(recipe, sources={**recipe.sources, "law": law})
    with pytest.raises(InputError, match=r"of law are not known.*--tokens-per-document law=812"):
        document_weights(recipe, recipe.stages[0])


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_the_error_of_the_shares_is_that_of_drawn_documents(share: float) -> None:
    rng = np.random.default_rng(0)
    lengths = {"web": GENERAL, "law": DOMAIN}
    shares = {"web": 1 - share, "law": share}
    tokens, found = 2e6, []
    weight = (share / DOMAIN.mean) / (share / DOMAIN.mean + (1 - share) / GENERAL.mean)
    mean = weight * DOMAIN.mean + (1 - weight) * GENERAL.mean
    for _ in range(400):
        is_law = rng.random(round(tokens / mean)) < weight
        # A gamma distribution of mean m and deviation s has shape (m / s)^2 and scale s^2 / m.
        of = {n: ((m.mean / m.deviation) ** 2, m.deviation**2 / m.mean) for n, m in lengths.items()}
        law = rng.gamma(*of["law"], size=is_law.sum()).sum()
        web = rng.gamma(*of["web"], size=(~is_law).sum()).sum()
        found.append(law / (law + web))
    errors = share_errors(lengths, shares, tokens)
    assert errors is not None
    assert errors["law"] == pytest.approx(np.std(found), rel=0.12)
    assert errors["law"] == pytest.approx(errors["web"])
    assert np.mean(found) == pytest.approx(share, abs=4 * errors["law"] / 20)


def test_a_mean_of_few_documents_is_less_exact() -> None:
    shares = {"web": 0.7, "law": 0.3}
    few = {"web": GENERAL, "law": replace(DOMAIN, documents=100)}
    exact, rough = (
        share_errors({"web": GENERAL, "law": DOMAIN}, shares, 1e9),
        share_errors(few, shares, 1e9),
    )
    assert exact is not None
    assert rough is not None
    # 0.3 * 0.7 * (30 / 40) / sqrt(100): the relative error of the mean, as one of the share
    assert rough["law"] == pytest.approx(0.3 * 0.7 * 0.075, rel=0.01)
    assert exact["law"] < 0.001


def test_an_unknown_spread_is_said_and_not_taken_for_none() -> None:
    recipe = make_recipe()
    law = replace(recipe.sources["law"], lengths=DocumentLengths(40.0))
    recipe = replace(recipe, sources={**recipe.sources, "law": law})
    assert "Error of the shares: unknown" in describe_documents(recipe, recipe.stages[0])[-1]
