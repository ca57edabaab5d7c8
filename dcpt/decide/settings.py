"""Answers around a target: what else a decision would say, for the sliders of the page.

A setting is a size, a number of tokens, an amount of domain text, a limit and the odds that it is
kept at. Every answer is computed with the rule of ``recommend`` at its own setting. Nothing is
interpolated between settings: the errors of the laws bend at each share, rate and size of the runs,
and the best learning rate jumps from value to value, so an interpolated answer can be far off.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dcpt.decide.choices import describe_choices
from dcpt.decide.evidence import Facts, facts_of_answer, find_facts, judge
from dcpt.decide.flags.laws import flag_bases
from dcpt.decide.intervals import interval_of, limits_of
from dcpt.decide.question import Question, ask
from dcpt.decide.records import Choice, Evidence, Interval, Recommendation, Target
from dcpt.decide.stops import Stops, base_losses_at, find_stops
from dcpt.decide.surface import Pair, best_pair
from dcpt.decide.trade_off import best_share
from dcpt.errors import InputError

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

Array = NDArray[np.float64]

CURVE_STEP = 4
"""A curve has every fourth share of the grid, 0.02 apart."""


@dataclass(frozen=True)
class Answer:
    """The answer at a setting.

    Args:
        choice: The best pair with its predicted losses; None if no share keeps the limit.
        interval: The interval of the best share at that rate.
        probability: Share of the draws in which the pair keeps the limit; None without a pair or
            a limit.
        evidence: How strong the evidence is.
    """

    choice: Choice | None
    interval: Interval
    probability: float | None
    evidence: Evidence


@dataclass(frozen=True)
class Curves:
    """Losses over the shares at a learning rate, nats per token.

    Args:
        learning_rate: The rate; None where the runs have none.
        ratio: Shares, shape (R,).
        general: Central predictions and both ends of their interval, shape (3, R).
        domain: The same of the domain loss, shape (3, R).
    """

    learning_rate: float | None
    ratio: Array
    general: Array
    domain: Array


@dataclass(frozen=True)
class Cell:
    """The answers at a size, a number of tokens and an amount of text.

    Args:
        target: The target there, with its own limit and odds.
        base_loss: The base's loss of the general channel at that size, nats per token; NaN where it
            is not known.
        allowed: Largest allowed loss of it for each limit, nats per token; infinite without one.
        answers: By limit and confidence; empty if the target is refused.
        curves: At each learning rate that an answer chooses.
        refusal: Why no answer is possible; empty if one is.
    """

    target: Target
    base_loss: float
    allowed: tuple[float, ...] = ()
    answers: tuple[tuple[Answer, ...], ...] = ()
    curves: tuple[Curves, ...] = ()
    refusal: str = ""


@dataclass(frozen=True)
class Settings:
    """The answers at all settings.

    Args:
        target: The target whose settings they surround.
        stops: The values of each setting.
        cells: In the order of size, tokens, text; text changes first.
        general_channel: Channel that the limit is on; None if there is no general channel.
        domain_channel: Channel whose loss is minimized.
        level: Interval probability.
    """

    target: Target
    stops: Stops
    cells: tuple[Cell, ...]
    general_channel: str | None
    domain_channel: str
    level: float


def answer_settings(fit: Fit, recommendation: Recommendation) -> Settings:
    """Answer all settings around the target of a recommendation.

    Args:
        fit: The fit that the recommendation was made from.
        recommendation: The recommendation.
    """
    target = recommendation.target
    stops = find_stops(fit, recommendation)
    cells = [
        _with_the_answer(_answer_cell(fit, recommendation, asked, stops), recommendation, stops)
        for asked in _targets(fit, target, stops, recommendation.domain_channel)
    ]
    return Settings(
        target=target,
        stops=stops,
        cells=tuple(cells),
        general_channel=recommendation.general_channel,
        domain_channel=recommendation.domain_channel,
        level=recommendation.level,
    )


def _targets(fit: Fit, target: Target, stops: Stops, domain: str) -> Iterator[Target]:
    """The target at each size, number of tokens and amount of text."""
    for size, tokens, text in itertools.product(
        stops.n_params, stops.n_tokens, stops.unique_tokens
    ):
        texts = {} if text is None else {domain: text}
        yield replace(
            target,
            n_params=size,
            n_tokens=tokens,
            base_losses=base_losses_at(fit, target, size),
            unique_tokens={**target.unique_tokens, **texts},
        )


@dataclass(frozen=True)
class _Surfaces:
    """What the answers of a cell are found on: R shares, L rates, Q confidences."""

    ratio: Array
    general: Array
    domain: Array
    minimized: Array
    general_draws: Array
    kept: Array


@dataclass(frozen=True)
class _DrawsAtRate:
    """Bootstrap draws of the domain loss and of the loss that is minimized, (n_draws, R) each."""

    domain: Array
    minimized: Array


def _answer_cell(fit: Fit, recommendation: Recommendation, target: Target, stops: Stops) -> Cell:
    try:
        asked = [ask(fit, replace(target, limit=limit)) for limit in stops.limits]
        question = asked[0]
        surfaces = _find_surfaces(question, stops.confidences)
    except InputError as error:
        return Cell(target, np.nan, refusal=str(error))
    facts = find_facts(question, [*fit.flags, *flag_bases(question)])
    level = recommendation.level
    found = [_find_pairs(at_limit, surfaces) for at_limit in asked]
    rows = sorted({_row(question, pair) for pairs in found for pair in pairs if pair})
    draws = _draws_at_rates(question, surfaces.ratio, rows)
    choices = _describe_pairs(question, [pair for pairs in found for pair in pairs], level)
    answers = [
        _answer_limit(at_limit, pairs, surfaces, draws, choices, facts, level)
        for at_limit, pairs in zip(asked, found, strict=True)
    ]
    curves = [_find_curves(question, surfaces, row, draws[row].domain, level) for row in rows]
    allowed = tuple(at_limit.allowed for at_limit in asked)
    there = replace(question.target, limit=target.limit)
    return Cell(there, question.base_loss, allowed, tuple(answers), tuple(curves))


def _with_the_answer(cell: Cell, recommendation: Recommendation, stops: Stops) -> Cell:
    """The cell with the recommendation itself at the target's own setting.

    Draws of the two-level model at the same pair differ by up to 5e-4 nats with the pairs asked for
    beside it, so the chance of staying within the limit can differ by one draw.
    """
    target, best = recommendation.target, recommendation.best
    own = (target.n_params, target.n_tokens, target.unique_tokens)
    here = (cell.target.n_params, cell.target.n_tokens, cell.target.unique_tokens)
    if cell.refusal or here != own:
        return cell
    answers = [list(row) for row in cell.answers]
    answers[stops.limits.index(target.limit)][stops.confidences.index(target.confidence)] = Answer(
        best,
        recommendation.ratio_interval if best else Interval(None, None, None),
        best.probability if best else None,
        recommendation.evidence,
    )
    return replace(cell, answers=tuple(map(tuple, answers)))


def _find_surfaces(question: Question, confidences: Sequence[float]) -> _Surfaces:
    ratio, rates, general = question.ratio, question.rates, question.general
    shape = (len(rates), len(ratio))
    pairs = np.tile(ratio, len(rates)), np.repeat(rates, len(ratio))
    needed = dict.fromkeys([question.domain, *question.minimized, *([general] if general else [])])
    central = {name: question.central(name, *pairs).reshape(shape) for name in needed}
    draws = np.zeros((question.fit.n_draws, *shape))
    if general is not None:
        draws = question.draws(general, *pairs).reshape(-1, *shape)
    return _Surfaces(
        ratio=ratio,
        general=central.get(general or "", np.zeros(shape)),
        domain=central[question.domain],
        minimized=question.objective(central),
        general_draws=draws,
        kept=np.quantile(draws, confidences, axis=0, method="inverted_cdf"),
    )


def _find_pairs(question: Question, surfaces: _Surfaces) -> list[Pair | None]:
    """The best pair at each confidence."""
    minimized = np.broadcast_to(surfaces.minimized, surfaces.kept.shape)
    found = best_share(surfaces.ratio, surfaces.kept, minimized, question.allowed)
    return [
        best_pair(question, question.rates, shares, losses)
        for shares, losses in zip(*found, strict=True)
    ]


def _row(question: Question, pair: Pair) -> int:
    """Index of a pair's learning rate."""
    return 0 if np.isnan(pair[1]) else int(np.abs(question.rates - pair[1]).argmin())


