"""The phase of rows, which the schedule tells where no column does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.table.rate_histories import CLOSE, steps_of
from dcpt.table.schedules import Schedule

FALLING = "falling"
"""The rate has left its peak and not reached the end of its fall. Only laws of the history of the
learning rate know such points."""

END_OF_FALL = 0.1
"""Share of the peak at or below which a fallen rate counts as annealed: cosine schedules commonly
end at a tenth of the peak."""


def phases_of(table: pd.DataFrame, schedules: Mapping[str, Schedule] | None) -> pd.Series[str]:
    """The phase of each row: its column, else what its schedule says at its step.

    Args:
        table: A runs table with a plain index.
        schedules: Those that the column ``schedule`` names; None where they are not known.

    Returns:
        ``constant``, ``annealed`` or ``falling``, and ``base`` where the column says so; rows of
        which nothing is known are taken as constant.
    """
    phases = pd.Series(None, index=table.index, dtype=object)
    if "phase" in table.columns:
        phases = table["phase"].astype(object)
    if schedules is not None and "schedule" in table.columns:
        steps = steps_of(table)
        for name, schedule in schedules.items():
            mine = phases.isna() & (table["schedule"] == name) & (steps >= 1)
            mine &= steps <= schedule.n_steps
            phases[mine] = _phases_at(schedule, steps[mine].astype(np.intp))
    return phases.fillna("constant")


def end_phase(schedule: Schedule) -> str:
    """The phase at the last step of a schedule."""
    return str(_phases_at(schedule, np.array([schedule.n_steps], dtype=np.intp))[0])


def _phases_at(schedule: Schedule, steps: NDArray[np.intp]) -> NDArray[np.object_]:
    """The phase at steps of a schedule, shape (M,)."""
    rates = schedule.curve().rates
    at_peak = np.flatnonzero(rates >= (1.0 - 1e-9) * schedule.peak)
    last = int(at_peak[-1]) + 1 if len(at_peak) else 0
    fallen = rates[steps - 1] <= END_OF_FALL * (1.0 + CLOSE) * schedule.peak
    return np.where(steps <= last, "constant", np.where(fallen, "annealed", FALLING)).astype(object)
