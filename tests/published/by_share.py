"""A custom law for tables of one size and one length: the effect of a channel's share alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dcpt.laws import Law, Parameter, Points, References


def _by_share(
    points: Points, p: Mapping[str, NDArray[np.float64]], ref: References
) -> NDArray[np.float64]:
    return p["E"] + p["C"] * (points.get("share") + p["eps"]) ** -p["gamma"]


BY_SHARE = Law(
    name="by-share",
    formula="E + C (x + eps)^-gamma",
    source="the term of the share in arXiv 2406.01375",
    side="any",
    phases=("constant", "annealed"),
    needs=("share",),
    parameters=(
        Parameter("E", "amplitude", -60.0, 60.0, "nats/token", "linear", "loss that remains"),
        Parameter("C", "amplitude", -60.0, 60.0, "nats/token", "linear", "price of a small share"),
        Parameter("eps", "nonlinear", 1e-4, 2.0, "1", "log", "share at which it bends"),
        Parameter("gamma", "nonlinear", 0.02, 4.0, "1", "log", "its exponent"),
    ),
    loss=_by_share,
    one_value=("n_params", "n_tokens"),
)
"""The sign of C is free."""
