"""The few runs that narrow a decision most, with their price and the interval expected of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dcpt.decide.budget import FREE, Budget, Price, price_run
from dcpt.decide.posterior import posterior_of
from dcpt.decide.question import Array, Question, ask
from dcpt.decide.recommend import recommend
from dcpt.decide.records import Interval, Recommendation, Target
from dcpt.decide.run_choice import (
    OWN,
    STEP,
    Candidate,
    Crossing,
    Step,
    choose_runs,
    crossing_frame,
    find_crossings,
    share_variances,
    squared_slopes,
)
from dcpt.errors import InputError
from dcpt.laws.points.questions import DECAY
from dcpt.quantities import (
    format_percent,
    format_shares,
)
from dcpt.table.base_rows import SAME_SIZE, TableBase

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

SHORT = 0.25
"""Length of a run, as a share of the target's tokens. Two such runs cost half of a full one, and
both their decays show the learning rate's effect at the target's size
(``experiments/next_runs_ladders.md``)."""

SAME_LENGTH = 0.02
"""Runs whose tokens differ by less than this are the same; whole steps round them."""

CANDIDATE_SHARES = np.round(np.arange(STEP, 0.951, STEP), 2)


@dataclass(frozen=True)
class NextRun:
    """A run to train.

    Args:
        base: Label of its base; None if no study names it.
        n_params: Parameters.
        ratio: Share of domain text.
        learning_rate: Peak learning rate; None where the runs have none.
        n_tokens: Tokens, the decay included.
        decay_tokens: Tokens of the decay; 0 if the decision is about constant learning rates.
        price: What it costs.
        ratio_interval: Expected interval of the share after this run and those before it.
    """

    base: str | None
    n_params: float
    ratio: float
    learning_rate: float | None
    n_tokens: float
    decay_tokens: float
    price: Price
    ratio_interval: Interval


@dataclass(frozen=True)
class NextRuns:
    """The runs that narrow a decision most.

    Args:
        runs: The runs, in the order in which they were chosen.
        level: Interval probability.
        ratio_interval: Interval of the share now.
        expected_interval: Expected interval of the share after all runs.
        budget: The budget, such as ``50%``.
        price: Price of all runs.
        recommendation: What the fit recommends now.
    """

    runs: list[NextRun]
    level: float
    ratio_interval: Interval
    expected_interval: Interval
    budget: str
    price: Price
    recommendation: Recommendation

    @property
    def words(self) -> list[str]:
        """The choice in sentences."""
        now = format_shares(self.ratio_interval.low, self.ratio_interval.high)
        level = format_percent(self.level)
        if not self.runs:
            return [f"No run narrows the {level} interval of the share ({now})."]
        after = format_shares(self.expected_interval.low, self.expected_interval.high)
        hours = self.price.gpu_hours
        cost = f"{format_percent(self.price.share)} of the cost of the target's run"
        cost += "" if hours is None else f" ({hours:.3g} GPU-hours)"
        n_runs = len(self.runs)
        runs = "this run" if n_runs == 1 else f"these {n_runs} runs"
        return [
            f"The {level} interval of the share is {now}. After {runs} it is "
            f"expected to be {after}. {'It costs' if n_runs == 1 else 'They cost'} {cost}.",
        ]

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        record = {name: value for name, value in self.__dict__.items() if name != "recommendation"}
        record["runs"] = [asdict(run) for run in self.runs]
        for name in ("ratio_interval", "expected_interval", "price"):
            record[name] = asdict(record[name])
        return {**record, "words": self.words}


def next_runs(
    fit: Fit,
    target: Target,
    budget: str | Budget = "50%",
    *,
    level: float = 0.9,
    lengths: Sequence[float] = (SHORT,),
    bases: Mapping[str | None, TableBase] | None = None,
    runs: pd.DataFrame | None = None,
    decay: float = DECAY,
    speeds: Mapping[float, float] | None = None,
    most: int | None = None,
) -> NextRuns:
    """Choose the few runs that narrow the share of domain text most.

    Each run is the one that, given those before it, lowers most the sum over three limits (2/3, 1
    and 5/3 of the target's) of the variance of the general loss over its squared slope, where it
    crosses the limit; per price, if runs of several lengths or sizes are allowed.

    Args:
        fit: Fitted laws with their draws.
        target: The large run, its limit, and the losses of its base.
        budget: What the runs may cost together: a share of the cost of the target's run such as
            ``50%``, or GPU-hours such as ``20h``.
        level: Interval probability.
        lengths: Lengths that a run may have, as shares of the target's tokens. The first run has
            the shortest.
        bases: Bases that runs can start from, by label; None takes the target's own.
        runs: The runs table of the fit; runs that it has are not chosen again.
        decay: Tokens of a decay, as a share of the tokens before it.
        speeds: Tokens per second by parameters, for GPU-hours.
        most: Largest number of runs; None takes as many as the budget allows.

    Returns:
        The runs, with the interval of the share now and as expected after each.

    Raises:
        InputError: If the target is impossible, the budget is too small for any run, or a length is
            not above 0.

    Examples:
        >>> chosen = dcpt.next_runs(fit, target, "50%")
        >>> len(chosen.runs)
        2
        >>> round(chosen.runs[0].n_tokens / target.n_tokens, 2)
        0.25
    """
    if not lengths or min(lengths) <= 0:
        raise InputError(f"lengths {list(lengths)}: write shares of the target's tokens above 0")
    given = Budget.parse(budget)
    question = ask(fit, target)
    recommendation = recommend(fit, target, level)
    crossings = find_crossings(question)
    rates = np.unique([*question.seen, *(crossing.learning_rate for crossing in crossings)])
    starts = {target.base: _target_base(question)} if bases is None else bases
    candidates, ends = _list_candidates(
        question, starts, lengths, rates.tolist(), speeds or {}, runs
    )
    _check_budget(given, candidates)
    before, steps = _choose(question, crossings, candidates, ends, given, most)
    part = decay / (1 + decay) if question.phase == "annealed" else 0.0
    return _describe(recommendation, given, candidates, before, steps, part)


def _choose(
    question: Question,
    crossings: Sequence[Crossing],
    candidates: Sequence[Candidate],
    ends: Sequence[pd.DataFrame],
    budget: Budget,
    most: int | None,
) -> tuple[Array, list[Step]]:
    """The variances of the share at the crossings before any run, and the chosen runs in order."""
    frame = pd.concat([crossing_frame(question, crossings), *ends], ignore_index=True)
    posteriors = {
        channel: posterior_of(question.fit, channel, frame, question.shape)
        for channel in {crossing.channel for crossing in crossings}
    }
    squares = squared_slopes(posteriors, crossings, frame)
    before = share_variances(posteriors, crossings, squares)
    return before, choose_runs(posteriors, crossings, squares, candidates, budget, most)


def _list_candidates(
    question: Question,
    bases: Mapping[str | None, TableBase],
    lengths: Sequence[float],
    rates: Sequence[float],
    speeds: Mapping[float, float],
    runs: pd.DataFrame | None,
) -> tuple[list[Candidate], list[pd.DataFrame]]:
    """The runs to choose from, and their ends as points in the same order."""
    candidates: list[Candidate] = []
    ends = []
    for (label, base), length in itertools.product(bases.items(), sorted(lengths)):
        n_params, n_tokens = base.n_params, length * question.target.n_tokens
        price = price_run(question.target, n_params, n_tokens, speeds)
        is_short = length == min(lengths)
        every = [
            Candidate(label, n_params, share, rate, n_tokens, price, is_short)
            for rate in _scaled_rates(question, base, rates)
            for share in CANDIDATE_SHARES.tolist()
        ]
        new = [run for run in every if not _is_trained(run, question.phase, runs)]
        candidates += new
        shares = np.array([run.ratio for run in new])
        at_rates = np.array([run.learning_rate for run in new])
        ends.append(_question_at(question, base, n_tokens).frame(shares, at_rates))
    return candidates, ends


def _target_base(question: Question) -> TableBase:
    target = question.target
    return TableBase(
        target.n_params,
        target.base_losses,
        target.base_peak_learning_rate,
        target.base_n_tokens,
    )


def _question_at(question: Question, base: TableBase, n_tokens: float) -> Question:
    """The question about runs of another base or length."""
    target = replace(
        question.target,
        n_params=base.n_params,
        n_tokens=n_tokens,
        base_losses=base.losses,
        base_peak_learning_rate=base.base_peak_learning_rate,
        base_n_tokens=base.base_n_tokens,
    )
    return replace(question, target=target)


def _scaled_rates(question: Question, base: TableBase, rates: Sequence[float]) -> list[float]:
    """Learning rates at another base: the same multiples of its peak, where both are known."""
    peak = question.target.base_peak_learning_rate
    if peak is None or base.base_peak_learning_rate is None:
        return list(rates)
    return [float(f"{rate * base.base_peak_learning_rate / peak:.3g}") for rate in rates]


def _is_trained(run: Candidate, phase: str, runs: pd.DataFrame | None) -> bool:
    """Whether the table has the end of a run."""
    if runs is None:
        return False
    known = {"n_params": SAME_SIZE, "learning_rate": 1e-6, "n_tokens": SAME_LENGTH}
    there = (runs["ratio"] - run.ratio).abs() < 1e-6
    for name, apart in known.items():
        if name in runs:
            there &= (runs[name] / getattr(run, name) - 1).abs() <= apart
    if "phase" in runs:
        there &= runs["phase"] == phase
    return bool(there.any())


def _check_budget(budget: Budget, candidates: Sequence[Candidate]) -> None:
    """Refuse a budget that is too small for any run."""
    if not candidates:
        raise InputError(
            "every run that could be chosen is trained already; allow another length with --length"
        )
    least = min((run.price for run in candidates), key=budget.of)
    if not budget.allows(least):
        raise InputError(
            f"budget {budget} is too small for any run: the cheapest costs "
            f"{budget.say(budget.of(least))}; raise --budget, or allow shorter runs with --length"
        )


def _describe(
    recommendation: Recommendation,
    budget: Budget,
    candidates: Sequence[Candidate],
    before: Array,
    steps: Sequence[Step],
    decay: float,
) -> NextRuns:
    """The record of the chosen runs; ``decay`` is the part of a run's tokens that is its decay."""
    now = recommendation.ratio_interval
    runs, total = [], FREE
    for step in steps:
        chosen = candidates[step.index]
        total += chosen.price
        runs.append(
            NextRun(
                base=chosen.base,
                n_params=chosen.n_params,
                ratio=chosen.ratio,
                learning_rate=None if np.isnan(chosen.learning_rate) else chosen.learning_rate,
                n_tokens=chosen.n_tokens,
                decay_tokens=decay * chosen.n_tokens,
                price=chosen.price,
                ratio_interval=_shrink(now, _narrowing(before, step.variances)),
            )
        )
    return NextRuns(
        runs=runs,
        level=recommendation.level,
        ratio_interval=now,
        expected_interval=runs[-1].ratio_interval if runs else now,
        budget=str(budget),
        price=total,
        recommendation=recommendation,
    )


def _narrowing(before: Array, after: Array) -> float:
    """Standard deviation of the share after a step, in units of that before any.

    At the target's own limit; over all limits if the general loss does not rise there.
    """
    if before[OWN] > 0:
        return float(np.sqrt(after[OWN] / before[OWN]))
    return float(np.sqrt(after.sum() / before.sum())) if before.sum() > 0 else 1.0


def _shrink(interval: Interval, factor: float) -> Interval:
    """The interval with both ends moved towards its value in proportion."""
    value, low, high = interval.value, interval.low, interval.high
    if value is None or low is None or high is None:
        return Interval(value, None, None)
    return Interval(value, value - factor * (value - low), value + factor * (high - value))
