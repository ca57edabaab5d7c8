"""The best size and number of tokens for a given compute, with the share and the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from dcpt.decide.evidence import FARTHEST_TOKENS, NOT_ENOUGH, TENTATIVE
from dcpt.decide.intervals import limits_of
from dcpt.decide.question import ask
from dcpt.decide.recommend import recommend
from dcpt.decide.records import Interval, Recommendation, Target
from dcpt.decide.target_schedule import phase_of_target
from dcpt.errors import InputError
from dcpt.laws.points.record import SAME
from dcpt.quantities import format_count, format_loss, format_percent, format_rate, format_share
from dcpt.table.base_rows import TableBase

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

FLOPS = 6.0
"""FLOPs per parameter and token of training."""

BETWEEN = 3
"""Sizes that are compared between two neighbouring bases of the runs."""


@dataclass(frozen=True)
class SizeOption:
    """A size, the tokens that the compute gives it, and the best pair there.

    Args:
        n_params: Parameters.
        n_tokens: CPT tokens of the run.
        is_interpolated: Whether no base of the runs has this size, so that its losses lie on the
            power law between its neighbours.
        minimized: Predicted domain loss (or weighted mean of losses) at the best pair, nats per
            token; None where the size is left out.
        ratio: Share of domain text there.
        learning_rate: Learning rate there; None also where the runs have none.
        left_out: Why the size is not compared; None if it is.
    """

    n_params: float
    n_tokens: float
    is_interpolated: bool
    minimized: float | None = None
    ratio: float | None = None
    learning_rate: float | None = None
    left_out: str | None = None


@dataclass(frozen=True)
class SizeAnswer:
    """The best size for a given compute.

    Args:
        flops: FLOPs of the run: 6 per parameter and token.
        options: The sizes, ascending.
        size_interval: The best size, and the interval of the best sizes of the bootstrap draws.
        level: Interval probability.
        recommendation: The answer at the best size.
        size_column: The count of parameters that sizes and FLOPs use.
    """

    flops: float
    options: list[SizeOption]
    size_interval: Interval
    level: float
    recommendation: Recommendation
    size_column: str = "n_params"

    @property
    def words(self) -> list[str]:
        """The answer in sentences."""
        target, interval = self.recommendation.target, self.size_interval
        compared = [option for option in self.options if option.left_out is None]
        counted = "" if self.size_column == "n_params" else f" (6 per token and {self.size_column})"
        level = self.recommendation.evidence.level
        start = {TENTATIVE: "Tentative: for", NOT_ENOUGH: "Estimate: for"}.get(level, "For")
        words = [
            f"{start} {self.flops:.3g} FLOPs{counted} the best size is "
            f"{format_count(target.n_params)} parameters with "
            f"{format_count(target.n_tokens)} tokens. "
            f"{format_percent(self.level)} interval of the size: {format_count(interval.low or 0)} "
            f"to {format_count(interval.high or 0)}."
        ]
        if any(o.is_interpolated and o.n_params == target.n_params for o in compared):
            words.append("No base of the runs has this size: its losses are interpolated.")
        sizes = [option.n_params for option in compared]
        if target.n_params in (sizes[0], sizes[-1]):
            end = "smallest" if target.n_params == sizes[0] else "largest"
            words.append(f"It is the {end} size that could be compared; one beyond may be better.")
        return words

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return {**asdict(self), "words": self.words}


def spread_bases(bases: Sequence[TableBase]) -> list[tuple[TableBase, bool]]:
    """The bases of the runs and sizes between them, ascending.

    Losses, peak learning rate and tokens of a base between two lie on the power law of the size
    through both.

    Returns:
        Bases, and whether each is interpolated.
    """
    ordered = sorted(bases, key=lambda base: base.n_params)
    found: list[tuple[TableBase, bool]] = [(base, False) for base in ordered[:1]]
    for low, high in pairwise(ordered):
        parts = np.linspace(0, 1, BETWEEN + 2)[1:-1]
        found += [(_between(low, high, float(part)), True) for part in parts]
        found.append((high, False))
    return found


def _between(low: TableBase, high: TableBase, part: float) -> TableBase:
    def on_power_law(first: float | None, second: float | None) -> float | None:
        if first is None or second is None:
            return None
        return float(np.exp((1 - part) * np.log(first) + part * np.log(second)))

    losses = {
        name: on_power_law(loss, high.losses[name])
        for name, loss in low.losses.items()
        if name in high.losses
    }
    n_params = on_power_law(low.n_params, high.n_params)
    assert n_params is not None
    return TableBase(
        n_params=float(f"{n_params:.3g}"),
        losses={name: loss for name, loss in losses.items() if loss is not None},
        base_peak_learning_rate=on_power_law(
            low.base_peak_learning_rate, high.base_peak_learning_rate
        ),
        base_n_tokens=on_power_law(low.base_n_tokens, high.base_n_tokens),
    )


def recommend_size(
    fit: Fit,
    flops: float,
    bases: Sequence[TableBase],
    make_target: Callable[[TableBase, float], Target],
    level: float = 0.9,
) -> SizeAnswer:
    """Choose size, tokens, share and learning rate for a given compute.

    Every size has as many tokens as the compute allows, and the best pair within the limits, which
    are relative to its own base. The best size has the lowest minimized loss there.

    Args:
        fit: The fit.
        flops: FLOPs of the run: 6 per parameter and token.
        bases: Bases of the runs by size, with their losses.
        make_target: The target of a base and a number of tokens.
        level: Interval probability.

    Raises:
        InputError: If the compute is not above 0, the bases have no losses, or no size can be
            compared.
    """
    if not 0 < flops < np.inf:
        raise InputError(f"compute {flops:g} is not above 0: write the FLOPs of the run, as 3e18")
    if len(bases) < 2:
        raise InputError(
            "a size is chosen among the bases of the runs, and the table has losses at n_tokens = "
            f"0 of {len(bases)} sizes: add those rows for two sizes or more"
        )
    options, answers, losses = [], {}, []
    for base, is_interpolated in spread_bases(bases):
        n_tokens = float(np.floor(flops / (FLOPS * base.n_params)))
        option = SizeOption(base.n_params, n_tokens, is_interpolated)
        found = _answer_at(fit, make_target, base, n_tokens, level)
        if isinstance(found, str):
            options.append(replace(option, left_out=found))
            continue
        best, draws, value = found.best, *_minimized(fit, found)
        assert best is not None
        ratio, rate = best.pair
        options.append(replace(option, minimized=value, ratio=ratio, learning_rate=rate))
        answers[base.n_params] = found
        losses.append((base.n_params, value, draws))
    if not losses:
        raise InputError(_say_left_out(flops, options))
    sizes = np.array([size for size, _, _ in losses])
    best_size = float(sizes[np.argmin([value for _, value, _ in losses])])
    of_draws = sizes[np.argmin([draws for _, _, draws in losses], axis=0)]
    low, high = limits_of(of_draws, level)
    interval = Interval(best_size, float(low), float(high))
    return SizeAnswer(
        flops, options, interval, level, answers[best_size], fit.size_column or "n_params"
    )


def _say_left_out(flops: float, options: Sequence[SizeOption]) -> list[str]:
    """Why no size can be compared; sizes with the same reason are in one sentence."""
    by_reason: dict[str | None, list[str]] = {}
    for option in options:
        size = f"{format_count(option.n_params)} parameters, {format_count(option.n_tokens)} tokens"
        by_reason.setdefault(option.left_out, []).append(size)
    return [
        f"compute {flops:.3g} FLOPs, {' to '.join(dict.fromkeys([sizes[0], sizes[-1]]))}: {reason}"
        for reason, sizes in by_reason.items()
    ]


def _answer_at(
    fit: Fit,
    make_target: Callable[[TableBase, float], Target],
    base: TableBase,
    n_tokens: float,
    level: float,
) -> Recommendation | str:
    """The answer at a size, or why the size is left out."""
    if n_tokens < 1:
        return "the compute does not suffice for a token"
    try:
        target = make_target(base, n_tokens)
        too_far = _say_too_far(fit, target)
        if too_far is not None:
            return too_far
        found = recommend(fit, target, level)
    except InputError as error:
        return "; ".join(error.problems)
    return found if found.best is not None else "no share keeps the limit"


def _say_too_far(fit: Fit, target: Target) -> str | None:
    """Why the tokens of a target are too far from those of the runs in its phase."""
    shortest, longest = fit.ranges_in(phase_of_target(fit, target))["n_tokens"]
    if max(shortest / target.n_tokens, target.n_tokens / longest) <= FARTHEST_TOKENS * (1 + SAME):
        return None
    return (
        f"more than {FARTHEST_TOKENS:g} times outside the tokens of the runs "
        f"({format_count(shortest)} to {format_count(longest)})"
    )


def _minimized(fit: Fit, answer: Recommendation) -> tuple[np.ndarray[Any, Any], float]:
    """Draws and central prediction of the minimized loss at the recommended pair."""
    question, best = ask(fit, answer.target), answer.best
    assert best is not None
    rate = np.nan if best.learning_rate is None else best.learning_rate
    pair = np.array([best.ratio]), np.array([rate])
    draws = {name: question.draws(name, *pair)[:, 0] for name in question.minimized}
    central = {name: question.central(name, *pair) for name in question.minimized}
    return question.objective(draws), float(question.objective(central)[0])


def option_cells(option: SizeOption) -> list[str]:
    """A size as the cells of a table: parameters, tokens, share, rate, loss, notes."""
    note = "interpolated base" if option.is_interpolated else ""
    return [
        format_count(option.n_params),
        format_count(option.n_tokens),
        "" if option.ratio is None else format_share(option.ratio),
        "" if option.learning_rate is None else format_rate(option.learning_rate),
        "" if option.minimized is None else format_loss(option.minimized),
        option.left_out or note,
    ]
