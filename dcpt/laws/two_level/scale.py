"""The scale on which the two-level model is normal, and its conversion to nats per token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Converts losses at M points.

    A general loss enters as w asinh(rise / w), where the rise is the loss minus the base's loss:
    linear for rises well below w, logarithmic above, so that the steep rise near share 1 does not
    set the size of errors elsewhere. A domain loss enters as its logarithm.

    Args:
        base_losses: The base's loss at each point, shape (M,); None for a domain.
        knee: w, nats per token.
    """

    base_losses: Array | None
    knee: float

    def to_model(self, losses: Array) -> Array:
        """Losses in nats per token, shape (..., M), on the scale of the model."""
        if self.base_losses is None:
            return np.log(losses)
        return self.knee * np.arcsinh((losses - self.base_losses) / self.knee)

    def to_losses(self, values: Array) -> Array:
        """Values of the model, shape (..., M), in nats per token."""
        if self.base_losses is None:
            return np.exp(values)
        return self.base_losses + self.knee * np.sinh(values / self.knee)

    def slope(self, values: Array) -> Array:
        """Nats per unit of the model's scale at values of the model, shape (..., M)."""
        if self.base_losses is None:
            return np.exp(values)
        return np.asarray(np.cosh(values / self.knee))

    def take(self, rows: NDArray[np.intp]) -> Scale:
        """The scale at some of the points."""
        base = None if self.base_losses is None else self.base_losses[rows]
        return Scale(base, self.knee)
