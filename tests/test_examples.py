"""The examples in the docstrings of the public names run and print what they show."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest

import dcpt

pytestmark = pytest.mark.long

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

WITHOUT_EXAMPLE = {"__version__", "Parameter"}
"""A number, and a record that is shown in the example of ``Law``."""


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """Names that the examples use: bundled runs, a fit with few draws, a recommendation."""
    runs = dcpt.bundled_runs("zh_annealed")
    fit = dcpt.fit(runs, n_draws=20)
    base = {"base_losses": {"general": 2.775}, "base_peak_learning_rate": 1e-3}
    target = dcpt.Target(n_params=29.1e6, n_tokens=44e6, limit="+3%", **base)
    recommendation = dcpt.recommend(fit, target)
    return {
        "dcpt": dcpt,
        "runs": runs,
        "fit": fit,
        "target": target,
        "recommendation": recommendation,
    }


@pytest.mark.parametrize("name", sorted({*dcpt.__all__} - WITHOUT_EXAMPLE))
def test_the_examples_of_a_public_name_run(
    name: str, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    docstring = getattr(dcpt, name).__doc__
    example = doctest.DocTestParser().get_doctest(docstring, dict(names), name, None, 0)
    assert example.examples, f"{name} has no example"
    printed: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=printed.append)
    assert result.failed == 0, "".join(printed)
