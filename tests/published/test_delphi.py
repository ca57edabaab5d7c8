"""Runs of 447M to 3.4B parameters with a math loss alone (Delphi): 3.4B from the smaller sizes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import dcpt

RUNS = Path(__file__).parent / "data" / "delphi" / "runs.csv"
TARGET = 3_383_110_656


@pytest.mark.parametrize(
    ("largest", "law", "error"),
    [
        (2_544_614_912, "trained-domain", 0.01),
        (2_544_614_912, "auto", 0.01),
        (1_384_584_448, "auto", 0.02),
    ],
)
def test_the_largest_size_is_predicted_from_smaller_ones(
    largest: int, law: str, error: float
) -> None:
    runs = dcpt.load_runs(RUNS)
    fit = dcpt.fit(runs[runs["n_params"] <= largest], law)
    held = runs[runs["n_params"] == TARGET].reset_index(drop=True)
    found = fit.predict(held.drop(columns=["run", "loss_domain"]))
    measured = held["loss_domain"]
    assert len(measured) == 12
    assert (found["loss"] / measured - 1).abs().mean() < error
    assert ((found["low"] <= measured) & (measured <= found["high"])).all()
    assert (found["high"] - found["low"]).mean() < 0.16


def test_tokens_that_grow_with_the_size_are_named() -> None:
    fit = dcpt.fit(dcpt.load_runs(RUNS), "trained-domain", n_draws=2)
    together = [flag.values["axes"] for flag in fit.flags if flag.kind == "confounded"]
    assert ["n_params", "n_tokens"] in together


def test_without_the_base_losses_the_laws_that_need_them_are_refused() -> None:
    runs = pd.read_csv(RUNS).drop(columns="base_loss_domain")
    with pytest.raises(dcpt.InputError, match="base_loss"):
        dcpt.fit(dcpt.load_runs(runs), "trained-domain", n_draws=2)
