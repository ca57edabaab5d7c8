"""Find a run that disagrees with the runs around it and with the laws.

A run with a wrong base, share or evaluation moves the answer unseen: the laws spread their error
over all runs, and the intervals become as wide as its fault. The deviation of a run is the median
of ln(measured/fitted) over its points. A run is named if its deviation from the laws and its
deviation from its neighbours have the same sign, both are at least ``LEAST``, both are at least
``TIMES`` the spread of the table's runs, and no other run is half as far off. Its neighbours differ
from it in the size, the share or the rate alone. Tables with a single share are not judged: their
runs are models of their own, and a model of three layers among deeper ones is off by 5 % without
any fault.

By ``python experiments/bad_runs.py --tables 15`` no run is named in 10 healthy real tables and 60
synthetic ones. Of 56 planted faults of each size, 0 % are named at 1 % of the loss, 21 % at 2 %,
86 % at 3 %, 91 % at 5 % and 98 % at 10 %; no other run is named instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.flags import Flag
from dcpt.laws.fits.channel_fit import ChannelFit
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.record import SAME, distinct
from dcpt.quantities import format_loss

Array = NDArray[np.float64]

LEAST = 0.02
"""Smallest deviation, relative to the loss. The laws' own misfit of a run reaches 0.014."""

TIMES = 5.0
"""Smallest deviation in units of the spread of all runs' deviations."""

ALONE = 0.5
"""Another run that is off by this part of the largest deviation shows that the laws are wrong there
rather than a run: of 512 mixtures of 17 sources, described by the share of one source alone, some
are off by 12 %."""

FEWEST_NEIGHBOURS = 2
"""With one neighbour it is not known which of the two is wrong."""

FEWEST_JUDGED = 6
"""With fewer runs that have neighbours, their spread is not known."""

MAD = 1.4826
"""Standard deviation over the median absolute deviation, of normal errors."""

AXES = ("n_params", "ratio", "learning_rate")

RUN_OFF = "one_run_off"
"""The kind of the flag."""


@dataclass(frozen=True)
class RunOff:
    """A run that disagrees with the runs around it and with the laws.

    Args:
        run: Its name.
        deviations: Its deviation from the laws, ln(measured/fitted), by channel.
        gaps: The same in nats per token, by channel.
        strength: The smaller of its deviations from laws and neighbours, in units of the smallest
            that is named, of the channel where it is largest.
    """

    run: str
    deviations: Mapping[str, float]
    gaps: Mapping[str, float]
    strength: float


def find_run_off(data: Mapping[str, ChannelData], fits: Mapping[str, ChannelFit]) -> RunOff | None:
    """Find the run that deviates most, if any does.

    Args:
        data: The points of each channel.
        fits: The fits of the same channels.

    Returns:
        The run with its deviations in every channel in which it is off; None if no run is off.
    """
    found = {name: _deviations(data[name], fits[name]) for name in fits}
    strengths = {name: _strengths(data[name], frame) for name, frame in found.items()}
    largest = pd.DataFrame(strengths).max(axis=1).sort_values(ascending=False)
    if len(largest) < FEWEST_JUDGED or largest.iloc[0] < 1:
        return None
    if largest.iloc[1] > ALONE * largest.iloc[0]:
        return None
    run = largest.index[0]
    off = [name for name, of in strengths.items() if of.get(run, 0.0) >= 1]
    return RunOff(
        run=data[off[0]].run_names[run],
        deviations={name: float(found[name]["deviation"][run]) for name in off},
        gaps={name: float(found[name]["gap"][run]) for name in off},
        strength=float(largest.iloc[0]),
    )


