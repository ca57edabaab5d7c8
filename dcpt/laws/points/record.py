"""The inputs of a law: arrays with one entry per point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.table.channels import DOMAIN
from dcpt.table.schedule_phases import FALLING

Array = NDArray[np.float64]

HISTORY = frozenset({"lr_area", "anneal_area", "drop_sizes", "drop_rates", "drop_areas"})
"""Fields of the points that are computed from the whole history of the learning rate."""

SAME = 0.02
"""Counts, ratios or learning rates that differ by at most 2 % are treated as equal."""


@dataclass(frozen=True)
class Points:
    """M points of one channel: arrays of shape (M,), or None where the table has no values.

    Areas (sums of learning rates over steps) and drops describe the history of the learning rate.
    Drops are arrays of shape (M, J) over the J steps before the point at which the rate changed;
    shorter histories are padded with drops of 0.

    Args:
        n_params: Number of parameters of the model.
        n_tokens: Tokens of continual pre-training (CPT) so far.
        share: The channel's share of the training tokens: the ratio for the domain, 1 - ratio for
            the general side.
        ratio: Share of domain tokens.
        learning_rate: Peak learning rate of the trunk, absolute.
        annealed: 1.0 after a decay to zero, 0.0 at a constant learning rate, NaN while the rate
            falls (:data:`dcpt.table.schedule_phases.FALLING`).
        base_loss: The channel's own loss before CPT, nats per token.
        base_loss_general: The loss of the general channel before CPT, nats per token; the channel's
            own where the table has no general channel.
        base_peak_learning_rate: Peak learning rate of the base's pre-training.
        base_n_tokens: Tokens that the base was pre-trained on.
        warmup_tokens: Tokens of the run's warmup.
        unique_tokens: Unique tokens of the channel's text; epochs are share x D / unique tokens.
        lr_area: S1, the sum of learning rates over the steps so far.
        anneal_area: S2 of arXiv 2408.11029: the sum of the drops so far, each of which decays with
            the steps since.
        source_shares: Share of each of J sources of text in training (columns share_<channel>, in
            the order of their names), shape (M, J).
        drop_sizes: Learning rate before a drop minus the rate after it, shape (M, J).
        drop_rates: Learning rate after the drop, shape (M, J).
        drop_areas: Sum of learning rates from the step of the drop to the point, both included,
            shape (M, J).
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
    source_shares: Array | None = None
    drop_sizes: Array | None = None
    drop_rates: Array | None = None
    drop_areas: Array | None = None

    def __len__(self) -> int:
        return next((len(values) for _, values in self._known_fields()), 0)

    def _known_fields(self) -> Iterator[tuple[str, Array]]:
        for field in fields(self):
            values = getattr(self, field.name)
            if values is not None:
                yield field.name, values

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Points:
        """Select points by index or by a mask of shape (M,)."""
        return Points(**{name: values[index] for name, values in self._known_fields()})

    @property
    def epochs(self) -> Array | None:
        """Epochs over the channel's text, shape (M,); an unknown share counts as 1."""
        if self.unique_tokens is None or self.n_tokens is None:
            return None
        share = 1.0 if self.share is None else self.share
        with np.errstate(divide="ignore", invalid="ignore"):  # without unique text: inf
            return self.n_tokens * share / self.unique_tokens

    def levels(self, name: str) -> tuple[Array, NDArray[np.intp]]:
        """Distinct values of a field and the index of each point's value among them.

        The result is cached, so that the powers in a formula are computed for U values instead of
        M.

        Args:
            name: Name of the field.

        Returns:
            Distinct values, shape (U,), ascending, and indices, shape (M,).

        Raises:
            InputError: If the field is missing.
        """
        cache: dict[str, tuple[Array, NDArray[np.intp]]] = self.__dict__.setdefault("_levels", {})
        if name not in cache:
            cache[name] = np.unique(self.get(name), return_inverse=True)
        return cache[name]

    def get(self, name: str) -> Array:
        """Values of a required field.

        Args:
            name: Name of the field.

        Returns:
            Shape (M,), or (M, J) for drops and shares of sources, in the unit of the field.

        Raises:
            InputError: If the field is missing.
        """
        values: Array | None = getattr(self, name)
        if values is None:
            raise InputError(f"{name} is missing; this law needs it, so give it for every point")
        return values


def side_of(channel: str) -> str:
    """The side of a channel, ``general`` or ``domain``."""
    return "domain" if channel == DOMAIN else "general"


def share_of(side: str, ratio: Array | None) -> Array | None:
    """A channel's share of the training tokens, same shape as ``ratio``.

    Args:
        side: ``general`` or ``domain``.
        ratio: Share of domain tokens, or None if it is unknown.

    Returns:
        The ratio for the domain, 1 - ratio for the general side; None if the ratio is unknown.
    """
    return ratio if ratio is None or side == "domain" else 1.0 - ratio


def annealed_of(phases: pd.Series) -> Array:
    """1.0 where a phase is ``annealed``, NaN where it is ``falling``, else 0.0, shape (M,)."""
    annealed = np.asarray(phases == "annealed", dtype=np.float64)
    return np.where(phases == FALLING, np.nan, annealed)


def has_mixtures(points: Points) -> bool:
    """Whether points differ in the shares of their sources and have no share of domain text."""
    if points.source_shares is None or points.ratio is not None:
        return False
    shares = points.source_shares[np.isfinite(points.source_shares).all(axis=1)]
    return bool(np.ptp(shares, axis=0).max(initial=0.0) > SAME) if len(shares) else False


def known(points: Points, needs: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which points have finite values in all of the named fields, shape (M,)."""
    mask = np.ones(len(points), dtype=bool)
    for name in needs:
        values = getattr(points, name)
        if values is None:
            return np.zeros(len(points), dtype=bool)
        mask &= np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    return mask


def distinct(points: Points, axis: str) -> Array:
    """Distinct values along an axis; values within a relative 1e-6 count as equal.

    Args:
        points: M points.
        axis: A field, or a quotient of two (``n_params/learning_rate``).

    Returns:
        Shape (U,), ascending. A field that is missing or has no finite value gives a single NaN.
    """
    numerator, _, denominator = axis.partition("/")
    values = getattr(points, numerator)
    if denominator and values is not None:
        divisor = getattr(points, denominator)
        values = values if divisor is None else values / divisor
    if values is None or not np.isfinite(values).any():
        return np.array([np.nan])
    ordered = np.unique(values[np.isfinite(values)])
    steps = np.diff(ordered) > 1e-6 * np.abs(ordered[1:])
    return np.asarray(ordered[np.concatenate([[True], steps])], dtype=np.float64)
