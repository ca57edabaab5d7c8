"""The best pair of share and learning rate for a target, with its interval and its cost.

The pair has the lowest domain loss among those that keep the limit in the asked share of the
bootstrap draws. Beside it stands the central pair, which only the central predictions choose: it
keeps the limit with about even odds. Without a limit both are the pair with the lowest domain loss
among the shares up to the largest that was measured. Both come from the same surface: general and
domain losses over shares x learning rates at the target, in the phase that it ends in (annealed,
where the runs have such points). ``trade_off`` defines which shares are within a limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dcpt.decide.best_mix import find_best_mix
from dcpt.decide.checks import depends_on_text
from dcpt.decide.choices import describe_choices
from dcpt.decide.equivalents import find_equivalent
from dcpt.decide.evidence import judge_evidence
from dcpt.decide.flags import add_answer_without, find_flags
from dcpt.decide.frontiers import find_frontiers, largest_shares_by_law
from dcpt.decide.intervals import interval_of, known_or_none
from dcpt.decide.question import Array, Question, ask
from dcpt.decide.records import (
    HABITS,
    Choice,
    Interval,
    Recommendation,
    Target,
)
from dcpt.decide.surface import (
    Pair,
    Surface,
    best_pair,
    choosable_rates,
    predict_surface,
    round_down,
)
from dcpt.decide.trade_off import best_share
from dcpt.errors import InputError
from dcpt.flags import Flag, rank_flags
from dcpt.laws.fits.horizon import say_horizon
from dcpt.laws.fits.run_off import RUN_OFF
from dcpt.quantities import format_rate

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit


def recommend(fit: Fit, target: Target, level: float = 0.9) -> Recommendation:
    """Choose the share of domain text and the learning rate for a large run.

    Where the runs differ in the mix of the general text, laws read it and the target names none,
    the mix is chosen too: the answer has the share of every source.

    Args:
        fit: Fitted laws with their draws.
        target: The large run, its limit, and the losses of its base.
        level: Interval probability; 0.9 leaves out 5 % of the bootstrap draws at each end.

    Returns:
        The recommendation. Its ``best`` is None where no share meets the limit.

    Raises:
        InputError: If the target is impossible, lacks a loss that the laws need, or the fit has no
            domain channel or no single general channel.

    Examples:
        >>> recommendation = dcpt.recommend(fit, target)
        >>> round(recommendation.best.ratio, 1)
        0.6
        >>> recommendation.evidence.level
        'tentative'
    """
    if not 0 < level < 1:
        raise InputError(f"level {level:g} is not between 0 and 1: write 0.9 for 90 % intervals")
    found = find_best_mix(fit, target, level)
    question = ask(fit, target if found is None else replace(target, mix=found.mix))
    recommendation = _decide(question, level)
    best = recommendation.best
    if found is not None:
        shares = found.shares(question.domain, None if best is None else best.ratio)
        recommendation = replace(recommendation, ratio_interval=found.domain, shares=shares)
    flags = [*find_flags(question, recommendation), *_with_other_answer(fit, recommendation)]
    recommendation = replace(
        recommendation,
        flags=rank_flags(flags),
        twice_the_text=_with_twice_the_text(question, recommendation),
        equivalent=None if best is None else find_equivalent(question, best, level),
    )
    return replace(recommendation, evidence=judge_evidence(question, recommendation))


def _decide(question: Question, level: float) -> Recommendation:
    """The recommendation without its flags and its evidence, which judge it afterwards."""
    surface = predict_surface(question)
    at_odds = best_share(surface.ratio, surface.kept, surface.minimized, question.allowed)
    at_center = best_share(surface.ratio, surface.general, surface.minimized, question.allowed)
    best, central = (best_pair(question, surface.rates, *found) for found in (at_odds, at_center))
    row = _row_of_habits(question, surface, best or central)
    rate = float(surface.rates[row])
    others = _alternatives(question, surface, *at_odds)
    described = _describe(question, best, central, rate, others, level)
    recommended = described.best
    ratio_interval, rate_interval = _intervals_at(
        question, surface, row, at_center[0][row], best is not None, level
    )
    return Recommendation(
        target=question.target,
        phase=question.phase,
        level=level,
        best=recommended,
        central=described.central,
        ratio_interval=ratio_interval,
        learning_rate_interval=rate_interval,
        allowed_general_loss=question.allowed if question.limits else None,
        habits=described.habits,
        frontiers=find_frontiers(question, surface, rate, level),
        extrapolation=question.extrapolation(recommended.learning_rate if recommended else None),
        flags=[],
        laws={channel: question.weights(channel, rate) for channel in question.fit.channels},
        general_channel=question.general,
        limits=dict(question.limits),
        domain_channel=question.domain,
        runs_sha256=question.fit.table_sha256,
        fit_sha256=question.fit.sha256,
        alternatives=described.alternatives,
        ratio_by_law=largest_shares_by_law(question, surface, rate),
        horizon=_horizon(question),
    )


@dataclass(frozen=True)
class _Described:
    """The pairs of a recommendation with their predictions; their fields in the record."""

    best: Choice | None
    central: Choice | None
    habits: list[Choice]
    alternatives: dict[str, Choice]


def _describe(
    question: Question,
    best: Pair | None,
    central: Pair | None,
    rate: float,
    others: Mapping[str, Pair],
    level: float,
) -> _Described:
    """Predict all pairs of a recommendation at once; the common shares are at ``rate``."""
    labelled = [
        *((label, pair) for label, pair in (("recommended", best), ("central", central)) if pair),
        *(("habit", (habit, rate)) for habit in HABITS),
        *others.items(),
    ]
    labels, pairs = zip(*labelled, strict=True)
    choices = iter(describe_choices(question, pairs, labels, best, level))
    return _Described(
        best=next(choices) if best else None,
        central=next(choices) if central else None,
        habits=[next(choices) for _ in HABITS],
        alternatives=dict(zip(others, choices, strict=True)),
    )


def _intervals_at(
    question: Question, surface: Surface, row: int, share: float, has_best: bool, level: float
) -> tuple[Interval, Interval | None]:
    """Intervals of the best share at a rate of the grid, and of the best rate.

    Args:
        question: The target and its fit.
        surface: Its predictions.
        row: The index of the rate.
        share: The best share there by the central predictions; NaN where none is within the limit.
        has_best: Whether a pair keeps the limit at the asked odds.
        level: Interval probability.
    """
    shares, losses = best_share(
        surface.ratio, surface.general_draws, surface.minimized_draws, question.allowed
    )
    of_share = interval_of(
        known_or_none(round_down(share)), np.nan_to_num(shares[:, row], nan=0.0), level
    )
    rate = float(surface.rates[row]) if has_best else None
    return of_share, _rate_interval(question, surface, losses, rate, level)


def _with_other_answer(fit: Fit, recommendation: Recommendation) -> list[Flag]:
    """Flags of the fit; that of a run that is off says what the answer would be without it."""
    rest = fit.without_run()
    if rest is None:
        return list(fit.flags)
    try:
        other = recommend(rest, recommendation.target, recommendation.level)
    except InputError:
        other = None  # the laws that hold at the target need that run
    return [
        add_answer_without(flag, recommendation, other) if flag.kind == RUN_OFF else flag
        for flag in fit.flags
    ]


def _with_twice_the_text(question: Question, recommendation: Recommendation) -> Choice | None:
    """The answer if there were twice as much domain text, where a law depends on it."""
    target, best, domain = question.target, recommendation.best, question.domain
    unique = target.unique_tokens.get(domain)
    laws = [law for law, weight in recommendation.laws[domain].items() if weight > 0]
    if best is None or unique is None or not depends_on_text(question.fit, domain, laws):
        return None
    if best.ratio * target.n_tokens <= unique:
        return None
    more = {**target.unique_tokens, domain: 2 * unique}
    other = ask(question.fit, replace(target, unique_tokens=more))
    surface = predict_surface(other)
    found = best_share(surface.ratio, surface.kept, surface.minimized, other.allowed)
    pair = best_pair(other, surface.rates, *found)
    if pair is None:
        return None
    level = recommendation.level
    choice = describe_choices(other, [pair], ["twice the domain text"], None, level)[0]
    there, here = choice.losses[domain].value, best.losses[domain].value
    gain = None if there is None or here is None else there - here
    return replace(choice, regret=Interval(gain, None, None))


def _horizon(question: Question) -> list[str]:
    """What rolling-origin tests say about the target, for the channels that decide."""
    target = question.target
    measured = question.fit.horizons(question.phase)
    there = {name: measured[name] for name in question.decisive if name in measured}
    size = 1.0 if question.fit.size_column is None else target.n_params
    return say_horizon(there, size * target.n_tokens)


def _row_of_habits(question: Question, surface: Surface, pair: Pair | None) -> int:
    """The row of a pair's rate; without a pair, that of the lowest general loss."""
    if pair is not None:
        return surface.row(pair[1])
    lowest = surface.general.min(axis=1)
    return int(np.where(choosable_rates(question, surface.rates), lowest, np.inf).argmin())


