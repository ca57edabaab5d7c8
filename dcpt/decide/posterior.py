"""What a fit knows of a channel's losses at several points jointly, and after more runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.laws.flags.noise import EVALUATION_NOISE

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit
    from dcpt.table.schedules import Schedule

Array = NDArray[np.float64]

LENGTHS = {"share": 1.0, "learning_rate": 1.0, "n_tokens": 2.5, "n_params": 2.0}
"""Distances over which errors of the laws are alike: of -ln(1.03 - share), and of the logarithms of
learning rate, tokens and parameters. Without them a run anywhere would correct the laws everywhere,
since a draw's law error is the same at all points; and 200 draws correlate by chance."""

WILD = 5.0
"""Draws farther from the median than this many standard deviations (from the median absolute
deviation) are moved there: a single law that explodes would set the covariance."""

NOISE = EVALUATION_NOISE / 2
"""Nats: two equal runs differed by this much in the pilot."""


class Posterior(Protocol):
    """A joint normal distribution of a channel's losses at M points, on any scale."""

    @property
    def mean(self) -> Array:
        """Shape (M,)."""
        ...

    @property
    def covariance(self) -> Array:
        """Shape (M, M), without the noise of a run."""
        ...

    @property
    def noise(self) -> float:
        """Standard deviation of a single measured run."""
        ...

    def given(self, index: list[int]) -> Self:
        """The distribution after runs at some of the points, before their losses are known."""
        ...


@dataclass(frozen=True)
class Normal:
    """A posterior in nats per token."""

    mean: Array
    covariance: Array
    noise: float = NOISE

    def given(self, index: list[int]) -> Normal:
        """The distribution after runs at some of the points, before their losses are known."""
        across = self.covariance[:, index]
        measured = across[index] + self.noise**2 * np.eye(len(index))
        gain = np.linalg.solve(measured, across.T).T
        return Normal(self.mean, self.covariance - gain @ across.T, self.noise)


def posterior_of(
    fit: Fit, channel: str, frame: pd.DataFrame, shape: Schedule | None = None
) -> Posterior:
    """The joint distribution of a channel's losses at points.

    It is that of the two-level model, if the fit has one that predicts all points. Otherwise it has
    the covariance of the fit's draws, reduced with the distance between points (Houtekamer and
    Mitchell 2001, doi 10.1175/1520-0493(2001)129<0123:ASEKFF>2.0.CO;2).

    Args:
        fit: The fit.
        channel: A fitted channel.
        frame: M points, with the table's columns.
        shape: The schedule that every point is at the end of; None takes what the columns say.

    Raises:
        InputError: If no law of the channel holds at a point.
    """
    points = fit.points(channel, frame, shape=shape)
    two_level = fit.by_channel[channel].two_level
    if two_level is not None and two_level.refuse(points) is None:
        return two_level.model.joint(points)
    draws = _without_wild(fit.sample(channel, points))
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    return Normal(fit.central(channel, points), covariance * _nearness(frame))


def _without_wild(draws: Array) -> Array:
    """Draws with those far from the median moved towards it, shape (n_draws, M)."""
    middle = np.median(draws, axis=0)
    reach = WILD * 1.4826 * np.median(np.abs(draws - middle), axis=0)
    return np.clip(draws, middle - reach, middle + reach)


def _nearness(frame: pd.DataFrame) -> Array:
    """How alike the errors of the laws are at two points, 0 to 1, shape (M, M)."""
    square = np.zeros((len(frame), len(frame)))
    for name, length in LENGTHS.items():
        if name == "share":
            place = -np.log(1.03 - frame["ratio"].to_numpy(dtype=np.float64))
        elif name in frame:
            place = np.log(frame[name].to_numpy(dtype=np.float64))
        else:
            continue
        square += (np.subtract.outer(place, place) / length) ** 2
    return np.asarray(np.exp(-0.5 * square))
