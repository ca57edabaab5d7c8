"""Pairs (share, learning rate) under limits on the general loss: recommended and measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

import dcpt
from dcpt.decide.axes import ratio_grid
from dcpt.decide.trade_off import best_share
from dcpt.laws import Fit
from dcpt.quantities import format_rate

Array = NDArray[np.float64]
Pair = tuple[float, float]

LIMITS = (1, 2, 3, 5)
"""Limits on the rise of the general loss, in % of the base's general loss."""


def base_of(runs: pd.DataFrame, size: int) -> dict[str, float]:
    """Return the known properties of the first base of a size, by column name."""
    first = runs[(runs["n_params"] == size) & (runs["n_tokens"] == 0)].iloc[0]
    kept = ("n_params", "base_peak_learning_rate", "base_n_tokens", "warmup_tokens", "batch_tokens")
    losses = {f"base_{name}": float(first[name]) for name in ("loss_general", "loss_domain")}
    return losses | {name: float(first[name]) for name in kept}


def target_of(
    base: Mapping[str, float], n_tokens: int, limit: str, rate: float | None = None
) -> dcpt.Target:
    """Describe a run of a base for ``dcpt.recommend``; base losses may be missing."""
    losses = {name: base.get(f"base_loss_{name}") for name in ("general", "domain")}
    return dcpt.Target(
        n_params=base["n_params"],
        n_tokens=n_tokens,
        limit=dcpt.Limit.parse(limit),
        base_losses={name: loss for name, loss in losses.items() if loss is not None},
        base_peak_learning_rate=base["base_peak_learning_rate"],
        base_n_tokens=base["base_n_tokens"],
        warmup_tokens=base["warmup_tokens"],
        learning_rate=rate,
    )


def recommended_pairs(
    fit: Fit, base: Mapping[str, float], n_tokens: int, rate: float | None = None
) -> list[Pair | None]:
    """Ask ``dcpt.recommend`` for the central pair under each limit, at a fixed rate or at any."""
    pairs: list[Pair | None] = []
    for limit in LIMITS:
        pair = dcpt.recommend(fit, target_of(base, n_tokens, f"+{limit}%", rate)).central
        pairs.append(None if pair is None else (pair.ratio, pair.learning_rate or np.nan))
    return pairs


def ends_of(runs: pd.DataFrame, size: int, phase: str) -> pd.DataFrame:
    """Return the last point of every run of a size, with the rise of the general loss."""
    of_size = runs[(runs["n_params"] == size) & runs["phase"].isin([phase, "base"])]
    base = of_size[of_size["n_tokens"] == 0].set_index("run")["loss_general"]
    last = of_size.sort_values("n_tokens").groupby("run").last()
    return last.assign(rise=last["loss_general"] - base).sort_values(["learning_rate", "ratio"])


class Measured:
    """Annealed losses measured at one size, interpolated between the trained shares and rates.

    Runs that differ in their seed alone are averaged.
    """

    def __init__(self, runs: pd.DataFrame, size: int) -> None:
        ends = ends_of(runs, size, "annealed")
        ends = ends[ends["ratio"] > 0]
        ends = ends.groupby(["learning_rate", "ratio"], as_index=False)[
            ["rise", "loss_domain"]
        ].mean()
        rates = ends.groupby("learning_rate").filter(lambda runs: len(runs) > 1)["learning_rate"]
        self.by_rate = {rate: ends[ends["learning_rate"] == rate] for rate in set(rates.tolist())}
        grid = ratio_grid()
        self.shares = {
            rate: grid[(grid >= ends["ratio"].min()) & (grid <= ends["ratio"].max())]
            for rate, ends in sorted(self.by_rate.items())
        }

    def at(self, what: str, rate: float, ratio: Array) -> Array:
        """Interpolate ``rise`` or ``loss_domain`` along the shares of a trained rate."""
        ends = self.by_rate[rate]
        return np.asarray(PchipInterpolator(ends["ratio"], ends[what])(ratio))

    def between(self, what: str, pair: Pair) -> float:
        """Interpolate at any pair inside the grid, by a monotone cubic in the log of the rate."""
        ratio, rate = pair
        rates = [r for r, shares in self.shares.items() if shares[0] <= ratio <= shares[-1] + 5e-3]
        values = [float(self.at(what, r, np.array([ratio]))[0]) for r in rates]
        if rate in rates:
            return values[rates.index(rate)]
        if len(rates) < 2 or not rates[0] <= rate <= rates[-1]:
            return np.nan
        return float(PchipInterpolator(np.log(rates), values)(np.log(rate)))

    def best(
        self, rises: Mapping[float, Array], domain: Mapping[float, Array], allowed: float
    ) -> Pair | None:
        """Choose the pair with the lowest domain loss among the trained shares and rates."""
        best, lowest = None, np.inf
        for rate, ratio in self.shares.items():
            share, loss = best_share(ratio, rises[rate], domain[rate], allowed)
            if float(loss) < lowest:
                best, lowest = (float(share), rate), float(loss)
        return best

    def frontier(self, allowed: float) -> Pair | None:
        """Choose the best measured pair whose general loss rises by ``allowed`` nats at most."""
        rises = {rate: self.at("rise", rate, ratio) for rate, ratio in self.shares.items()}
        domain = {rate: self.at("loss_domain", rate, r) for rate, r in self.shares.items()}
        return self.best(rises, domain, allowed)

    def frontiers(self, base_loss: float) -> list[Pair | None]:
        """Choose the best measured pair under each limit."""
        return [self.frontier(base_loss * limit / 100) for limit in LIMITS]


def excesses(measured: Measured, pairs: list[Pair | None], base_loss: float) -> list[float]:
    """By how much the measured general loss exceeds each limit, in % of the base's loss."""
    return [
        measured.between("rise", pair) / base_loss * 100 - limit
        for pair, limit in zip(pairs, LIMITS, strict=True)
        if pair is not None
    ]


def cells(measured: Measured, pairs: list[Pair | None], base_loss: float) -> list[str]:
    """Format the pairs of one row."""
    return [cell(measured, pair, base_loss) for pair in pairs]


def cell(measured: Measured, pair: Pair | None, base_loss: float) -> str:
    """Format a pair, its measured rise, and the domain loss that the best equal rise saves."""
    if pair is None:
        return "none"
    rise = measured.between("rise", pair)
    if np.isnan(rise):
        return f"{pair[0]:.2f} @ {format_rate(pair[1])} (not run)"
    best = measured.frontier(rise) or pair
    # Adding 0.0 to the rounded number avoids "-0.000".
    lost = round(measured.between("loss_domain", pair) - measured.between("loss_domain", best), 3)
    return f"{pair[0]:.2f} @ {format_rate(pair[1])} ({rise / base_loss:+.1%}, {lost + 0.0:+.3f})"
