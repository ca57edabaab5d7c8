"""What a law sees: arrays of points, one entry a point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.table.channels import DOMAIN

Array = NDArray[np.float64]

SAME = 0.02
"""Counts, ratios and learning rates within 2 % of each other are equal."""


@dataclass(frozen=True)
class Points:
    """M points as one channel sees them; arrays of shape (M,), ``None`` where the table has none.

    The learning-rate history of a point is in its areas (LR x steps) and in its drops: arrays of
    shape (M, J) over the steps at which the rate changed before the point, padded with drops of 0.

    Args:
        n_params: Parameters in all.
        n_tokens: CPT tokens trained so far.
        share: The channel's own share of training: ratio for the domain, 1 - ratio for the general
            side.
        ratio: Share of domain tokens.
        learning_rate: The trunk's peak, absolute.
        annealed: 1.0 at the end of a decay to zero, 0.0 at constant rate.
        base_loss: The channel's own loss before CPT, nats per token.
        base_loss_general: The general channel's loss before CPT, nats per token.
        base_peak_learning_rate: Peak learning rate of the base's pre-training.
        base_n_tokens: Tokens that the base was pre-trained on.
        warmup_tokens: Tokens of the run's warmup.
        unique_tokens: Unique tokens of this channel's own text: epochs are share D / unique.
        lr_area: S1, the sum of learning rates over the steps so far.
        anneal_area: S2 of arXiv 2408.11029, the drops so far, each fading with the steps since.
        drop_sizes: Learning rate before a drop minus after it, shape (M, J).
        drop_rates: Learning rate after it, shape (M, J).
        drop_areas: Sum of learning rates from its step to the point, that step included, (M, J).
    """

    n_params: Array | None = None
    n_tokens: Array | None = None
    share: Array | None = None
    ratio: Array | None = None
    learning_rate: Array | None = None
    annealed: Array | None = None
    base_loss: Array | None = None
    base_loss_general: Array | None = None
    base_peak_learning_rate: Array | None = None
    base_n_tokens: Array | None = None
    warmup_tokens: Array | None = None
    unique_tokens: Array | None = None
    lr_area: Array | None = None
    anneal_area: Array | None = None
    drop_sizes: Array | None = None
    drop_rates: Array | None = None
    drop_areas: Array | None = None

    def __len__(self) -> int:
        return next((len(values) for _, values in self._there()), 0)

    def _there(self) -> Iterator[tuple[str, Array]]:
        for column in fields(self):
            values = getattr(self, column.name)
            if values is not None:
                yield column.name, values

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Points:
        """The points at an index or where a mask is true."""
        return Points(**{name: values[index] for name, values in self._there()})

    @property
    def epochs(self) -> Array | None:
        """Epochs of the channel's own text, shape (M,); a missing share counts as 1."""
        if self.unique_tokens is None or self.n_tokens is None:
            return None
        share = 1.0 if self.share is None else self.share
        with np.errstate(divide="ignore", invalid="ignore"):  # no text: infinitely many epochs
            return self.n_tokens * share / self.unique_tokens

    def levels(self, name: str) -> tuple[Array, NDArray[np.intp]]:
        """Distinct values of a field, shape (U,), and which of them each point has, shape (M,).

        They are found once per record: a formula's powers cost U numbers instead of M.
        """
        found: dict[str, tuple[Array, NDArray[np.intp]]] = self.__dict__.setdefault("_levels", {})
        if name not in found:
            found[name] = np.unique(self.get(name), return_inverse=True)
        return found[name]

    def get(self, name: str) -> Array:
        """A field that must be there.

        Raises:
            InputError: If the points have no such field.
        """
        values: Array | None = getattr(self, name)
        if values is None:
            raise InputError(f"{name} is missing: this law needs it; give it for every point")
        return values


def side_of(channel: str) -> str:
    """The side of a channel, ``general`` or ``domain``."""
    return "domain" if channel == DOMAIN else "general"


def share_of(side: str, ratio: Array | None) -> Array | None:
    """A channel's own share of training: the ratio for the domain, the rest for the other side."""
    return ratio if ratio is None or side == "domain" else 1.0 - ratio


def annealed_of(phases: pd.Series) -> Array:
    """1.0 where a phase is ``annealed``, else 0.0, shape (M,)."""
    return np.asarray(phases == "annealed", dtype=np.float64)


def known(points: Points, needs: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which points have a number in every needed field, shape (M,)."""
    mask = np.ones(len(points), dtype=bool)
    for name in needs:
        values = getattr(points, name)
        if values is None:
            return np.zeros(len(points), dtype=bool)
        mask &= np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    return mask


def distinct(points: Points, axis: str) -> Array:
    """The distinct values along an axis, ascending, equal within 1e-6 of their size.

    Args:
        points: The points.
        axis: A field, or a quotient of two (``n_params/learning_rate``). A field that is missing
            or has no number counts as one unknown value (NaN).
    """
    numerator, _, denominator = axis.partition("/")
    values = getattr(points, numerator)
    if denominator and values is not None:
        below = getattr(points, denominator)
        values = values if below is None else values / below
    if values is None or not np.isfinite(values).any():
        return np.array([np.nan])
    ordered = np.unique(values[np.isfinite(values)])
    steps = np.diff(ordered) > 1e-6 * np.abs(ordered[1:])
    return np.asarray(ordered[np.concatenate([[True], steps])], dtype=np.float64)
