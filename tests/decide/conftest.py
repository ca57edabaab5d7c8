from __future__ import annotations

import pytest
from known_truth import BASE_GENERAL, KnownFit, spread_costs

from dcpt.decide.records import Target
from dcpt.limit import Limit


@pytest.fixture
def known_fit():
    """Make a known fit; keywords replace its fields."""

    def make(**fields: object) -> KnownFit:
        return KnownFit(**{"costs": spread_costs(), **fields})

    return make


@pytest.fixture
def target():
    """Make a target inside what the known fit saw; keywords replace its fields."""

    def make(**fields: object) -> Target:
        plain = {
            "n_params": 8e6,
            "n_tokens": 44e6,
            "limit": Limit.parse("+3%"),
            "base_losses": {"general": BASE_GENERAL},
        }
        return Target(**{**plain, **fields})

    return make
