"""Planted tables: runs whose true laws are known, to see what a fit makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.laws.law import Law, References, evaluate
from dcpt.laws.points.questions import ask_points
from dcpt.table.channels import DOMAIN

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """A law and its known parameter values, for a synthetic channel.

    Args:
        law: The law, of the menu or not.
        values: By parameter, natural units.
        references: Scales that the values belong to.
    """

    law: Law
    values: Mapping[str, float]
    references: References

    def losses(self, design: pd.DataFrame, channel: str) -> Array:
        """True losses of a channel at the rows of a frame with table columns, nats per token."""
        side = "domain" if channel == DOMAIN else "general"
        points = ask_points(design, channel, side, "general", {}, "constant")
        values = np.array([self.values[name] for name in self.law.names])
        return evaluate(self.law, points, values, self.references)


def plant_runs(
    design: pd.DataFrame,
    truths: Mapping[str, Truth],
    *,
    run_noise: float,
    point_noise: float,
    seed: int,
) -> pd.DataFrame:
    """A runs table in which every channel follows a known law, but for noise.

    Args:
        design: Table columns but losses, one row per point; no D = 0 rows (base losses come as
            ``base_loss_<channel>``).
        truths: The law of each channel, by name.
        run_noise: Standard deviation of what all points of a run share, nats per token.
        point_noise: Standard deviation of what each point adds, nats per token.
        seed: Of the noise.

    Returns:
        The design with a column ``loss_<channel>`` per channel.
    """
    rng = np.random.default_rng(seed)
    runs = pd.factorize(design["run"])[0]
    losses = {}
    for channel, truth in truths.items():
        shared = rng.normal(0.0, run_noise, runs.max() + 1)[runs]
        own = rng.normal(0.0, point_noise, len(design))
        losses[f"loss_{channel}"] = truth.losses(design, channel) + shared + own
    return design.assign(**losses)
