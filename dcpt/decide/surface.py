"""Predicted losses over shares and learning rates at a target, and the best pair on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.decide.general_mix import mix_columns
from dcpt.decide.question import Array, Question

SHARE_DECIMALS = 3
"""Shares are rounded down to this many decimals, so that training can realise them exactly. With a
single general channel a mixture of such shares repeats after 1,000 sequences, with weights of two
decimals after 100,000; training allows a million (``dcpt.text.mixture.LONGEST_PERIOD``)."""

Pair = tuple[float, float]
"""Share and learning rate (NaN where the runs have none)."""


@dataclass(frozen=True)
class Surface:
    """Predicted losses over learning rates and shares, nats per token.

    Losses have shape (L, R), or (M, L, R) over M mixes of the general text.

    Args:
        ratio: Shares of domain text, shape (R,).
        rates: Learning rates, shape (L,).
        general: Central predictions of the general loss; 0 if there is none.
        domain: Central predictions of the domain loss.
        minimized: Central predictions of the mean loss that is minimized.
        general_draws: Bootstrap draws of the general loss, shape (n_draws, ..., L, R).
        domain_draws: Bootstrap draws of the domain loss, same shape.
        minimized_draws: Bootstrap draws of the mean loss that is minimized, same shape.
        kept: General loss that the asked share of the draws does not exceed.
    """

    ratio: Array
    rates: Array
    general: Array
    domain: Array
    minimized: Array
    general_draws: Array
    domain_draws: Array
    minimized_draws: Array
    kept: Array

    def row(self, rate: float) -> int:
        """Index of a learning rate of the grid."""
        return 0 if np.isnan(rate) else int(np.abs(self.rates - rate).argmin())


def predict_surface(question: Question) -> Surface:
    """Predict the target at every pair of the question's shares and rates."""
    ratio, rates = question.ratio, question.rates
    frame = question.frame(np.tile(ratio, len(rates)), np.repeat(rates, len(ratio)))
    return _predict(question, frame, (len(rates), len(ratio)))


def predict_mixes(question: Question, mixes: Mapping[str, Array]) -> Surface:
    """Predict the target at every pair of the question's shares and rates in several mixes.

    Args:
        question: The target and its fit.
        mixes: The part of each channel in the general text of M mixes, shape (M,) each.
    """
    ratio, rates = question.ratio, question.rates
    n_mixes, n_pairs = len(next(iter(mixes.values()))), len(rates) * len(ratio)
    shares = np.tile(ratio, n_mixes * len(rates))
    frame = question.frame(shares, np.tile(np.repeat(rates, len(ratio)), n_mixes))
    parts = {name: np.repeat(part, n_pairs) for name, part in mixes.items()}
    frame = frame.assign(**mix_columns(parts, shares))
    return _predict(question, frame, (n_mixes, len(rates), len(ratio)))


def _predict(question: Question, frame: pd.DataFrame, shape: tuple[int, ...]) -> Surface:
    """The predictions at the rows of a frame, as a surface of a shape."""
    general, domain = question.general, question.domain
    needed = dict.fromkeys([domain, *question.minimized, *([general] if general else [])])
    central = {name: question.central_at(name, frame).reshape(shape) for name in needed}
    draws = {name: question.draws_at(name, frame).reshape(-1, *shape) for name in needed}
    nothing, no_draws = np.zeros(shape), np.zeros_like(draws[domain])
    general_draws = draws.get(general or "", no_draws)
    confidence = question.target.confidence
    return Surface(
        ratio=question.ratio,
        rates=question.rates,
        general=central.get(general or "", nothing),
        domain=central[domain],
        minimized=question.objective(central),
        general_draws=general_draws,
        domain_draws=draws[domain],
        minimized_draws=question.objective(draws),
        kept=np.quantile(general_draws, confidence, axis=0, method="inverted_cdf"),
    )


def choosable_rates(question: Question, rates: Array) -> NDArray[np.bool_]:
    """Which learning rates of the grid the decision may choose, shape (L,)."""
    return np.isin(rates, question.choosable) | np.isnan(rates)


def best_pair(question: Question, rates: Array, shares: Array, losses: Array) -> Pair | None:
    """The pair with the lowest minimized loss within the limit; None if no share meets it.

    Args:
        question: The target and its fit.
        rates: Learning rates, shape (L,); a NaN alone if the runs have none.
        shares: The best share at each rate, as ``best_share`` gives it, shape (L,).
        losses: Minimized losses there, shape (L,).
    """
    losses = np.where(choosable_rates(question, rates), losses, np.inf)
    row = int(losses.argmin())
    if not np.isfinite(losses[row]):
        return None
    return round_down(shares[row]), float(rates[row])


def round_down(share: float) -> float:
    """Round a share down to one that training can realise; rounding up could break the limit."""
    scale = 10**SHARE_DECIMALS
    return float(np.floor(share * scale + 1e-6) / scale)
