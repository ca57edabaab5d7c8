"""Verify a recommendation: choose runs to train, and compare their losses to predictions."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dcpt.decide.choices import describe_choices
from dcpt.decide.measured_words import verification_words
from dcpt.decide.question import Question, ask
from dcpt.decide.records import (
    LARGEST_RATIO,
    Interval,
    Recommendation,
    Target,
    Verification,
    Verified,
)
from dcpt.decide.sentences import most_risen
from dcpt.decide.surface import Pair
from dcpt.decide.worst_channel import GENERAL_WORST
from dcpt.errors import InputError
from dcpt.laws.flags.noise import EVALUATION_NOISE
from dcpt.laws.points.record import SAME
from dcpt.quantities import format_count
from dcpt.table.channels import GENERAL_TOTAL, without_own_decays

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

SMALLEST_NEIGHBOUR = 0.02
NOISE = 2.0
"""Standard errors within which a loss and the limit cannot be distinguished."""

NEAREST, FARTHEST = 0.1, 0.25
"""Neighbours are at least and at most this far from the recommended share: far enough to differ,
near enough to be informative."""


@dataclass(frozen=True)
class Planned:
    """A run to train at the target.

    Args:
        label: ``recommendation`` or the name of a neighbour.
        ratio: Share of domain text.
        learning_rate: Peak learning rate; None where the runs have none.
    """

    label: str
    ratio: float
    learning_rate: float | None


def plan_verification(recommendation: Recommendation) -> list[Planned]:
    """Choose the runs that verify a recommendation: the pair itself, a lower and a higher share.

    The neighbours are the ends of the interval, but at least 0.1 and at most 0.25 away, rounded to
    two decimals. Where there is no room on one side, both are on the other side.

    Raises:
        InputError: If there is no recommendation to verify.
    """
    if recommendation.best is None:
        raise InputError(
            "there is nothing to verify: no share meets the limit "
            f"{recommendation.target.limits_in_words}; run `dcpt recommend` with a higher limit "
            "first"
        )
    rate = recommendation.best.learning_rate
    ratio = recommendation.best.ratio
    low, high = recommendation.ratio_interval.low, recommendation.ratio_interval.high
    down = np.clip(ratio - (ratio if low is None else low), NEAREST, FARTHEST)
    up = np.clip((ratio if high is None else high) - ratio, NEAREST, FARTHEST)
    lower, higher = max(ratio - down, SMALLEST_NEIGHBOUR), min(ratio + up, LARGEST_RATIO)
    shares = {"recommendation": ratio, "lower share": lower, "higher share": higher}
    if higher - ratio < NEAREST / 2:
        del shares["higher share"]
        shares["still lower share"] = ratio - 2 * down
    elif ratio - lower < NEAREST / 2:
        del shares["lower share"]
        shares["still higher share"] = ratio + 2 * up
    rounded = {label: round(float(share), 2) for label, share in shares.items()} | {
        "recommendation": ratio
    }
    return [Planned(label, share, rate) for label, share in rounded.items()]


def compare_verification(
    fit: Fit,
    recommendation: Recommendation,
    runs: pd.DataFrame,
    labels: Mapping[str, str],
    fitted: Collection[str] = (),
) -> Verification:
    """Compare measured losses with predicted ones.

    Predictions are made at the share, learning rate and tokens that the runs had.

    Args:
        fit: The fit that recommended.
        recommendation: What was recommended, for which target.
        runs: A runs table with the verifying runs, as ``load_runs`` gives it.
        labels: Name of each run in the table -> its label in the plan; ``recommendation`` is
            among them.
        fitted: Names of runs whose losses at the target the fit was fitted to; those in the plan
            do not test it.

    Raises:
        InputError: If a run is missing or did not reach the target in the phase decided on.
    """
    if "recommendation" not in labels.values():
        raise InputError(
            f"labels {', '.join(labels.values()) or '(none)'} lack 'recommendation': include the "
            "run that was trained at the recommended share"
        )
    rows, problems = {}, []
    target = recommendation.target
    for run, label in labels.items():
        found = _end_row(runs, run, label, target, recommendation.phase)
        if isinstance(found, str):
            problems.append(found)
        else:
            rows[run] = found
    if problems:
        raise InputError(problems)
    verified = [
        _verified(fit, target, labels[run], run, row, recommendation.level)
        for run, row in rows.items()
    ]
    seen = sorted(set(fitted) & set(rows))
    return _judged(ask(fit, target), recommendation, verified, seen)


def _end_row(
    runs: pd.DataFrame, run: str, label: str, target: Target, phase: str
) -> dict[str, Any] | str:
    """The row of a run at the target, or what is wrong."""
    own = without_own_decays(runs[runs["run"] == run])
    if own.empty:
        return f"run {run!r} ({label}) is not in the table: train it, then export the table again"
    if "phase" in own:
        own = own[own["phase"] == phase]
    if own.empty:
        return (
            f"run {run!r} ({label}) has no {phase} point, and losses of that phase were predicted: "
            "train it to its end"
        )
    tokens = own["n_tokens"].to_numpy(dtype=float)
    nearest = int(np.abs(tokens - target.n_tokens).argmin())
    if abs(tokens[nearest] - target.n_tokens) > SAME * target.n_tokens:
        return (
            f"run {run!r} ({label}) has no {phase} point near {format_count(target.n_tokens)} "
            f"tokens (nearest: {format_count(tokens[nearest])}): train it as long as the target"
        )
    return {str(name): value for name, value in own.iloc[nearest].items()}


def _verified(
    fit: Fit, target: Target, label: str, run: str, row: dict[str, Any], level: float
) -> Verified:
    question = ask(fit, replace(target, n_tokens=float(row["n_tokens"])))
    rate = float(row["learning_rate"]) if "learning_rate" in row else float("nan")
    pair: Pair = (float(row["ratio"]), rate)
    choice = describe_choices(question, [pair], [label], None, level)[0]
    measured = {
        channel: float(row[f"loss_{channel}"])
        for channel in choice.losses
        if f"loss_{channel}" in row and np.isfinite(row[f"loss_{channel}"])
    }
    if question.parts and all(part in measured for part in question.parts):
        parts = {part: np.array(measured[part]) for part in question.parts}
        measured[GENERAL_WORST] = float(question.worst(parts))
    predicted = {channel: choice.losses[channel] for channel in measured}
    held = {channel: _inside(predicted[channel], loss) for channel, loss in measured.items()}
    return Verified(
        label,
        run,
        choice.ratio,
        choice.learning_rate,
        predicted,
        measured,
        inside={channel: inside for channel, inside in held.items() if inside is not None},
        standard_errors=_standard_errors(fit, row, measured),
    )


def _standard_errors(
    fit: Fit, row: Mapping[str, Any], measured: Mapping[str, float]
) -> dict[str, float]:
    """Standard errors of the measured losses that are known; of a weighted total from its parts."""
    found = {
        channel: float(row[f"se_{channel}"])
        for channel in measured
        if f"se_{channel}" in row and np.isfinite(row[f"se_{channel}"])
    }
    weights = fit.general_weights
    if GENERAL_TOTAL in measured and weights and all(name in found for name in weights):
        parts = [weight * found[name] for name, weight in weights.items()]
        found.setdefault(GENERAL_TOTAL, float(np.hypot.reduce(parts)) / sum(weights.values()))
    return found


def _inside(interval: Interval, measured: float | None) -> bool | None:
    """Whether a measured value lies in an interval; None where either is unknown."""
    if measured is None or interval.low is None or interval.high is None:
        return None
    return interval.low <= measured <= interval.high


def _judged(
    question: Question,
    recommendation: Recommendation,
    verified: list[Verified],
    fitted: list[str],
) -> Verification:
    """Judge the recommendation by the measured losses."""
    general, allowed = question.general, question.allowed
    limited = general if question.limits else None
    missing = [
        f"run {run.run!r} ({run.label}) has no loss_{channel} at its end: evaluate it on that "
        "channel"
        for run in verified
        for channel in (limited, *question.minimized)
        if channel is not None and channel not in run.measured
    ]
    if missing:
        raise InputError(missing)
    main = next(run for run in verified if run.label == "recommendation")
    within = [run for run in verified if limited is None or run.measured[limited] <= allowed]
    best = min(within, key=lambda run: float(question.objective(run.measured)), default=None)
    ratio = None if limited is None else _measured_ratio(verified, limited, allowed)
    margin = None if limited is None else allowed - main.measured[limited]
    result = Verification(
        level=recommendation.level,
        runs=verified,
        recommendation_held=all(main.inside.values()),
        limit_held=None if margin is None else margin >= 0,
        best_measured=best.label if best else None,
        words=[],
        measured_ratio=ratio,
        ratio_held=_inside(recommendation.ratio_interval, ratio),
        limit_margin=margin,
        limit_within_noise=_within_noise(recommendation, main),
        one_sided=_one_sided(verified),
        fitted=fitted,
    )
    return replace(result, words=verification_words(recommendation, result))


def _within_noise(recommendation: Recommendation, main: Verified) -> bool | None:
    """Whether the measured loss is too close to the limit to be distinguished from it."""
    general = most_risen(recommendation, main.measured)
    if general is None or general.allowed is None:
        return None
    error = main.standard_errors.get(general.channel)
    return None if error is None else abs(general.allowed - general.loss) <= NOISE * error


def _one_sided(verified: list[Verified]) -> dict[str, float]:
    """Mean miss of each channel that two or more runs all miss in the same direction.

    In nats per token. A miss of at most half of ``EVALUATION_NOISE`` does not count: two equal runs
    differ by as much.
    """
    found = {}
    for channel in verified[0].measured:
        misses = [
            run.measured[channel] - (run.predicted[channel].value or np.nan)
            for run in verified
            if channel in run.measured and channel != GENERAL_WORST
        ]
        least = EVALUATION_NOISE / 2
        beyond = [miss > least for miss in misses], [miss < -least for miss in misses]
        if len(misses) > 1 and any(all(side) for side in beyond):
            found[channel] = float(np.mean(misses))
    return found


def _measured_ratio(verified: list[Verified], general: str, allowed: float) -> float | None:
    """Share at which the measured general losses cross the limit, linear between two runs."""
    ordered = sorted(verified, key=lambda run: run.ratio)
    for left, right in itertools.pairwise(ordered):
        before, after = left.measured[general], right.measured[general]
        if before <= allowed < after:
            return left.ratio + (allowed - before) / (after - before) * (right.ratio - left.ratio)
    return None
