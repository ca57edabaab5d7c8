"""The table of RegMix, as it comes: 17 shares, no share of domain text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import spearmanr

import dcpt
from dcpt.errors import InputError

FILE = Path(__file__).parent / "data" / "regmix" / "runs.csv"

LIGHTGBM = 0.9892
"""Rank correlation of the authors' regression for Pile-CC on the test mixtures at 1M."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> pd.DataFrame:
    """The table with a name for every run; its columns are mapped as ``--column`` does."""
    raw = pd.read_csv(FILE)
    raw["run"] = raw["split"] + " " + raw["size"] + " " + raw["index"].astype(str)
    file = tmp_path_factory.mktemp("regmix") / "runs.csv"
    raw.to_csv(file, index=False)
    shares = {f"share_{n.removeprefix('w_')}": n for n in raw if n.startswith("w_")}
    return dcpt.load_runs(file, {"n_params": "n_params_nominal", "n_tokens": "tokens"} | shares)


def test_unseen_mixtures_are_ranked_as_well_as_by_the_authors(runs: pd.DataFrame) -> None:
    fit = dcpt.fit(runs[runs["split"] == "train"], channels=["pile_cc"], n_draws=20)
    assert "mixtures_without_ratio" in {flag.kind for flag in fit.flags}
    with pytest.raises(InputError, match="no mixture can be recommended"):
        dcpt.recommend(fit, dcpt.Target(n_params=1e6, n_tokens=1e9, limit="+3%", base_losses={}))
    assert fit.weights("pile_cc")["many-sources"] == 1.0
    for size, least in (("1M", LIGHTGBM), ("60M", LIGHTGBM), ("1B", 0.97)):
        asked = runs[(runs["split"] == "test") & (runs["size"] == size)]
        # The law was fitted at one size, so the larger models are ranked by its loss at that size.
        same = asked.assign(n_params=1e6, n_tokens=1e9)
        predicted = fit.predict(same)
        assert spearmanr(predicted["loss"], asked["loss_pile_cc"]).statistic > least
        if size == "1M":
            held_out = fit.by_channel["pile_cc"].comparisons["constant"].spread["mixtures"]
            gaps = predicted["loss"] - asked["loss_pile_cc"].to_numpy()
            assert (gaps**2).mean() ** 0.5 < 1.2 * held_out
            measured = asked["loss_pile_cc"].to_numpy()
            inside = (predicted["low"] <= measured) & (measured <= predicted["high"])
            assert inside.mean() >= 0.85