def _draws_at_rates(
    question: Question, ratio: Array, rows: Sequence[int]
) -> dict[int, _DrawsAtRate]:
    """Draws at learning rates, by row of the rate."""
    if not rows:
        return {}
    pairs = np.tile(ratio, len(rows)), np.repeat(question.rates[list(rows)], len(ratio))
    shape = (-1, len(rows), len(ratio))
    needed = dict.fromkeys([question.domain, *question.minimized])
    draws = {name: question.draws(name, *pairs).reshape(shape) for name in needed}
    domain, minimized = draws[question.domain], question.objective(draws)
    return {row: _DrawsAtRate(domain[:, i], minimized[:, i]) for i, row in enumerate(rows)}


def _describe_pairs(
    question: Question, pairs: Sequence[Pair | None], level: float
) -> dict[Pair, tuple[Choice, Array]]:
    """What pairs give, and the draws of the general loss there, shape (n_draws,)."""
    distinct = list(dict.fromkeys(pair for pair in pairs if pair))
    if not distinct:
        return {}
    ratio, rate = np.array(distinct).T
    draws = np.zeros((question.fit.n_draws, len(distinct)))
    if question.general is not None:
        draws = question.draws(question.general, ratio, rate)
    choices = describe_choices(question, distinct, [""] * len(distinct), None, level)
    return {p: (c, draws[:, i]) for i, (p, c) in enumerate(zip(distinct, choices, strict=True))}


