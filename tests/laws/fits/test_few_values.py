"""Tables with one or two sizes or token counts: terms drop out, exponents are published ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dcpt.errors import InputError
from dcpt.laws import LAWS, Fit, fit

SIZES, TOKENS, RATIOS = (1e8, 4e8, 16e8), (1e9, 4e9, 16e9), np.linspace(0.1, 0.9, 9)


def known_loss(n: float, d: float, r: float) -> float:
    return float(1.2 + 0.5 * (n / 1e8) ** -0.34 + 0.4 * (d / 1e9) ** -0.28 + 0.3 * np.exp(-4 * r))


def make_table(sizes: tuple[float, ...], tokens: tuple[float, ...]) -> pd.DataFrame:
    rows = [
        {"run": f"{n:g}-{r:.2f}", "n_params": n, "n_tokens": d, "ratio": r, "phase": "constant"}
        | {"loss_domain": known_loss(n, d, r)}
        for n in sizes
        for r in RATIOS
        for d in tokens
    ]
    return pd.DataFrame(rows)


def fit_table(sizes: tuple[float, ...], tokens: tuple[float, ...], law: str) -> Fit:
    return fit(make_table(sizes, tokens), law, n_draws=5)


def test_the_share_alone_is_fitted_at_one_size_and_one_length() -> None:
    found = fit_table(SIZES[:1], TOKENS[:1], "data-mixing")
    assert {"one_size", "one_length"} <= {flag.kind for flag in found.flags}
    asked = {"n_params": SIZES[0], "n_tokens": TOKENS[0], "ratio": 0.45}
    assert found.predict(**asked)["loss"][0] == pytest.approx(known_loss(1e8, 1e9, 0.45), abs=1e-3)
    with pytest.raises(InputError, match="was fitted at one n_tokens"):
        found.predict(**{**asked, "n_tokens": 2e9})
    with pytest.raises(InputError, match="was fitted at one n_params"):
        found.predict(**{**asked, "n_params": 2e8})


@pytest.mark.parametrize("law", ["d-cpt", "data-mixing", "bimix", "fx2-mon", "u10"])
def test_laws_of_the_share_suit_a_table_of_one_size_and_one_length(law: str) -> None:
    member = fit_table(SIZES[:1], TOKENS[:1], law).by_channel["domain"].members[law]
    fitted = {
        parameter.name
        for parameter, low, high in zip(
            member.law.parameters, member.lower, member.upper, strict=True
        )
        if low < high
    }
    dropped = {p.name for p in member.law.parameters if p.axis in ("n_params", "n_tokens")}
    assert {"A", "B"} <= dropped
    assert dropped.isdisjoint(fitted)


@pytest.mark.parametrize(("sizes", "tokens"), [(SIZES[:2], TOKENS), (SIZES, TOKENS[:2])])
def test_two_values_identify_a_term_and_its_exponent_is_the_published_one(
    sizes: tuple[float, ...], tokens: tuple[float, ...]
) -> None:
    found = fit_table(sizes, tokens, "data-mixing")
    values = found.records()[0]["parameters"]
    assert values["alpha" if len(sizes) == 2 else "beta"] == pytest.approx(
        0.34 if len(sizes) == 2 else 0.28
    )
    asked = {"n_params": SIZES[-1], "n_tokens": TOKENS[-1], "ratio": 0.5}
    assert found.predict(**asked)["loss"][0] == pytest.approx(known_loss(16e8, 16e9, 0.5), abs=5e-3)


def test_an_exponent_is_fitted_with_two_values_where_bounds_are_given() -> None:
    found = fit(make_table(SIZES[:2], TOKENS), "data-mixing", n_draws=5, bounds={"alpha": (0.1, 1)})
    member = found.by_channel["domain"].members["data-mixing"]
    at = LAWS["data-mixing"].names.index("alpha")
    assert (member.lower[at], member.upper[at]) == (0.1, 1.0)
