"""The learning-rate schedule of a target: as the runs decay theirs, unless it names another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.decide.records import Target
from dcpt.errors import InputError
from dcpt.laws.points.record import HISTORY, Points
from dcpt.table.schedule_phases import FALLING, end_phase

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit
    from dcpt.table.schedules import Schedule

Bools = NDArray[np.bool_]


def choose_schedule(fit: Fit, target: Target) -> str | None:
    """The name of the runs' schedule that the target follows, stretched to its length.

    Without a name it is one that ends in the phase decided on, of the runs nearest in length.

    Args:
        fit: The fitted laws.
        target: The target.

    Returns:
        None where the runs name no schedule: a warmup, a constant rate and, in the annealed phase,
        a linear decay to zero are assumed.

    Raises:
        InputError: If the target names a schedule that no run has, or one that ends in no phase.
    """
    if target.schedule is not None:
        _check_named(fit, target.schedule)
        return target.schedule
    ends = {name: end_phase(schedule) for name, schedule in fit.schedules.items()}
    alike = [name for name, end in ends.items() if end == fit.phase_for_decisions] or list(ends)
    if not alike:
        return None
    if fit.batch_tokens is None:
        return max(alike, key=lambda name: fit.schedules[name].n_steps)
    steps = target.n_tokens / fit.batch_tokens
    return min(alike, key=lambda name: abs(math.log(fit.schedules[name].n_steps / steps)))


def phase_of_target(fit: Fit, target: Target) -> str:
    """The phase that the target ends in: that of its schedule, else that of the runs' ends."""
    if target.schedule is None or target.schedule not in fit.schedules:
        return fit.phase_for_decisions
    return end_phase(fit.schedules[target.schedule])


def points_along(
    fit: Fit, channel: str, frame: pd.DataFrame, shape: Schedule, at_end: Bools, n_tokens: float
) -> Points:
    """Build points on the way of a run that follows a schedule, and at its possible ends.

    Args:
        fit: The fit, whose runs have one batch.
        channel: The channel to predict.
        frame: M rows with the table's columns, at one peak learning rate.
        shape: The schedule.
        at_end: Whether a row is at the end of the schedule, stretched to its tokens; the others lie
            on the schedule stretched to ``n_tokens``. Shape (M,).
        n_tokens: Tokens of the whole run.
    """
    assert fit.batch_tokens is not None
    steps = np.rint(frame["n_tokens"].to_numpy(dtype=np.float64) / fit.batch_tokens).astype(int)
    whole = max(round(n_tokens / fit.batch_tokens), int(steps.max()))
    lengths = np.where(at_end, steps, whole)
    peak = float(frame["learning_rate"].iloc[0]) if "learning_rate" in frame else shape.peak
    schedules = {str(n): shape.stretched(n, peak) for n in np.unique(lengths).tolist()}
    return fit.points(channel, frame.assign(schedule=lengths.astype(str)), schedules)


def needs_history(fit: Fit, phase: str) -> bool:
    """Whether a law with weight in a phase reads the history of the learning rate."""
    return any(
        weight > 0 and not HISTORY.isdisjoint(fit.by_channel[channel].members[law].law.needs)
        for channel in fit.channels
        for law, weight in fit.weights(channel, phase).items()
    )


def missing_history(fit: Fit, target: Target, phase: str) -> list[str]:
    """What the target lacks for laws of the history of its learning rate, a sentence each."""
    if not needs_history(fit, phase):
        return []
    problems = []
    if fit.batch_tokens is None:
        problems.append(
            "laws of the schedule have weight and count steps, but the runs have several "
            "batch_tokens or none: fit runs of one batch, or name other laws with --law"
        )
    if not fit.schedules and target.warmup_tokens is None and fit.warmup_tokens is None:
        problems.append(
            "target warmup_tokens is missing and laws of the schedule need it: give the tokens of "
            "its warmup (the runs have several or none)"
        )
    return problems


def _check_named(fit: Fit, name: str) -> None:
    if name not in fit.schedules:
        known = ", ".join(fit.schedules) or "none"
        raise InputError(
            f"target schedule {name!r} is not among those of the fitted runs ({known}); name one "
            "of them, or leave it out"
        )
    if end_phase(fit.schedules[name]) == FALLING:
        raise InputError(
            f"target schedule {name!r} ends below its peak and above a tenth of it, and decisions "
            "are made at a constant rate or after a decay; name another"
        )
