"""Rolling-origin tests: their factors and errors follow from tables whose truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import dcpt
from dcpt.laws import load_fit, write_fit
from dcpt.laws.fits.horizon import Horizon, say_horizon

HORIZON = Horizon(1e12, ((2.0, 0.01, 20), (8.0, 0.03, 40)))


def table(bend: float) -> pd.DataFrame:
    """Three sizes on a law that ``d-cpt`` has, plus a bend beyond 1e6 tokens that it has not."""
    rows = []
    for size in (1e6, 2e6, 4e6):
        for ratio in (0.2, 0.4, 0.6, 0.8):
            for tokens in np.geomspace(1e5, 1.6e6, 9):
                loss = 2 + 0.3 * ratio * (tokens / 1e6) ** -0.3 + 0.1 * (ratio + 0.1) ** -0.5
                loss += bend * max(np.log(tokens / 1e6), 0.0)
                rows.append({"run": f"{size}-{ratio}", "n_params": size, "ratio": ratio})
                rows[-1] |= {"n_tokens": round(tokens), "loss_domain": loss, "phase": "constant"}
    return pd.DataFrame(rows)


@pytest.mark.long
def test_the_error_is_that_of_points_beyond_the_fitted_ones(tmp_path) -> None:
    exact = dcpt.fit(table(0.0), law="d-cpt", n_draws=2).horizons()["domain"]
    assert exact.compute == 4e6 * 1.6e6
    assert exact.factor > 8
    assert exact.error(exact.factor) < 2e-3
    fit = dcpt.fit(table(0.2), law="d-cpt", n_draws=2)
    bent = fit.horizons()["domain"]
    # A law fitted up to 1e6 tokens misses the bend of 0.2 ln 1.6 = 0.094 nats at the end.
    assert bent.error(bent.factor) > 0.03
    assert [factor for factor, _, _ in bent.tests] == sorted(f for f, _, _ in bent.tests)
    write_fit(fit, tmp_path)
    assert load_fit(tmp_path).horizons() == fit.horizons()


def test_the_error_of_a_factor_is_that_of_the_next_test() -> None:
    assert HORIZON.factor == 8.0
    assert [HORIZON.error(factor) for factor in (1.0, 2.0, 3.0, 8.0, 99.0)] == [
        *(0.01, 0.01, 0.03, 0.03, 0.03)
    ]


def test_the_sentence_names_errors_factor_and_target() -> None:
    both = {"general": HORIZON, "domain": Horizon(1e12, ((2.0, 0.02, 20), (4.0, 0.05, 40)))}
    (inside,) = say_horizon(both, 2e12)
    assert "within 0.010 (general) and 0.020 (domain) nats, up to 2 times" in inside
    assert inside.endswith("The target has 2 times that of the runs.")
    (beyond,) = say_horizon(both, 5e12)
    assert "0.030 (general) and 0.050 (domain) nats, up to 4 times" in beyond
    assert beyond.endswith("5 times that of the runs, which is beyond these tests.")
    assert "target" not in say_horizon(both, None)[0]
    assert say_horizon({}, 1e12) == []
