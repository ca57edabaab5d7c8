"""The published cross-domain law, fitted to the losses of several domains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Array = NDArray[np.float64]

SIZES = np.array([1.8e6, 6.6e6, 29e6])
SHARES = np.array([0.25, 0.5, 0.75, 0.9])
TOKENS = np.array([1.1e6, 2e6, 4e6, 8e6, 16e6])
"""From the first evaluation that all tables have to the end of the shortest tables."""

STARTS = 8
MIDDLE = np.log([1, 0.5, 0.3, 1, 0.3, 0.3, 0.3, 0.5, 0.1, 0.5, 1, 0.1])
WITHIN = 20
"""Around these constants the searches of the law begin; the bounds lie this factor away."""


def law(values: Array, k1: Array, k2: Array, sign: int, largest: float) -> Array:
    """The published law, shape (domains, sizes, shares, tokens), nats per token.

    E + A / N^a + B r^h / D^b + C / (r + e)^g + F / K^mu with K = 1 / k1 + sign w2 k2. N counts in
    6.6M parameters, D in 4M tokens.

    Args:
        values: Logs of E, A, a, B, h, b, C, g, e, F, mu, w2. For the minus sign the last is the
            logit of w2 as a part of ``largest``, so that K stays positive.
        k1: Initial losses, shape (domains,).
        k2: Rates of decline, shape (domains,).
        sign: Of the term in k2; 0 leaves it out.
        largest: The w2 at which K is 0 for one of the domains.
    """
    e0, a, alpha, b, h, beta, c, g, e, f, mu = np.exp(values[:11])
    w2 = largest / (1 + np.exp(-values[11])) if sign < 0 else np.exp(values[11])
    level = f * (1 / k1 + sign * w2 * k2) ** -mu
    size = a / (SIZES[:, None, None] / 6.6e6) ** alpha
    share = SHARES[:, None]
    text = b * share**h / (TOKENS / 4e6) ** beta + c / (share + e) ** g
    losses: Array = e0 + size + text + level[:, None, None, None]
    return losses


def predict_last(
    measured: Array, weights: Array, k1: Array, k2: Array, sign: int, largest_mu: float = 5
) -> Array:
    """Fit the law to all domains but the last of k1 and k2, and predict that.

    Args:
        measured: Losses, shape (domains - 1, sizes, shares, tokens); NaN where unknown.
        weights: Of the domains, shape (domains - 1,).
        k1: Shape (domains,).
        k2: Shape (domains,).
        sign: Of the term in k2.
        largest_mu: Upper bound of mu.
    """
    known, roots = np.isfinite(measured), np.sqrt(weights)[:, None, None, None]
    largest = 0.99 * float(np.min(1 / (k1 * k2)))

    def residuals(values: Array) -> Array:
        gaps = law(values, k1[:-1], k2[:-1], sign, largest) - measured
        found: Array = (gaps * roots)[known]
        return found

    random = np.random.default_rng(0)
    bounds = (MIDDLE - np.log(WITHIN), MIDDLE + np.log(WITHIN))
    bounds[1][10] = np.log(largest_mu)
    starts = MIDDLE + random.normal(0, 0.7, (STARTS, len(MIDDLE)))
    fits = [least_squares(residuals, np.clip(s, *bounds), bounds=bounds) for s in starts]
    best = min(fits, key=lambda fit: float(fit.cost))
    predicted: Array = law(best.x, k1, k2, sign, largest)[-1]
    return predicted
