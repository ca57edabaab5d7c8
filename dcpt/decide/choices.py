"""What pairs of share and learning rate give at the target: losses, rise, odds, regret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dcpt.decide.intervals import is_possible, known_or_none, possible_interval
from dcpt.decide.question import Array, Question
from dcpt.decide.records import Choice, Interval
from dcpt.decide.surface import Pair

LIMIT_TOLERANCE = 1e-4
"""Nats per token: error of interpolating between shares 0.005 apart at the crossing."""


def describe_choices(
    question: Question,
    pairs: Sequence[Pair],
    labels: Sequence[str],
    reference: Pair | None,
    level: float,
) -> list[Choice]:
    """Predict what pairs of share and learning rate give at the target.

    Args:
        question: The target and its fit.
        pairs: Shares and learning rates.
        labels: A label for each pair.
        reference: The pair that regret is measured from; None leaves regret unknown.
        level: Interval probability.
    """
    asked = [*pairs, *([reference] if reference else [])]
    ratio = np.array([pair[0] for pair in asked], dtype=np.float64)
    rate = np.array([pair[1] for pair in asked], dtype=np.float64)
    channels = question.channels
    central = {channel: question.central(channel, ratio, rate) for channel in channels}
    draws = {channel: question.draws(channel, ratio, rate) for channel in channels}
    minimized, minimized_draws = question.objective(central), question.objective(draws)
    choices = []
    for i, label in enumerate(labels):
        regret = Interval(None, None, None)
        if reference:
            less, less_draws = float(minimized[-1]), minimized_draws[:, -1]
            regret = possible_interval(minimized[i], minimized_draws[:, i], level, less, less_draws)
        choices.append(
            Choice(
                ratio=float(ratio[i]),
                learning_rate=known_or_none(rate[i]),
                losses={
                    c: possible_interval(central[c][i], draws[c][:, i], level) for c in channels
                },
                general_rise=_rise(question, central, draws, i, level),
                probability=_kept(question, draws, i),
                regret=regret,
                within_limit=_within(question, central, i),
                label=label,
                outside_runs=question.outside_shares(float(ratio[i])) > 0,
                beyond_laws=[c for c in channels if not is_possible(central[c][i])],
            )
        )
    return choices


def _rise(
    question: Question,
    central: Mapping[str, Array],
    draws: Mapping[str, Array],
    i: int,
    level: float,
) -> Interval:
    """The general loss at pair i minus the base's own; unknown where one of them is."""
    general, base = question.general, question.base_loss
    if general is None or np.isnan(base):
        return Interval(None, None, None)
    return possible_interval(central[general][i], draws[general][:, i], level, base, base)


def _kept(question: Question, draws: Mapping[str, Array], i: int) -> float | None:
    """Share of the draws in which pair i keeps the limit; None without one."""
    if question.general is None or not question.limits:
        return None
    return float((draws[question.general][:, i] <= question.allowed).mean())


def _within(question: Question, central: Mapping[str, Array], i: int) -> bool | None:
    """Whether the central prediction at pair i is within the limit; None without one."""
    if question.general is None or not question.limits:
        return None
    return bool(central[question.general][i] <= question.allowed + LIMIT_TOLERANCE)
