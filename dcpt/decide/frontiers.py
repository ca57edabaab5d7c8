"""General and domain losses along the shares, for each learning rate, with the largest shares."""

from __future__ import annotations

import numpy as np

from dcpt.decide.intervals import interval_of, known_or_none, limits_of, possible_losses
from dcpt.decide.question import Question
from dcpt.decide.records import Frontier
from dcpt.decide.surface import Surface, round_down
from dcpt.decide.trade_off import largest_share

FRONTIER_STEP = 2
"""A frontier has every second share of the grid, 0.01 apart."""


def find_frontiers(
    question: Question, surface: Surface, rate: float, level: float
) -> list[Frontier]:
    """A frontier for each learning rate of the runs and for the recommended rate."""
    rows = {surface.row(seen) for seen in question.seen} | {surface.row(rate)}
    return [_frontier(question, surface, row, level) for row in sorted(rows)]


def _frontier(question: Question, surface: Surface, row: int, level: float) -> Frontier:
    """The frontier at a learning rate of the grid."""
    general, domain = surface.general_draws[:, row], surface.domain_draws[:, row]
    has_general = question.general is not None
    top, kept_top = (
        float(largest_share(surface.ratio, losses[row], question.allowed))
        for losses in (surface.general, surface.kept)
    )
    tops = np.nan_to_num(largest_share(surface.ratio, general, question.allowed), nan=0.0)
    general_low, general_high = limits_of(general[:, ::FRONTIER_STEP], level)
    domain_low, domain_high = limits_of(domain[:, ::FRONTIER_STEP], level)
    return Frontier(
        learning_rate=known_or_none(surface.rates[row]),
        ratio=surface.ratio[::FRONTIER_STEP].tolist(),
        general=possible_losses(surface.general[row, ::FRONTIER_STEP], has_general),
        general_low=possible_losses(general_low, has_general),
        general_high=possible_losses(general_high, has_general),
        domain=possible_losses(surface.domain[row, ::FRONTIER_STEP]),
        domain_low=possible_losses(domain_low),
        domain_high=possible_losses(domain_high),
        largest_ratio=interval_of(known_or_none(round_down(top)), tops, level),
        kept_ratio=known_or_none(round_down(kept_top)),
    )


def largest_shares_by_law(question: Question, surface: Surface, rate: float) -> dict[str, float]:
    """Largest share that each general law allows alone at the rate; 0 where it allows none."""
    if question.general is None or not question.limits:
        return {}
    rates = np.full(len(surface.ratio), rate)
    alone = question.by_law(question.general, surface.ratio, rates)
    return {
        law: float(np.nan_to_num(largest_share(surface.ratio, losses, question.allowed), nan=0.0))
        for law, losses in alone.items()
    }
