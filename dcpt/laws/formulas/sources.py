"""A law of the shares of several sources, for tables whose runs differ in their whole mixture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dcpt.laws.formulas.coordinates import (
    FLOOR,
    SIZE_TERM,
    SOME_TOKENS,
    TOKENS_TERM,
    Array,
    Values,
)
from dcpt.laws.formulas.shares import without_share
from dcpt.laws.law import Law, Parameter, References
from dcpt.laws.points.record import Points

MANY_SOURCES = "many-sources"
"""The name of the law."""

EACH_SOURCE = ("j",)
"""Stands for each source of a table in the record of the law that is shown without a table."""

WEIGHT = "K_"
"""Begins the parameter with the weight of a source."""


def many_sources(names: Sequence[str]) -> Law:
    """The law of the shares of several sources of text.

    The loss of a channel falls with a sum over sources, in which each source has a weight and a
    power of its own: a source helps other channels, and its first tokens help most.

    Args:
        names: The sources: those of the columns ``share_<channel>`` of the table, at least two.

    Returns:
        The law. ``dcpt.fit`` makes it of a table whose runs differ in the mix of their sources.

    Source:
        The additive law of arXiv 2507.09404, without its constant in the denominator.
    """
    sources = tuple(sorted(names))

    def loss(points: Points, p: Values, ref: References) -> Array:
        total: Array | float = 0.0
        for number, name in enumerate(sources):
            share = points.get("source_shares")[:, number]
            there = share > 0
            log_share = np.log(np.where(there, share, 1.0))
            total = total + p[WEIGHT + name] * there * np.exp(p[f"g_{name}"] * log_share)
        return without_share(points, p, ref) + 1.0 / total

    weights = [
        Parameter(WEIGHT + n, "nonlinear", 1e-3, 10.0, "1/nats", "log", f"weight of {n}")
        for n in sources
    ]
    powers = [
        Parameter(f"g_{n}", "nonlinear", 0.05, 2.0, "1", "log", f"exponent of the share of {n}")
        for n in sources
    ]
    return Law(
        name=MANY_SOURCES,
        formula="E + A n^-alpha + B d^-beta + 1 / sum_j K_j r_j^g_j",
        source="additive law of Shukor et al. 2025, arXiv 2507.09404",
        side="any",
        phases=("constant", "annealed"),
        needs=("n_tokens", "source_shares"),
        parameters=(FLOOR, *SIZE_TERM, *TOKENS_TERM, *weights, *powers),
        loss=loss,
        axes={"n_params": 2, "n_tokens": 2},
        one_value=("learning_rate", "annealed"),
        holds_on=(SOME_TOKENS,),
        sources=sources,
    )