def flag_run_off(off: RunOff) -> Flag:
    """The flag of a run that is off."""
    parts = [
        f"its {channel} loss is {format_loss(abs(gap))} nats {'above' if gap > 0 else 'below'} them"
        for channel, gap in off.gaps.items()
    ]
    return Flag(
        RUN_OFF,
        f"The run {off.run} disagrees with the runs around it and with the laws: "
        f"{' and '.join(parts)}. Check its base, its settings and its evaluation. If it is wrong, "
        "give its rows a reason in the column excluded.",
        {"run": off.run},
        {"gaps": dict(off.gaps)},
    )


def _deviations(data: ChannelData, fit: ChannelFit) -> pd.DataFrame:
    """Columns deviation and gap by run (its index in ``run_names``): medians over its points."""
    points = pd.DataFrame(dict(fit.residuals))
    weights = {(p, law): w for p, c in fit.comparisons.items() for law, w in c.weights.items()}
    points["weight"] = [weights.get(key, 0.0) for key in zip(points.phase, points.law, strict=True)]
    points = points[points["weight"] > 0]
    points["weighted"] = points["weight"] * points["predicted"]
    by_row = points.groupby("row")
    measured = by_row["measured"].first()
    fitted = by_row["weighted"].sum() / by_row["weight"].sum()
    both = pd.DataFrame({"deviation": np.log(measured / fitted), "gap": measured - fitted})
    runs = pd.Series(data.runs, index=data.rows)
    found: pd.DataFrame = both.groupby(runs.loc[both.index].to_numpy()).median()
    return found


def _strengths(data: ChannelData, found: pd.DataFrame) -> pd.Series:
    """How far each run is off, 1 for the smallest deviation that is named; 0 if not judged."""
    strengths = pd.Series(0.0, found.index)
    if len(found) == 0 or len(distinct(data.points, "ratio")) < 2:
        return strengths
    deviation = found["deviation"].to_numpy()
    neighbours = _neighbours(data, found.index.to_numpy())
    judged = np.array([len(near) >= FEWEST_NEIGHBOURS for near in neighbours])
    if judged.sum() < FEWEST_JUDGED:
        return strengths
    around = [np.median(deviation[near]) if near else 0.0 for near in neighbours]
    from_neighbours = deviation - np.array(around)
    spread = max(_spread(from_neighbours[judged]), _spread(deviation))
    agree = np.sign(from_neighbours) == np.sign(deviation)
    off = np.minimum(np.abs(from_neighbours), np.abs(deviation)) * (judged & agree)
    return pd.Series(off / max(LEAST, TIMES * spread), found.index)


def _spread(values: Array) -> float:
    return float(MAD * np.median(np.abs(values - np.median(values))))


def _neighbours(data: ChannelData, runs: NDArray[np.intp]) -> list[list[int]]:
    """Positions of each run's neighbours: equal on two axes and next to it, or equal, on the third.

    Args:
        data: The points of the channel.
        runs: Indices of R runs in ``run_names``.
    """
    _, first = np.unique(data.runs, return_index=True)
    points = data.points.take(first[np.searchsorted(np.unique(data.runs), runs)])
    levels = pd.DataFrame({axis: _levels(getattr(points, axis), len(runs)) for axis in AXES})
    near: list[set[int]] = [set() for _ in runs]
    for axis in AXES:
        others = [name for name in AXES if name != axis]
        for _, line in levels.groupby(others):
            steps = [part.index.tolist() for _, part in line.groupby(axis)]
            for before, here, after in zip([[], *steps[:-1]], steps, [*steps[1:], []], strict=True):
                for run in here:
                    near[run] |= {*before, *here, *after} - {run}
    return [sorted(of_run) for of_run in near]


def _levels(values: Array | None, size: int) -> NDArray[np.intp]:
    """The rank of each value among the distinct ones, shape (size,); 0 where they are unknown."""
    if values is None:
        return np.zeros(size, dtype=np.intp)
    order = np.argsort(values)
    steps = np.diff(values[order]) > SAME * np.abs(values[order][1:])
    levels = np.zeros(size, dtype=np.intp)
    levels[order[1:]] = np.cumsum(steps)
    return levels
