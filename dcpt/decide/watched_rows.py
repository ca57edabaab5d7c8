"""The points of a large run that its prediction can be compared with, and the phase of each.

No law describes a warmup, and only laws of the history of the learning rate describe a decay before
its end. A log seldom says where its decay begins, so it is taken from what was predicted: the
target's schedule, or a decay as long as that of a question without one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dcpt.decide.question import Question
from dcpt.decide.target_schedule import needs_history
from dcpt.errors import InputError
from dcpt.laws.points.questions import DECAY
from dcpt.laws.points.record import SAME
from dcpt.quantities import format_count
from dcpt.table.channels import GENERAL_TOTAL, weighted_total
from dcpt.table.schedule_phases import FALLING

FIRST_PART = 0.05
"""Part of the target's tokens before which no point is judged: no law describes a warmup."""

END_PART = 0.995
"""Part of the target's tokens from which a point is its end: batches do not divide every length."""


@dataclass(frozen=True)
class WatchedRows:
    """The points of a run.

    Args:
        judged: Those that can be judged, ascending in tokens, each with its ``phase``.
        n_tokens: Tokens at the last point of the log.
        n_in_decay: How many points lie within the final decay, which no law describes.
    """

    judged: pd.DataFrame
    n_tokens: float
    n_in_decay: int


def watched_rows(runs: pd.DataFrame, question: Question) -> WatchedRows:
    """Choose the points of a run that can be judged.

    Args:
        runs: Runs table of the run alone.
        question: What was predicted.

    Raises:
        InputError: If the table holds several runs or another size, or no point can be judged.
    """
    _check_run(runs, question)
    first, decay = _constant_part(question)
    if "warmup_tokens" in runs and runs["warmup_tokens"].notna().any():
        first = float(runs["warmup_tokens"].max())
    first = max(first, FIRST_PART * question.target.n_tokens)
    own = runs[runs["n_tokens"] >= first].sort_values("n_tokens")
    own = _with_total(own, question).assign(phase=_phases(own, question, decay))
    judged = own[own["phase"] != FALLING]
    last = float(runs["n_tokens"].max())
    if own.empty:
        raise InputError(
            f"run {runs['run'].iloc[0]} has no point beyond {format_count(first)} tokens, the "
            f"larger of its warmup and {FIRST_PART:.0%} of the target (its last one is at "
            f"{format_count(last)}): watch it later"
        )
    if judged.empty:
        raise InputError(
            f"run {runs['run'].iloc[0]} has points within its final decay alone (from "
            f"{format_count(decay)} tokens), which no law describes: watch it at its end, or give "
            "the points a phase"
        )
    return WatchedRows(judged, last, len(own) - len(judged))


def _check_run(runs: pd.DataFrame, question: Question) -> None:
    """Refuse several runs, and a run of another size than that of the target."""
    target, names = question.target, list(dict.fromkeys(runs["run"]))
    if not names:
        raise InputError("the log holds no point yet: watch it later")
    if len(names) > 1:
        raise InputError(
            f"the log holds {len(names)} runs ({', '.join(map(str, names[:5]))}): name the large "
            "run with --run"
        )
    sizes = runs["n_params"].dropna() if "n_params" in runs else pd.Series(dtype=float)
    off = sizes[(sizes / target.n_params - 1).abs() > SAME]
    if len(off):
        raise InputError(
            f"run {names[0]} has {format_count(float(off.iloc[0]))} parameters, and the "
            f"prediction is for {format_count(target.n_params)}: give --n-params"
        )
    last = float(runs["n_tokens"].max())
    if last > target.n_tokens * (1 + SAME):
        raise InputError(
            f"run {names[0]} has {format_count(last)} tokens, and the prediction is for "
            f"{format_count(target.n_tokens)}: run `dcpt recommend` with --n-tokens, the tokens at "
            "its end"
        )


def _constant_part(question: Question) -> tuple[float, float]:
    """Tokens at which the target's warmup ends and its final decay begins."""
    target = question.target
    if question.shape is None:
        decays = question.phase == "annealed"
        return target.warmup_tokens or 0.0, target.n_tokens / (1 + DECAY if decays else 1)
    rates = question.shape.curve().rates
    at_peak = np.flatnonzero(rates >= (1 - 1e-9) * question.shape.peak) + 1
    scale = target.n_tokens / question.shape.n_steps
    return float(at_peak[0]) * scale, float(at_peak[-1]) * scale


def _phases(own: pd.DataFrame, question: Question, decay: float) -> pd.Series[str]:
    """The phase of each point: that of the log, else what its place in the target says."""
    tokens, target = own["n_tokens"], question.target
    phases = pd.Series("constant", own.index, dtype=object)
    if question.phase == "annealed":
        reads_falling = question.shape is not None and needs_history(question.fit, question.phase)
        phases[tokens > decay * (1 + SAME)] = "constant" if reads_falling else FALLING
        phases[tokens >= END_PART * target.n_tokens] = "annealed"
    return own["phase"].fillna(phases) if "phase" in own else phases


def _with_total(own: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Add the loss on all general channels together, if the log has all of theirs alone."""
    name, weights = f"loss_{GENERAL_TOTAL}", question.fit.general_weights
    if not weights or name in own or not all(f"loss_{channel}" in own for channel in weights):
        return own
    parts = {channel: own[f"loss_{channel}"] for channel in weights}
    return own.assign(**{name: weighted_total(parts, weights)})
