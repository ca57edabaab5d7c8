"""The law of several sources: recovery of a known truth, and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import dcpt
from dcpt.errors import InputError
from dcpt.laws import load_fit, offer_laws, write_fit
from dcpt.laws.formulas.sources import many_sources

SHARES = ["share_code", "share_en", "share_zh"]


def table(n_runs: int = 48, seed: int = 0) -> pd.DataFrame:
    """Mixtures of three sources; the loss follows the law, without a size or tokens that differ."""
    shares = np.random.default_rng(seed).dirichlet(np.ones(3), n_runs)
    frame = pd.DataFrame(shares, columns=SHARES)
    total = 0.5 * shares[:, 0] ** 0.5 + 0.9 * shares[:, 1] ** 0.3 + 0.1 * shares[:, 2] ** 0.2
    columns = {"n_tokens": 10**7, "phase": "constant", "loss_en": 1.5 + 1 / total}
    return frame.assign(run=[f"{seed}-{i}" for i in range(n_runs)], **columns)


@pytest.fixture(scope="module")
def fit() -> dcpt.laws.Fit:
    return dcpt.fit(table(), n_draws=10)


def test_new_mixtures_are_predicted(fit) -> None:
    asked = table(seed=1)
    predicted = fit.predict(asked)
    assert np.abs(predicted["loss"].to_numpy() - asked["loss_en"]).max() < 0.01


def test_the_order_of_the_columns_does_not_matter(fit) -> None:
    asked = table(seed=1)
    turned = asked[[*reversed(SHARES), "n_tokens", "phase"]]
    assert fit.predict(turned)["loss"].tolist() == fit.predict(asked)["loss"].tolist()


def test_a_source_without_a_share_refuses_the_prediction(fit) -> None:
    with pytest.raises(InputError, match="many-sources needs source_shares"):
        fit.predict(n_tokens=1e7, share_en=0.5, share_zh=0.5)


def test_a_saved_fit_predicts_the_same(fit, tmp_path) -> None:
    asked = table(seed=1)
    write_fit(fit, tmp_path)
    assert load_fit(tmp_path).predict(asked)["loss"].tolist() == fit.predict(asked)["loss"].tolist()


def test_a_law_of_other_sources_is_refused() -> None:
    with pytest.raises(InputError, match="reads the shares of en, fr"):
        dcpt.fit(table(), law=many_sources(["en", "fr"]), n_draws=2)


def test_the_law_is_chosen_by_its_name(fit) -> None:
    asked = table(seed=1)
    named = dcpt.fit(table(), law="many-sources", n_draws=10)
    assert named.predict(asked)["loss"].tolist() == fit.predict(asked)["loss"].tolist()


def test_the_law_needs_two_sources() -> None:
    single = table().drop(columns=SHARES[1:])
    with pytest.raises(InputError, match="at least two sources, and the table has those of code"):
        dcpt.fit(single, law="many-sources", n_draws=2)


def test_a_table_with_several_sources_is_offered_the_law() -> None:
    assert offer_laws(table(), "en")["many-sources"] is None
    assert "many-sources" not in offer_laws(table().drop(columns=SHARES[1:]), "en")