def _alternatives(
    question: Question, surface: Surface, shares: Array, losses: Array
) -> dict[str, Pair]:
    """Other pairs at the same odds: each rate of the runs fixed, a free rate if one is fixed."""
    named: dict[str, Pair] = {}
    if not np.isnan(surface.rates).all():
        for rate in question.seen:
            row = surface.row(rate)
            if np.isfinite(losses[row]):
                named[f"learning rate {format_rate(rate)} held"] = (
                    round_down(shares[row]),
                    float(rate),
                )
    if question.target.learning_rate is not None and len(question.seen) > 1:
        # A fixed rate outside those of the runs is not among the free choices.
        free = (surface.rates >= question.seen[0]) & (surface.rates <= question.seen[-1])
        row = int(np.where(free, losses, np.inf).argmin())
        if free[row] and np.isfinite(losses[row]):
            named["learning rate chosen"] = (round_down(shares[row]), float(surface.rates[row]))
    return named


def _rate_interval(
    question: Question, surface: Surface, draw_losses: Array, chosen: float | None, level: float
) -> Interval | None:
    choosable = choosable_rates(question, surface.rates)
    rates, losses = surface.rates[choosable], draw_losses[:, choosable]
    if len(rates) < 2:
        return None
    has_choice = np.isfinite(losses).any(axis=1)
    if not has_choice.any():
        return Interval(chosen, None, None)
    return interval_of(chosen, rates[losses[has_choice].argmin(axis=1)], level)
