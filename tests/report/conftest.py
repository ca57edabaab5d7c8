from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made_report import make_recommendation, make_runs

from dcpt.decide.records import Recommendation
from dcpt.laws.fits.fit_runs import fit as fit_laws
from dcpt.laws.fits.result import Fit

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def runs() -> pd.DataFrame:
    return make_runs()


@pytest.fixture(scope="session")
def fit(runs: pd.DataFrame) -> Fit:
    return fit_laws(runs, n_draws=10)


@pytest.fixture(scope="session")
def recommendation() -> Recommendation:
    return make_recommendation()


@pytest.fixture(scope="session")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Open a page in a browser without a window, and give its content after its scripts ran."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    profile = tmp_path_factory.mktemp("profile")

    def dump(file: Path) -> str:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        flags += [f"--user-data-dir={profile}", "--virtual-time-budget=10000"]
        return subprocess.run(
            [browser, *flags, "--dump-dom", file.as_uri()],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout

    return dump
