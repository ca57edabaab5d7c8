"""Synthetic runs tables whose true laws are known, to test what a fit recovers."""

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
    """The law, with its values, that the losses of a synthetic channel follow.

    Args:
        law: A built-in law or any other.
        values: Value of each parameter by name, in natural units.
        references: Reference scales for which the values hold.
    """

    law: Law
    values: Mapping[str, float]
    references: References

    def losses(self, design: pd.DataFrame, channel: str) -> Array:
        """True losses of a channel, without noise.

        Args:
            design: M rows with table columns.
            channel: Name of the channel.

        Returns:
            Shape (M,), nats per token.

        Raises:
            InputError: If the design lacks a column that the law needs.
        """
        side = "domain" if channel == DOMAIN else "general"
        points = ask_points(design, channel, side, "general", {}, "constant")
        values = np.array([self.values[name] for name in self.law.names])
        return evaluate(self.law, points, values, self.references)


def simulate_runs(
    design: pd.DataFrame,
    truths: Mapping[str, Truth],
    *,
    run_noise: float,
    point_noise: float,
    seed: int,
) -> pd.DataFrame:
    """Simulate a runs table: known losses plus normal noise of runs and of points.

    Args:
        design: Table columns without losses, one row per point. It has no rows at D = 0; base
            losses are in the columns ``base_loss_<channel>``.
        truths: True law of each channel, by channel name.
        run_noise: Standard deviation of the noise that all points of a run share, nats per token.
        point_noise: Standard deviation of the independent noise of each point, nats per token.
        seed: Seed of the noise.

    Returns:
        The design with a column ``loss_<channel>`` per channel, nats per token.

    Raises:
        InputError: If the design lacks a column that a law needs.
    """
    rng = np.random.default_rng(seed)
    runs = pd.factorize(design["run"])[0]
    losses = {}
    for channel, truth in truths.items():
        shared = rng.normal(0.0, run_noise, runs.max() + 1)[runs]
        independent = rng.normal(0.0, point_noise, len(design))
        losses[f"loss_{channel}"] = truth.losses(design, channel) + shared + independent
    return design.assign(**losses)
