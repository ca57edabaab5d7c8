"""The best pair of share and learning rate for a target, with its interval and its cost.

The pair has the lowest domain loss among those that keep the limit in the asked share of the
bootstrap draws. Beside it stands the central pair, which only the central predictions choose: it
keeps the limit with about even odds. Without a limit both are the pair with the lowest domain loss
among the shares up to the largest that was measured. Both come from the same surface: general and
domain losses over shares x learning rates at the target, in the phase that it ends in (annealed,
where the runs have such points). ``trade_off`` defines which shares are within a limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dcpt.decide.checks import depends_on_text
from dcpt.decide.equivalents import find_equivalent
from dcpt.decide.evidence import judge_evidence
from dcpt.decide.flags import add_answer_without, find_flags
from dcpt.decide.question import Array, Question, ask
from dcpt.decide.records import (
    HABITS,
    Choice,
    Frontier,
    Interval,
    Recommendation,
    Target,
)
from dcpt.decide.trade_off import best_share, largest_share
from dcpt.errors import InputError
from dcpt.flags import Flag, rank_flags
from dcpt.laws.fits.horizon import say_horizon
from dcpt.laws.fits.run_off import RUN_OFF
from dcpt.quantities import format_rate
from dcpt.table.study_rows import LARGEST_LOSS

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

LIMIT_TOLERANCE = 1e-4
"""Nats per token: error of interpolating between shares 0.005 apart at the crossing."""

SHARE_DECIMALS = 3
"""Shares are rounded down to this many decimals, so that training can realise them exactly. With a
single general channel a mixture of such shares repeats after 1,000 sequences, with weights of two
decimals after 100,000; training allows a million (``dcpt.text.mixture.LONGEST_PERIOD``)."""

Pair = tuple[float, float]
"""Share and learning rate (NaN where the runs have none)."""


@dataclass(frozen=True)
class Surface:
    """Predicted losses over learning rates and shares, nats per token.

    Args:
        ratio: Shares of domain text, shape (R,).
        rates: Learning rates, shape (L,).
        general: Central predictions of the general loss, shape (L, R); 0 if there is none.
        domain: Central predictions of the domain loss, shape (L, R).
        minimized: Central predictions of the mean loss that is minimized, shape (L, R).
        general_draws: Bootstrap draws of the general loss, shape (n_draws, L, R).
        domain_draws: Bootstrap draws of the domain loss, shape (n_draws, L, R).
        minimized_draws: Bootstrap draws of the mean loss that is minimized, same shape.
        kept: General loss that the asked share of the draws does not exceed, shape (L, R).
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


