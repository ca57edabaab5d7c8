"""C4 mixed with Python, from scratch, at one size (arXiv 2305.16264): errors of each law at
held-out points. Errors are means of absolute errors, in nats, over the held-out points, averaged
over the two corpora; the first evaluation of every run (5.2B tokens) is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from by_share import BY_SHARE
from numpy.typing import NDArray

import dcpt
from dcpt.laws import LAWS
from dcpt.laws.flags.law_flags import flag_law
from dcpt.laws.points.channel_data import points_from_table
from dcpt.laws.solver.search import fit_law

DATA = Path(__file__).parent / "data" / "datablations"
CORPORA = ("c4", "python")

# Longest third of D, shares 0.4 and 0.7 of the corpus itself.
HELD_OUT = {
    "d-cpt": (0.0137, 0.0059),
    "data-mixing": (0.0062, 0.0048),
    "bimix": (0.0078, 0.0051),
    "fx2-mon": (0.0050, 0.0038),
    "u10": (0.0050, 0.0038),
}
STACK = (0.0049, 0.0038)
SPLITS = ("longest_d", "shares")


def curves(corpus: str, fewest_tokens: float = 6e9) -> pd.DataFrame:
    """Return the runs as a table whose domain is the corpus."""
    table = pd.read_csv(DATA / "c4_python_curves_4b2.csv")
    table = table[(table["val_domain"] == corpus) & (table["tokens"] > fewest_tokens)]
    share = table[f"w_{corpus}"]
    runs = table[["n_params"]].assign(
        run="r" + share.astype(str),
        n_tokens=table["tokens"],
        ratio=share.round(6),
        loss_domain=table["loss"],
        phase="constant",
    )
    return dcpt.load_runs(runs)


def held_out(runs: pd.DataFrame, split: str) -> NDArray[np.bool_]:
    """Which rows, shape (rows,)."""
    if split == "shares":
        return np.isin(runs["ratio"], [0.4, 0.7])
    tokens = np.unique(runs["n_tokens"])
    return np.asarray(runs["n_tokens"] > tokens[-(-2 * len(tokens) // 3) - 1])


@pytest.mark.parametrize("name", HELD_OUT)
@pytest.mark.parametrize("split", SPLITS)
def test_held_out_error_of_each_law(name: str, split: str) -> None:
    errors = []
    for corpus in CORPORA:
        runs = curves(corpus)
        held = held_out(runs, split)
        found = fit_law(LAWS[name], points_from_table(runs[~held], "domain"))
        unseen = points_from_table(runs[held], "domain")
        errors.append(np.abs(found.predict(unseen.points) - unseen.losses).mean())
    assert np.mean(errors) == pytest.approx(HELD_OUT[name][SPLITS.index(split)], abs=5e-5)


@pytest.mark.parametrize("split", SPLITS)
def test_held_out_error_of_the_stack(split: str) -> None:
    """Fit all laws that the table supports, weighted without the held-out points."""
    errors = []
    for corpus in CORPORA:
        runs = curves(corpus)
        held = held_out(runs, split)
        found = dcpt.fit(runs[~held], n_draws=1)
        asked = runs[held][["n_params", "n_tokens", "ratio"]]
        predicted = found.predict(asked)["loss"].to_numpy()
        errors.append(np.abs(predicted - runs[held]["loss_domain"]).mean())
    assert np.mean(errors) < STACK[SPLITS.index(split)] + 5e-5


@pytest.mark.parametrize(("corpus", "error"), [("c4", 0.0030), ("python", 0.0056)])
def test_mean_relative_error_of_d_cpt_from_20_billion_tokens(corpus: str, error: float) -> None:
    data = points_from_table(curves(corpus, 20e9), "domain")
    assert len(data.losses) == 121
    found = fit_law(LAWS["d-cpt"], data, bounds={"eta": (1e-4, 3.0)})
    gaps = found.predict(data.points) - data.losses
    assert np.mean(np.abs(gaps) / data.losses) == pytest.approx(error, abs=5e-5)
    (flag,) = (flag for flag in flag_law(found) if flag.kind == "at_bound")
    assert {"E", "eta"} <= set(flag.values["parameters"])


def test_final_c4_loss_by_the_share_of_c4() -> None:
    columns = {"n_tokens": "tokens", "ratio": "w_c4", "loss_domain": "val_loss_c4"}
    table = pd.read_csv(DATA / "c4_python_mix_4b2_84b.csv")
    runs = table.assign(run="r" + table["w_c4"].astype(str))
    data = points_from_table(dcpt.load_runs(runs, columns), "domain")
    gaps = fit_law(BY_SHARE, data).predict(data.points) - data.losses
    assert 1 - gaps.var() / data.losses.var() == pytest.approx(0.9998, abs=5e-5)
    assert np.mean(np.abs(gaps) / data.losses) == pytest.approx(0.00045, abs=1e-5)
