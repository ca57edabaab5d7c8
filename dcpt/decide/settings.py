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

from dcpt.decide.checks import depends_on_text
from dcpt.decide.evidence import Facts, facts_of_answer, find_facts, judge
from dcpt.decide.flags.laws import flag_bases
from dcpt.decide.question import Question, ask
from dcpt.decide.recommend import (
    Pair,
    best_pair,
    describe_choices,
    interval_of,
    limits_of,
)
from dcpt.decide.records import Choice, Evidence, Interval, Recommendation, Target
from dcpt.decide.trade_off import best_share
from dcpt.decide.worst_channel import GENERAL_WORST
from dcpt.errors import InputError
from dcpt.limit import Limit
from dcpt.table.channels import GENERAL_TOTAL

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

Array = NDArray[np.float64]

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Sizes and tokens, as multiples of the target's. The answers at a size and a number of tokens take
0.5 s on a core, so 25 of them take 12 s."""

TEXT_FACTORS = (0.5, 1.0, 2.0)
"""Amounts of domain text, as multiples of the target's."""

LIMITS: Mapping[str, tuple[float, ...]] = {
    "percent": (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0),
    "nats": (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2),
}
"""Limits on the general loss, by unit."""

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Odds that a limit is kept at."""

SAME_SIZE = 0.05
"""Sizes this near, relatively, are one size: a slope between them would be noise."""

CURVE_STEP = 4
"""A curve has every fourth share of the grid, 0.02 apart."""


@dataclass(frozen=True)
class Stops:
    """The values of each setting, ascending; the target's own is among them.

    Args:
        n_params: Sizes.
        n_tokens: Tokens of the run.
        unique_tokens: Unique tokens of domain text; a None alone if no law depends on them.
        limits: Limits on the general loss; the target's own alone (None without one) if it has none
            or has limits on several channels.
        confidences: Odds that the limit is kept at; the target's own alone without a limit.
    """

    n_params: tuple[float, ...]
    n_tokens: tuple[float, ...]
    unique_tokens: tuple[float | None, ...]
    limits: tuple[Limit | None, ...]
    confidences: tuple[float, ...]


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


def find_stops(fit: Fit, recommendation: Recommendation) -> Stops:
    """The settings around a target.

    The size is a setting where the runs have sizes and the base's losses are known at two or more.
    """
    target, domain = recommendation.target, recommendation.domain_channel
    own = target.confidence
    laws = [law for law, weight in recommendation.laws[domain].items() if weight > 0]
    text = target.unique_tokens.get(domain) if depends_on_text(fit, domain, laws) else None
    losses = _named_losses(fit, target)
    known = min((len(_known_losses(fit, target, name)) for name in losses), default=0)
    by_size = fit.size_column is not None and known > 1
    return Stops(
        n_params=_around(target.n_params, FACTORS) if by_size else (target.n_params,),
        n_tokens=_around(target.n_tokens, FACTORS),
        unique_tokens=(None,) if text is None else _around(text, TEXT_FACTORS),
        limits=_limits(recommendation),
        confidences=tuple(sorted({*(CONFIDENCES if recommendation.limits else ()), own})),
    )


def _limits(recommendation: Recommendation) -> tuple[Limit | None, ...]:
    """Limits on the general loss; with limits on several channels there are no others."""
    limit = recommendation.target.limit
    if limit is None or len(recommendation.limits) > 1:
        return (limit,)
    amounts = {*LIMITS[limit.unit], limit.amount}
    return tuple(replace(limit, amount=amount) for amount in sorted(amounts))


def _around(value: float, factors: Sequence[float]) -> tuple[float, ...]:
    """Multiples of a value with two digits; the value itself as it is."""
    return tuple(value if factor == 1 else float(f"{factor * value:.2g}") for factor in factors)


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


def base_losses_at(fit: Fit, target: Target, n_params: float) -> dict[str, float]:
    """Losses of a base of another size, nats per token.

    They lie on the lines through the known bases (the target's and those of the runs) in the
    logarithms of size and loss. Beyond the last base its line goes on.
    """
    if n_params == target.n_params:
        return _named_losses(fit, target)
    return {
        name: _on_the_line(_known_losses(fit, target, name), n_params)
        for name in _named_losses(fit, target)
    }


def _named_losses(fit: Fit, target: Target) -> dict[str, float]:
    """The base's losses, without those that are computed from others."""
    losses = {name: loss for name, loss in target.base_losses.items() if name != GENERAL_WORST}
    if fit.general_weights and all(name in losses for name in fit.general_weights):
        losses.pop(GENERAL_TOTAL, None)
    return losses


def _known_losses(fit: Fit, target: Target, channel: str) -> list[tuple[float, float]]:
    """(size, loss) of the target's base and of the runs' bases of other sizes, ascending."""
    known = [(target.n_params, target.base_losses[channel])]
    for size, loss in fit.bases.get(channel, ()):
        if size and all(abs(np.log(size / other)) > SAME_SIZE for other, _ in known):
            known.append((size, loss))
    return sorted(known)


def _on_the_line(known: Sequence[tuple[float, float]], n_params: float) -> float:
    sizes, losses = np.log(np.array(known)).T
    left = int(np.clip(np.searchsorted(sizes, np.log(n_params)) - 1, 0, len(sizes) - 2))
    slope = (losses[left + 1] - losses[left]) / (sizes[left + 1] - sizes[left])
    return float(np.exp(losses[left] + slope * (np.log(n_params) - sizes[left])))


@dataclass(frozen=True)
class _Surfaces:
    """What the answers of a cell are found on: R shares, L rates, Q confidences."""

    ratio: Array
    general: Array
    domain: Array
    general_draws: Array
    kept: Array


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
    draws = _domain_draws(question, surfaces.ratio, rows)
    choices = _describe_pairs(question, [pair for pairs in found for pair in pairs], level)
    answers = [
        _answer_limit(at_limit, pairs, surfaces, draws, choices, facts, level)
        for at_limit, pairs in zip(asked, found, strict=True)
    ]
    curves = [_find_curves(question, surfaces, row, draws[row], level) for row in rows]
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
    central, draws = np.zeros(shape), np.zeros((question.fit.n_draws, *shape))
    if general is not None:
        central = question.central(general, *pairs).reshape(shape)
        draws = question.draws(general, *pairs).reshape(-1, *shape)
    return _Surfaces(
        ratio=ratio,
        general=central,
        domain=question.central(question.domain, *pairs).reshape(shape),
        general_draws=draws,
        kept=np.quantile(draws, confidences, axis=0, method="inverted_cdf"),
    )


def _find_pairs(question: Question, surfaces: _Surfaces) -> list[Pair | None]:
    """The best pair at each confidence."""
    domain = np.broadcast_to(surfaces.domain, surfaces.kept.shape)
    found = best_share(surfaces.ratio, surfaces.kept, domain, question.allowed)
    return [
        best_pair(question, question.rates, shares, losses)
        for shares, losses in zip(*found, strict=True)
    ]


def _row(question: Question, pair: Pair) -> int:
    """Index of a pair's learning rate."""
    return 0 if np.isnan(pair[1]) else int(np.abs(question.rates - pair[1]).argmin())


def _domain_draws(question: Question, ratio: Array, rows: Sequence[int]) -> dict[int, Array]:
    """Draws of the domain loss at learning rates, by row, shape (n_draws, R) each."""
    if not rows:
        return {}
    pairs = np.tile(ratio, len(rows)), np.repeat(question.rates[list(rows)], len(ratio))
    draws = question.draws(question.domain, *pairs).reshape(-1, len(rows), len(ratio))
    return {row: draws[:, i] for i, row in enumerate(rows)}


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
    domain_draws: Mapping[int, Array],
    choices: Mapping[Pair, tuple[Choice, Array]],
    facts: Facts,
    level: float,
) -> tuple[Answer, ...]:
    """The answers at a limit, for each confidence."""
    intervals = {
        row: _find_interval(question, surfaces, row, domain_draws[row], level)
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
    question: Question, surfaces: _Surfaces, row: int, domain_draws: Array, level: float
) -> Interval:
    """The interval of the best share at a rate, optimized again in each draw."""
    ratio, allowed = surfaces.ratio, question.allowed
    shares, _ = best_share(ratio, surfaces.general_draws[:, row], domain_draws, allowed)
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