def recommend(fit: Fit, target: Target, level: float = 0.9) -> Recommendation:
    """Choose the share of domain text and the learning rate for a large run.

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
    question = ask(fit, target)
    surface = _surface(question)
    at_odds = best_share(surface.ratio, surface.kept, surface.minimized, question.allowed)
    at_center = best_share(surface.ratio, surface.general, surface.minimized, question.allowed)
    best, central = (best_pair(question, surface.rates, *found) for found in (at_odds, at_center))
    row = _row_of_habits(question, surface, best or central)
    rate = float(surface.rates[row])
    draw_shares, draw_losses = best_share(
        surface.ratio, surface.general_draws, surface.minimized_draws, question.allowed
    )
    named = _alternatives(question, surface, *at_odds)
    chosen = {"recommended": best, "central": central}
    labelled = [
        *((label, pair) for label, pair in chosen.items() if pair),
        *(("habit", (habit, rate)) for habit in HABITS),
        *named.items(),
    ]
    labels, pairs = zip(*labelled, strict=True)
    choices = describe_choices(question, pairs, labels, best, level)
    recommended = choices.pop(0) if best else None
    at_even_odds = choices.pop(0) if central else None
    recommendation = Recommendation(
        target=question.target,
        phase=question.phase,
        level=level,
        best=recommended,
        central=at_even_odds,
        ratio_interval=interval_of(
            _or_none(round_down(at_center[0][row])),
            np.nan_to_num(draw_shares[:, row], nan=0.0),
            level,
        ),
        learning_rate_interval=_rate_interval(
            question, surface, draw_losses, rate if best else None, level
        ),
        allowed_general_loss=question.allowed if question.limits else None,
        habits=choices[: len(HABITS)],
        frontiers=_frontiers(question, surface, rate, level),
        extrapolation=question.extrapolation(recommended.learning_rate if recommended else None),
        flags=[],
        laws={channel: question.weights(channel, rate) for channel in fit.channels},
        general_channel=question.general,
        limits=dict(question.limits),
        domain_channel=question.domain,
        runs_sha256=fit.table_sha256,
        fit_sha256=fit.sha256,
        alternatives=dict(zip(named, choices[len(HABITS) :], strict=True)),
        ratio_by_law=_ratio_by_law(question, surface, rate),
        horizon=_horizon(question),
    )
    flags = [*find_flags(question, recommendation), *_with_other_answer(fit, recommendation)]
    recommendation = replace(
        recommendation,
        flags=rank_flags(flags),
        twice_the_text=_with_twice_the_text(question, recommendation),
        equivalent=None if recommended is None else find_equivalent(question, recommended, level),
    )
    return replace(recommendation, evidence=judge_evidence(question, recommendation))


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
    surface = _surface(other)
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


def _choosable(question: Question, rates: Array) -> NDArray[np.bool_]:
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
    losses = np.where(_choosable(question, rates), losses, np.inf)
    row = int(losses.argmin())
    if not np.isfinite(losses[row]):
        return None
    return round_down(shares[row]), float(rates[row])


def _row_of_habits(question: Question, surface: Surface, pair: Pair | None) -> int:
    """The row of a pair's rate; without a pair, that of the lowest general loss."""
    if pair is not None:
        return surface.row(pair[1])
    lowest = surface.general.min(axis=1)
    return int(np.where(_choosable(question, surface.rates), lowest, np.inf).argmin())


