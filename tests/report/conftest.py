from __future__ import annotations

import pandas as pd
import pytest
from made_report import make_recommendation, make_runs

from dcpt.decide.records import Recommendation
from dcpt.laws.fits.fit_runs import fit as fit_laws
from dcpt.laws.fits.result import Fit


@pytest.fixture(scope="session")
def runs() -> pd.DataFrame:
    return make_runs()


@pytest.fixture(scope="session")
def fit(runs: pd.DataFrame) -> Fit:
    return fit_laws(runs, n_draws=10)


@pytest.fixture(scope="session")
def recommendation() -> Recommendation:
    return make_recommendation()
