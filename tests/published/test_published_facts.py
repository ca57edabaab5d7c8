"""Small tables from papers: the answer that a user of these tables should get."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from by_share import BY_SHARE
from numpy.typing import NDArray

import dcpt
from dcpt.decide.trade_off import best_share, largest_share
from dcpt.laws import Law, Parameter, Points, References
from dcpt.laws.points.channel_data import points_from_table
from dcpt.laws.solver.search import fit_law

# D-CPT (arXiv 2406.01375), chemistry: 1.8B parameters, 10B tokens, measured.
CHEMISTRY = pd.DataFrame(
    {
        "ratio": [0.90, 0.91, 0.92, 0.924, 0.93, 0.94, 1.0],
        "loss_general": [2.9052, 2.9193, 2.9376, 2.9445, 2.9644, 2.9848, 3.4667],
        "loss_domain": [1.7321, 1.7312, 1.7311, 1.7291, 1.7279, 1.7265, 1.7220],
    }
).assign(n_params=1.8e9, n_tokens=10e9)
CHEMISTRY["run"] = "r" + CHEMISTRY["ratio"].astype(str)
CHEMISTRY_BASE = 2.8602


def test_chemistry_the_largest_share_within_3_percent_as_measured() -> None:
    ratio, general = CHEMISTRY["ratio"].to_numpy(), CHEMISTRY["loss_general"].to_numpy()
    assert largest_share(ratio, general, 1.03 * CHEMISTRY_BASE) == pytest.approx(0.924, abs=2e-3)


def test_chemistry_the_share_recommended_from_a_law_of_its_rows() -> None:
    found = dcpt.fit(CHEMISTRY, law=BY_SHARE, n_draws=50)
    target = dcpt.Target(
        n_params=1.8e9,
        n_tokens=10e9,
        limit=dcpt.Limit.parse("+3%"),
        base_losses={"general": CHEMISTRY_BASE},
    )
    answer = dcpt.recommend(found, target)
    assert answer.allowed_general_loss == pytest.approx(2.9460, abs=5e-5)
    assert answer.central is not None
    assert answer.central.ratio == pytest.approx(0.924, abs=2e-3)
    assert answer.ratio_interval.low is not None
    assert answer.ratio_interval.high is not None
    assert answer.ratio_interval.low < 0.924 < answer.ratio_interval.high


def test_music_the_best_share_of_four_when_5b_domain_tokens_are_seen_once() -> None:
    """Measured rows, not a law: no smooth curve through them has its lowest row at 0.732."""
    ratio, domain = np.array([0.2, 0.5, 0.732, 0.8]), np.array([0.7486, 0.7448, 0.7309, 0.7398])
    share, loss = best_share(ratio, np.zeros(4), domain, limit=np.inf)
    assert share == 0.732
    assert loss == 0.7309


# CMR (arXiv 2407.17467), finance: domain loss after 20B tokens at shares 1, 0.75, 0.5, 0.33, 0.25.
FINANCE = {
    460e6: (1.4628, 1.4844, 1.5122, 1.5387, 1.5561),
    940e6: (1.3723, 1.3910, 1.4155, 1.4385, 1.4538),
    1.6e9: (1.3242, 1.3416, 1.3643, 1.3854, 1.3994),
    3.1e9: (1.2585, 1.2750, 1.2965, 1.3170, 1.3305),
}


def _power_of_share(
    points: Points, p: Mapping[str, NDArray[np.float64]], ref: References
) -> NDArray[np.float64]:
    return p["a"] * points.get("share") ** p["s"] + p["b"]


POWER_OF_SHARE = Law(
    name="power-of-share",
    formula="a R^s + b",
    source="Gu et al. 2024, arXiv 2407.17467",
    side="domain",
    phases=("constant", "annealed"),
    needs=("share",),
    parameters=(
        Parameter("a", "amplitude", -60.0, 60.0, "nats/token", "linear", "what the share gives"),
        Parameter("s", "nonlinear", -3.0, 3.0, "1", "linear", "exponent of the share"),
        Parameter("b", "amplitude", -60.0, 60.0, "nats/token", "linear", "loss without it"),
    ),
    loss=_power_of_share,
    one_value=("n_params", "n_tokens"),
)


@pytest.mark.parametrize("size", FINANCE)
def test_finance_a_quarter_predicted_from_larger_shares(size: float) -> None:
    *losses, measured = FINANCE[size]
    ratio = [1.0, 0.75, 0.5, 0.33]
    runs = pd.DataFrame({"run": ["100", "75", "50", "33"], "ratio": ratio, "loss_domain": losses})
    found = dcpt.fit(runs.assign(n_params=size, n_tokens=20e9), law=POWER_OF_SHARE, n_draws=1)
    asked = found.predict(n_params=size, n_tokens=20e9, ratio=0.25)
    assert asked["loss"].item() == pytest.approx(measured, abs=2e-3)


# Ibrahim et al. (arXiv 2403.08763), 405M parameters: final losses by the share of replayed text.
REPLAY = {
    "German": (
        [0.0, 0.01, 0.05, 0.10, 0.25, 0.50],
        [3.56, 2.83, 2.57, 2.46, 2.33, 2.24],
        [1.11, 1.12, 1.12, 1.13, 1.16, 1.22],
    ),
    "SlimPajama": (
        [0.0, 0.005, 0.01, 0.05, 0.10, 0.50],
        [2.44, 2.27, 2.26, 2.23, 2.21, 2.16],
        [2.50, 2.50, 2.50, 2.51, 2.51, 2.54],
    ),
}


@pytest.mark.parametrize("text", REPLAY)
def test_replay_keeps_the_old_and_costs_the_new(text: str) -> None:
    """Signs of both trends, from laws whose sign is free, within a unit of the last digit."""
    replay, old, new = map(np.array, REPLAY[text])
    runs = pd.DataFrame({"ratio": 1 - replay, "loss_general": old, "loss_domain": new})
    runs = runs.assign(run="replay " + runs.index.astype(str), n_params=405e6, n_tokens=100e9)
    grid = np.linspace(0.005, 0.5, 100)
    trends = {}
    for channel, share in (("general", grid), ("domain", 1 - grid)):
        found = fit_law(BY_SHARE, points_from_table(runs, channel))
        assert np.abs(found.predict(found.data.points) - found.data.losses).max() < 0.01
        trends[channel] = np.diff(found.predict(Points(share=share)))
    assert (trends["general"] < 0).all()
    assert (trends["domain"] > 0).all()
