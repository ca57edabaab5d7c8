"""``dcpt.plot`` finds the figure of a result."""

from __future__ import annotations

import numpy as np
import pytest

import dcpt
from dcpt.errors import InputError
from dcpt.report.residual_figures import find_residuals

RUNS = dcpt.bundled_runs("code")


@pytest.fixture(scope="module")
def fit():
    return dcpt.fit(RUNS, n_draws=20)


def test_a_fit_has_the_same_residuals_with_and_without_its_table(fit) -> None:
    for channel in fit.channels:
        with_table, alone = find_residuals(fit, channel, RUNS), find_residuals(fit, channel)
        assert len(alone.missed) > 100
        np.testing.assert_array_equal(alone.missed, with_table.missed)
        assert set(with_table.n_params) == set(RUNS["n_params"])
        assert alone.annealed.sum() == with_table.annealed.sum()
        assert alone.n_params is None


def test_the_figure_of_a_fit_is_its_residuals(fit) -> None:
    labels = [axes.get_ylabel() for axes in dcpt.plot(fit).axes]
    assert labels == ["measured minus predicted (nats)"] * 2
    assert dcpt.plot(fit).axes[0].get_legend() is None
    sizes = [text.get_text() for text in dcpt.plot(fit, RUNS).axes[0].get_legend().get_texts()]
    assert sizes == ["1.8M", "6.62M", "29.1M"]


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({"kind": "frontier"}, "no figure 'frontier' of this result; it has residuals, losses"),
        ({"kind": "losses"}, "needs the runs table"),
        ({"kind": "losses", "runs": RUNS, "channel": "zh"}, "one of its channels"),
    ],
)
def test_a_figure_that_a_fit_has_not_is_refused(fit, options, output) -> None:
    with pytest.raises(InputError, match=output):
        dcpt.plot(fit, **options)


def test_other_things_have_no_figure() -> None:
    with pytest.raises(InputError, match="no figure of a DataFrame"):
        dcpt.plot(RUNS)