def _answer_limit(
    question: Question,
    pairs: Sequence[Pair | None],
    surfaces: _Surfaces,
    draws_at_rates: Mapping[int, _DrawsAtRate],
    choices: Mapping[Pair, tuple[Choice, Array]],
    facts: Facts,
    level: float,
) -> tuple[Answer, ...]:
    """The answers at a limit, for each confidence."""
    intervals = {
        row: _find_interval(question, surfaces, row, draws_at_rates[row].minimized, level)
        for row in {_row(question, pair) for pair in pairs if pair}
    }
    nothing = Interval(None, None, None)
    answers = []
    for pair in pairs:
        if pair is None:
            known = facts_of_answer(facts, question, None, nothing)
            answers.append(Answer(None, nothing, None, judge(known)))
            continue
        choice, draws = choices[pair]
        interval = intervals[_row(question, pair)]
        known = facts_of_answer(facts, question, choice.pair, interval)
        odds = float((draws <= question.allowed).mean()) if question.limits else None
        answers.append(Answer(choice, interval, odds, judge(known)))
    return tuple(answers)


def _find_interval(
    question: Question, surfaces: _Surfaces, row: int, minimized_draws: Array, level: float
) -> Interval:
    """The interval of the best share at a rate, optimized again in each draw."""
    ratio, allowed = surfaces.ratio, question.allowed
    shares, _ = best_share(ratio, surfaces.general_draws[:, row], minimized_draws, allowed)
    return interval_of(None, np.nan_to_num(shares, nan=0.0), level)


def _find_curves(
    question: Question, surfaces: _Surfaces, row: int, domain_draws: Array, level: float
) -> Curves:
    general = surfaces.general_draws[:, row, ::CURVE_STEP]
    rate = float(question.rates[row])
    return Curves(
        None if np.isnan(rate) else rate,
        surfaces.ratio[::CURVE_STEP],
        np.stack([surfaces.general[row, ::CURVE_STEP], *limits_of(general, level)]),
        np.stack(
            [
                surfaces.domain[row, ::CURVE_STEP],
                *limits_of(domain_draws[:, ::CURVE_STEP], level),
            ]
        ),
    )