def _surface(question: Question) -> Surface:
    ratio, rates = question.ratio, question.rates
    shape = (len(rates), len(ratio))
    pairs = np.tile(ratio, len(rates)), np.repeat(rates, len(ratio))
    general, domain = question.general, question.domain
    needed = dict.fromkeys([domain, *question.minimized, *([general] if general else [])])
    central = {name: question.central(name, *pairs).reshape(shape) for name in needed}
    draws = {name: question.draws(name, *pairs).reshape(-1, *shape) for name in needed}
    nothing, no_draws = np.zeros(shape), np.zeros_like(draws[domain])
    general_draws = draws.get(general or "", no_draws)
    confidence = question.target.confidence
    return Surface(
        ratio=ratio,
        rates=rates,
        general=central.get(general or "", nothing),
        domain=central[domain],
        minimized=question.objective(central),
        general_draws=general_draws,
        domain_draws=draws[domain],
        minimized_draws=question.objective(draws),
        kept=np.quantile(general_draws, confidence, axis=0, method="inverted_cdf"),
    )


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
            regret = _possible(minimized[i], minimized_draws[:, i], level, less, less_draws)
        choices.append(
            Choice(
                ratio=float(ratio[i]),
                learning_rate=_or_none(rate[i]),
                losses={c: _possible(central[c][i], draws[c][:, i], level) for c in channels},
                general_rise=_rise(question, central, draws, i, level),
                probability=_kept(question, draws, i),
                regret=regret,
                within_limit=_within(question, central, i),
                label=label,
                outside_runs=question.outside_shares(float(ratio[i])) > 0,
                beyond_laws=[c for c in channels if not _is_possible(central[c][i])],
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
    return _possible(central[general][i], draws[general][:, i], level, base, base)


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


def _possible(
    loss: float, draws: Array, level: float, less: float = 0.0, less_draws: Array | float = 0.0
) -> Interval:
    """A loss, or its difference to another; None where it is beyond what laws can predict.

    Args:
        loss: The central prediction, nats per token.
        draws: Its bootstrap draws, shape (n_draws,).
        level: Interval probability.
        less: What is subtracted from the central prediction.
        less_draws: What is subtracted from the draws.
    """
    low, high = limits_of(draws, level)
    ends = limits_of(draws - less_draws, level)
    return Interval(
        float(loss - less) if _is_possible(loss) else None,
        float(ends[0]) if _is_possible(low) else None,
        float(ends[1]) if _is_possible(high) else None,
    )


def _is_possible(loss: float) -> bool:
    """Whether a prediction is a loss that a model can have, nats per token."""
    return bool(np.isfinite(loss) and loss <= LARGEST_LOSS)


def _listed(losses: Array, is_known: bool = True) -> list[float | None]:
    """Losses for a record: None where they are not known or beyond what the laws can predict."""
    return [float(loss) if is_known and _is_possible(loss) else None for loss in losses]


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


def _frontiers(question: Question, surface: Surface, rate: float, level: float) -> list[Frontier]:
    """A frontier for each learning rate of the runs and for the recommended rate."""
    rows = sorted({surface.row(seen) for seen in question.seen} | {surface.row(rate)})
    frontiers = []
    for row in rows:
        general, domain = surface.general_draws[:, row], surface.domain_draws[:, row]
        has_general = question.general is not None
        top = float(largest_share(surface.ratio, surface.general[row], question.allowed))
        tops = np.nan_to_num(largest_share(surface.ratio, general, question.allowed), nan=0.0)
        kept_top = float(largest_share(surface.ratio, surface.kept[row], question.allowed))
        general_low, general_high = limits_of(general[:, ::2], level)
        domain_low, domain_high = limits_of(domain[:, ::2], level)
        frontiers.append(
            Frontier(
                learning_rate=_or_none(surface.rates[row]),
                ratio=surface.ratio[::2].tolist(),
                general=_listed(surface.general[row, ::2], has_general),
                general_low=_listed(general_low, has_general),
                general_high=_listed(general_high, has_general),
                domain=_listed(surface.domain[row, ::2]),
                domain_low=_listed(domain_low),
                domain_high=_listed(domain_high),
                largest_ratio=interval_of(None if np.isnan(top) else round_down(top), tops, level),
                kept_ratio=None if np.isnan(kept_top) else round_down(kept_top),
            )
        )
    return frontiers


def _ratio_by_law(question: Question, surface: Surface, rate: float) -> dict[str, float]:
    """Largest share that each general law allows alone at the rate; 0 where it allows none."""
    if question.general is None or not question.limits:
        return {}
    rates = np.full(len(surface.ratio), rate)
    alone = question.by_law(question.general, surface.ratio, rates)
    return {
        law: float(np.nan_to_num(largest_share(surface.ratio, losses, question.allowed), nan=0.0))
        for law, losses in alone.items()
    }


def _rate_interval(
    question: Question, surface: Surface, draw_losses: Array, chosen: float | None, level: float
) -> Interval | None:
    choosable = _choosable(question, surface.rates)
    rates, losses = surface.rates[choosable], draw_losses[:, choosable]
    if len(rates) < 2:
        return None
    has_choice = np.isfinite(losses).any(axis=1)
    if not has_choice.any():
        return Interval(chosen, None, None)
    return interval_of(chosen, rates[losses[has_choice].argmin(axis=1)], level)


def limits_of(draws: Array, level: float) -> Array:
    """Both ends of the interval of draws, shape (n_draws, ...); the result has shape (2, ...)."""
    limits: Array = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return limits


def interval_of(value: float | None, draws: Array, level: float) -> Interval:
    """A value with the interval of its bootstrap draws, shape (n_draws,)."""
    low, high = limits_of(draws, level)
    return Interval(None if value is None else float(value), float(low), float(high))


def round_down(share: float) -> float:
    """Round a share down to one that training can realise; rounding up could break the limit."""
    scale = 10**SHARE_DECIMALS
    return float(np.floor(share * scale + 1e-6) / scale)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
