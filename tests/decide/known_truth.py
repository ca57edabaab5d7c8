"""A fit whose truth is known: the right share, learning rate and intervals follow by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd

from dcpt.flags import Flag
from dcpt.laws.fits.horizon import Horizon
from dcpt.laws.fits.stack import Comparison
from dcpt.laws.points.questions import ask_points
from dcpt.laws.points.record import Points
from dcpt.table.schedules import Schedule

BASE_GENERAL = 2.8
COST, GAIN_RATE, GAIN_SHARE = 0.06, 0.3, 0.6
LARGE_RATE = 1e-3


@dataclass
class KnownFit:
    """rise = cost lam r / (1 - r) + rewarm lam; domain = 4 - .3 ln lam - .6 ln r; lam = LR / 1e-3.

    That is at 44M tokens; the cost grows with their square root. With rewarm = 0 and a limit of m
    nats: at a given rate r = q / (1 + q) with q = m / (cost lam); over all pairs the domain loss is
    lowest at r = 1 - .3 / .6 and lam = m (1 - r) / (cost r).
    A draw is a cost of its own.
    """

    costs: np.ndarray
    rewarm: float = 0.0
    rates: tuple[float, ...] = (1e-4, 3e-4, 9e-4, 2e-3, 4e-3)
    sizes: tuple[float, ...] = (2e6, 8e6)
    shares: tuple[float, ...] = (0.1, 0.5, 0.97)
    n_runs: int = 30
    law_flags: tuple[Flag, ...] = ()
    annealed: bool = True
    unseen_text: float = 0.0
    general_channels: tuple[str, ...] = ("general",)
    domain_channel: str | None = "domain"
    need: frozenset[str] = frozenset({"ratio", "base_loss_general", "learning_rate"})
    warmup_tokens: float | None = 4e5
    laws_apart: float = 0.0
    flags: tuple[Flag, ...] = field(default=())
    table_sha256: str = "0" * 64
    sha256: str = "1" * 64
    general_weights: dict[str, float] = field(default_factory=dict)
    general_mix: dict[str, tuple[float, float]] = field(default_factory=dict)
    bases: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    size_column: str = "n_params"
    batch_tokens: float | None = None
    schedules: dict[str, Schedule] = field(default_factory=dict)
    tested: dict[str, Horizon] = field(default_factory=dict)
    only_rates: tuple[tuple[float, float, str], ...] = ()
    rest: KnownFit | None = None

    def without_run(self) -> KnownFit | None:
        return self.rest

    @property
    def channels(self) -> tuple[str, ...]:
        return (*self.general_channels, *([self.domain_channel] if self.domain_channel else []))

    @property
    def general_channel(self) -> str | None:
        names = self.general_channels
        if "general_total" in names:
            return "general_total"
        return names[0] if len(names) == 1 else None

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        ranges = {
            "n_params": (min(self.sizes), max(self.sizes)),
            "n_tokens": (1e6, 44e6),
            "ratio": (self.shares[0], self.shares[-1]),
        }
        if self.rates:
            ranges["learning_rate"] = (min(self.rates), max(self.rates))
        return ranges

    @property
    def phase_for_decisions(self) -> str:
        return "annealed" if self.annealed else "constant"

    def horizons(self, phase: str) -> dict[str, Horizon]:
        return self.tested

    def points(self, channel: str, frame: pd.DataFrame, shape: Schedule | None = None) -> Points:
        side = "domain" if channel == self.domain_channel else "general"
        defaults = {"warmup_tokens": self.warmup_tokens}
        return ask_points(
            frame,
            channel,
            side,
            self.general_channel,
            defaults,
            self.phase_for_decisions,
            shape=shape,
        )

    def weights(self, channel: str, phase: str | None = None) -> dict[str, float]:
        return {"known": 0.5, "other": 0.5, "unused": 0.0}

    def weights_at(self, channel: str, points: Points) -> dict[str, float]:
        return self.weights(channel)

    def ranges_in(self, phase: str) -> dict[str, tuple[float, float]]:
        return self.ranges

    @property
    def by_channel(self) -> dict[str, SimpleNamespace]:
        return {channel: self._channel(channel) for channel in self.channels}

    def _channel(self, channel: str) -> SimpleNamespace:
        def law(apart: float, needs: frozenset[str]) -> SimpleNamespace:
            return SimpleNamespace(
                law=SimpleNamespace(needs=tuple(needs)),
                predict=lambda points: self.central(channel, points) + apart,
                refuse=lambda points: None,
                flags=self.law_flags,
                n_fitted=6,
            )

        members = {
            "known": law(0.0, self.need),
            "other": law(self.laws_apart, self.need),
            "unused": law(9.0, frozenset({"base_n_tokens"})),
        }
        errors = {"known": {"ratios": 0.01}, "other": {"ratios": 0.019}, "unused": {"ratios": 0.03}}
        comparison = Comparison(errors, self.weights(channel), "known", {})
        axes = {"n_params": self.sizes, "ratio": self.shares}
        runs = [str(i) for i in range(self.n_runs)]
        phases = ("annealed", "constant")
        return SimpleNamespace(
            members=members,
            two_level=None,
            comparisons=dict.fromkeys(phases, comparison),
            seen=SimpleNamespace(values=dict.fromkeys(phases, axes)),
            residuals={
                "run": runs * 2,
                "phase": [phase for phase in phases for _ in runs],
            },
        )

    @property
    def seen_rates(self) -> tuple[tuple[float, float, str], ...]:
        """Every size saw every rate, in both phases."""
        phases = ("constant", "annealed") if self.annealed else ("constant",)
        return self.only_rates or tuple(product(self.sizes, self.rates, phases))

    def _losses(self, channel: str, points: Points, cost: np.ndarray) -> np.ndarray:
        lam = 1.0 if points.learning_rate is None else points.learning_rate / LARGE_RATE
        ratio = points.ratio
        if channel == self.domain_channel:
            assert np.array_equal(points.share, ratio)
            domain = 4 - GAIN_RATE * np.log(lam) - GAIN_SHARE * np.log(ratio)
            return domain + 0 * cost
        assert np.allclose(points.share, 1 - ratio)
        assert (points.annealed == float(self.annealed)).all()
        seen_too_often = self.unseen_text * np.maximum(0.1 - ratio, 0)
        cost = cost * np.sqrt(points.n_tokens / 44e6)
        rise = cost * lam * ratio / (1 - ratio) + self.rewarm * lam + seen_too_often
        return points.base_loss_general + rise

    def central(self, channel: str, points: Points) -> np.ndarray:
        return self._losses(channel, points, np.array([[COST]]))[0]

    def sample(self, channel: str, points: Points) -> np.ndarray:
        return self._losses(channel, points, self.costs[:, None])


def spread_costs(n: int = 200) -> np.ndarray:
    """Costs evenly spread in probability, from .6 to 1.6 times the central one."""
    return COST * np.exp(np.linspace(np.log(0.6), np.log(1.6), n))
