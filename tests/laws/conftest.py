from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ladder import make_ladder

from dcpt.laws import Fit, fit


@pytest.fixture(scope="session")
def ladder() -> pd.DataFrame:
    return make_ladder()


@pytest.fixture(scope="session")
def ladder_fit(ladder: pd.DataFrame) -> Fit:
    return fit(ladder, n_draws=50)
