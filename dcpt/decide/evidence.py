"""How strong the evidence for a recommendation is: the one place with all thresholds.

Each threshold is the limit of what we measured. *Recommended*: at such targets intervals were
checked against new runs and were right. *Tentative*: at such targets predictions were checked and
missed by a known amount, or the interval is wide. *Not enough evidence*: no such target was ever
measured, or the interval is too wide to act on. Losses are in nats per token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

from dcpt.decide.question import Question
from dcpt.decide.records import Evidence, Interval, Level, Reason, Recommendation
from dcpt.flags import Flag
from dcpt.laws.points.record import SAME
from dcpt.quantities import (
    format_count,
    format_factor,
    format_percent,
    format_rate,
    format_share,
    format_shares,
)

if TYPE_CHECKING:
    from dcpt.laws.fits.channel_fit import ChannelFit

CHECKED_FACTOR = 2.0
"""N and D this many times beyond the runs: recommended. At twice the largest size and at twice the
longest run 90 % intervals contained 85 to 97 % of new runs (``experiments/calibration.md``)."""

FARTHEST_SIZE = 16.0
"""N this many times beyond the runs: tentative, with at least two sizes. Four domains were measured
at 3 to 14 times the largest size: the recommended pair missed the limit by 17 % of it on average,
and used more than 115 % of it in 38 % of the cases. Nothing was measured further out."""

FARTHEST_SIZE_FROM_ONE = 4.0
"""The same for runs of one size. At 3.7 times (6.6M from 1.8M, ``experiments/pilot.md``, section 3)
the pairs for limits of +3 and +5 % measured +3.4 and +6.2 %."""

FEWEST_SIZES = 3
"""With two sizes the smaller one predicts the larger one with parameters in N that were fitted to
both, so the error at another size is not measured."""

FARTHEST_TOKENS = 4.0
"""D this many times beyond the longest run: tentative. At 4.0 times (11M to 44M tokens) the domain
loss was missed by 0.14 and more, at 3.0 times by 0.07 to 0.09 (``experiments/smollm2.md``), the
share by 0.01 there. Nothing was measured further out."""

FARTHEST_RATE = 3.0
"""A learning rate this many times beyond those of the runs: tentative. At three times the highest
rate the general loss was met within 0.019 (``experiments/pilot.md``, section 2)."""

FARTHEST_SHARE = 0.1
"""A share this far beyond those of the runs: tentative. Shares are held out inside the grid only,
and the last 3 % of general text are worth 0.9 to 1.6 (the cliff)."""

FEWEST_RUNS = 5
"""With four runs a 90 % interval contained 24 of 30 new ones, with two 18, with one 3."""

CHECKED_RUNS = 12
"""The smallest grid whose recommendation was verified (``experiments/smollm2.md``)."""

FEWEST_SHARES = 3
"""A law of the share has two parameters or more besides its level."""

WIDE_INTERVAL = 0.25
"""Width of the share's 90 % interval: tentative from here. With a truth outside of the menu of laws
intervals were 0.24 to 0.31 wide and errors 0.02 (``experiments/calibration.md``). The demo's are
0.09 to 0.16 wide and contained 5 of 5 (``experiments/demo_seeds.md``)."""

USELESS_INTERVAL = 0.4
"""Width from which the interval is too wide to act on: those of four domains were 0.4 to 0.9 wide,
while the central pairs used 71 to 126 % of the limit."""

BOUNDS_OF_WEIGHT = 1 / 3
"""Part of the fitted parameters that ended on a bound, the laws counted by their weight: tentative
from here. One parameter in six to eight is common where predictions were verified (``eps`` of the
bundled runs and of ``experiments/smollm2.md``)."""

DOUBTFUL = ("base_loss_contradicts_runs", "loss_unit")
"""Kinds of flags of losses whose unit or measurement is in doubt."""

LEVELS: tuple[Level, ...] = get_args(Level)
"""Strongest first."""

TENTATIVE, NOT_ENOUGH = LEVELS[1], LEVELS[2]


@dataclass(frozen=True)
class Facts:
    """What the level of a recommendation depends on.

    Args:
        extrapolation: Factor by which the target lies outside the runs, per axis; 1 is inside.
        target: Value of the target on each of these axes.
        nearest: Value of the runs on each of these axes that is nearest to the target's.
        n_runs: Runs with points in the phase decided on.
        n_sizes: Their distinct sizes; 0 where the table names none.
        shares: Their distinct shares of domain text, ascending.
        share: The recommended share; None without one.
        interval: The limits of its interval; None where they are not known.
        at_bounds: Part of the fitted parameters on a bound, weighted by law, per channel.
        not_held_out: Channels of which no points could be held out.
        decayed: Whether the decision was made on losses after a decay.
        doubtful: Flags of losses whose unit or measurement is in doubt.
    """

    extrapolation: dict[str, float]
    target: dict[str, float]
    nearest: dict[str, float]
    n_runs: int
    n_sizes: int
    shares: tuple[float, ...]
    share: float | None
    interval: tuple[float, float] | None
    at_bounds: dict[str, float]
    not_held_out: tuple[str, ...]
    decayed: bool
    doubtful: tuple[Flag, ...] = ()


def judge_evidence(question: Question, recommendation: Recommendation) -> Evidence:
    """Judge how strong the evidence for a recommendation is.

    Args:
        question: The target and its fit.
        recommendation: The answer, its evidence not yet filled in.
    """
    best = recommendation.best
    facts = find_facts(question, recommendation.flags)
    pair = None if best is None else best.pair
    return judge(facts_of_answer(facts, question, pair, recommendation.ratio_interval))


def find_facts(question: Question, flags: Iterable[Flag]) -> Facts:
    """Collect what the level depends on from the fit and the target, the answer apart."""
    fit, phase = question.fit, question.phase
    decisive = question.decisive
    covered = [fit.by_channel[name].seen.values.get(phase, {}) for name in decisive]
    return Facts(
        extrapolation={},
        target={},
        nearest={},
        n_runs=min(_count_runs(fit.by_channel[name], phase) for name in decisive),
        n_sizes=min(len(values.get("n_params", ())) for values in covered),
        shares=min((values.get("ratio", ()) for values in covered), key=len),
        share=None,
        interval=None,
        at_bounds={name: _part_at_bounds(fit.by_channel[name], phase) for name in decisive},
        not_held_out=tuple(
            name for name in decisive if not _is_held_out(fit.by_channel[name], phase)
        ),
        decayed=phase == "annealed",
        doubtful=tuple(flag for flag in flags if flag.kind in DOUBTFUL),
    )


def facts_of_answer(
    facts: Facts,
    question: Question,
    pair: tuple[float, float | None] | None,
    interval: Interval,
) -> Facts:
    """Add what the level depends on from an answer.

    Args:
        facts: What it depends on otherwise (:func:`find_facts`).
        question: The target and its fit.
        pair: The share and the learning rate of the answer; None without one.
        interval: The interval of the share.
    """
    share, rate = (None, question.target.learning_rate) if pair is None else pair
    extrapolation, ranges = question.extrapolation(rate), question.ranges
    asked: dict[str, float | None] = {
        "n_params": question.target.n_params,
        "n_tokens": question.target.n_tokens,
        "learning_rate": rate,
    }
    known = {
        axis: value for axis, value in asked.items() if value is not None and axis in extrapolation
    }
    low, high = interval.low, interval.high
    return replace(
        facts,
        extrapolation={axis: extrapolation[axis] for axis in known},
        target=known,
        nearest={axis: min(max(v, ranges[axis][0]), ranges[axis][1]) for axis, v in known.items()},
        share=share,
        interval=None if share is None or low is None or high is None else (low, high),
    )


def _count_runs(channel: ChannelFit, phase: str) -> int:
    """Runs of a channel with points in a phase."""
    rows = zip(channel.residuals["run"], channel.residuals["phase"], strict=True)
    return len({run for run, of in rows if of == phase})


def _part_at_bounds(channel: ChannelFit, phase: str) -> float:
    """Part of the fitted parameters that ended on a bound, the laws counted by their weight."""
    parts = 0.0
    for law, weight in channel.comparisons[phase].weights.items():
        member = channel.members[law]
        on_bounds = sum(len(flag.values.get("parameters", ())) for flag in member.flags)
        parts += weight * on_bounds / max(member.n_fitted, 1)
    return parts


def _is_held_out(channel: ChannelFit, phase: str) -> bool:
    """Whether points were held out of the law chosen, so that its error is known."""
    comparison = channel.comparisons[phase]
    return bool(comparison.errors.get(comparison.choice))


def judge(facts: Facts) -> Evidence:
    """The weakest level that any of the facts allows, with the reasons."""
    reasons = [
        *_about_the_losses(facts),
        *_about_the_target(facts),
        *_about_the_grid(facts),
        *_about_the_answer(facts),
        *_about_the_laws(facts),
    ]
    reasons.sort(key=lambda reason: -LEVELS.index(reason.level))
    return Evidence(reasons[0].level if reasons else LEVELS[0], reasons)


def _about_the_losses(facts: Facts) -> Iterator[Reason]:
    """Losses whose unit or measurement is in doubt: every number of the answer depends on them."""
    for flag in facts.doubtful:
        channel = flag.subject["channel"]
        whose = "the runs" if flag.kind == "loss_unit" else "the target's base"
        yield Reason(
            flag.kind,
            flag.sentence,
            flag.subject,
            flag.values,
            level=NOT_ENOUGH,
            needed=f"check the {channel} loss of {whose}",
        )


def _about_the_target(facts: Facts) -> Iterator[Reason]:
    """Size, tokens and learning rate of the target outside those of the runs."""
    farthest = FARTHEST_SIZE_FROM_ONE if facts.n_sizes == 1 else FARTHEST_SIZE
    # An error at another size is measured with three sizes only, so any other size is tentative.
    checked = CHECKED_FACTOR if facts.n_sizes >= FEWEST_SIZES else 1.0
    for axis, noun, of_runs, near, far in (
        ("n_params", "parameters", "the runs' nearest size", checked, farthest),
        ("n_tokens", "tokens", "the runs' nearest length", CHECKED_FACTOR, FARTHEST_TOKENS),
    ):
        factor = facts.extrapolation.get(axis, 1.0)
        if factor <= near * (1 + SAME):
            continue
        value, nearest = facts.target[axis], facts.nearest[axis]
        level = NOT_ENOUGH if factor > far * (1 + SAME) else TENTATIVE
        reach = far if level == NOT_ENOUGH else max(near, CHECKED_FACTOR)
        bound, limit = (
            ("at least", value / reach) if value > nearest else ("at most", value * reach)
        )
        missing = {1: " and of two other sizes", 2: " and of a third size"}
        sizes = missing.get(facts.n_sizes, "") if axis == "n_params" else ""
        yield Reason(
            "extrapolates",
            f"The target has {format_count(value)} {noun}, a factor of {format_factor(factor)} "
            f"from {of_runs} ({format_count(nearest)}).",
            {"axis": axis},
            {"target": value, "nearest": nearest, "factor": factor},
            level=level,
            needed=f"train runs with {bound} {format_count(limit)} {noun}{sizes}",
        )
    factor = facts.extrapolation.get("learning_rate", 1.0)
    if factor > 1:
        value, nearest = facts.target["learning_rate"], facts.nearest["learning_rate"]
        yield Reason(
            "extrapolates",
            f"The learning rate {format_rate(value)} is a factor of {format_factor(factor)} from "
            f"the nearest one of the runs ({format_rate(nearest)}).",
            {"axis": "learning_rate"},
            {"target": value, "nearest": nearest, "factor": factor},
            level=NOT_ENOUGH if factor > FARTHEST_RATE * (1 + SAME) else TENTATIVE,
            needed=f"train runs at a learning rate of {format_rate(value)}",
        )


def _about_the_grid(facts: Facts) -> Iterator[Reason]:
    """Too few runs or shares."""
    if facts.n_runs < CHECKED_RUNS:
        yield Reason(
            "few_runs",
            f"The laws were fitted to {facts.n_runs} runs.",
            values={"n_runs": facts.n_runs},
            level=NOT_ENOUGH if facts.n_runs < FEWEST_RUNS else TENTATIVE,
            needed=f"train at least {CHECKED_RUNS} runs",
        )
    if len(facts.shares) < FEWEST_SHARES:
        yield Reason(
            "few_shares",
            f"The runs have {len(facts.shares)} distinct shares of domain text.",
            values={"n_shares": len(facts.shares)},
            level=NOT_ENOUGH,
            needed=f"train runs at {FEWEST_SHARES} or more shares",
        )


def _about_the_answer(facts: Facts) -> Iterator[Reason]:
    """A share outside those of the runs, and an interval that is wide."""
    if facts.share is not None and facts.shares:
        low, high = facts.shares[0], facts.shares[-1]
        away = max(low - facts.share, facts.share - high)
        if away > 1e-9:
            yield Reason(
                "extrapolates",
                f"The share {format_share(facts.share)} lies outside those of the runs "
                f"({format_shares(low, high)}).",
                {"axis": "ratio"},
                {"share": facts.share, "lowest": low, "highest": high},
                level=NOT_ENOUGH if away > FARTHEST_SHARE + 1e-9 else TENTATIVE,
                needed=f"train runs at a share near {format_share(facts.share)}",
            )
    if facts.interval is not None and facts.interval[1] - facts.interval[0] > WIDE_INTERVAL:
        low, high = facts.interval
        useless = high - low > USELESS_INTERVAL
        yield Reason(
            "wide_interval",
            f"The interval of the share, {format_shares(low, high)}, is "
            f"{'too wide to act on' if useless else 'wide'}.",
            values={"low": low, "high": high, "width": high - low},
            level=NOT_ENOUGH if useless else TENTATIVE,
            needed="train more runs near the estimate and near the target's size and tokens",
        )


def _about_the_laws(facts: Facts) -> Iterator[Reason]:
    """Laws whose error is not known, whose parameters are on bounds, or of the other phase."""
    if facts.not_held_out:
        yield Reason(
            "not_held_out",
            f"The error of the laws of {', '.join(facts.not_held_out)} is not known: no points "
            "could be held out.",
            values={"channels": list(facts.not_held_out)},
            level=NOT_ENOUGH,
            needed="train runs at more sizes, shares or token counts",
        )
    on_bounds = {name: part for name, part in facts.at_bounds.items() if part >= BOUNDS_OF_WEIGHT}
    if on_bounds:
        parts = " and ".join(f"{format_percent(part)} ({name})" for name, part in on_bounds.items())
        yield Reason(
            "at_bounds",
            f"Fitted parameters that ended on a bound: {parts}.",
            values=on_bounds,
            level=TENTATIVE,
            needed="train more runs, or exclude those laws",
        )
    if not facts.decayed:
        yield Reason(
            "constant_rate_losses",
            "The losses are those at constant learning rate: a decay changes the best pair.",
            level=TENTATIVE,
            needed="train decay branches",
        )
