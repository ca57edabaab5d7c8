"""The trunks that a study asks for: those of its grid, and single runs."""

from __future__ import annotations

from dcpt.errors import InputError
from dcpt.grid.planned import Trunk
from dcpt.study.bases import Bases
from dcpt.study.schema import GridPart, Study


def requested_trunks(study: Study) -> list[Trunk]:
    """The trunks of the grid and the listed runs, in the order of the study.

    Raises:
        InputError: If learning rates are multiples of a peak that is not known.
    """
    trunks = [trunk for part in study.grid for trunk in _cross(part, study.bases)]
    return trunks + [
        Trunk(run.base, run.ratio, run.learning_rate, run.seed, run.tokens) for run in study.runs
    ]


def _cross(part: GridPart, bases: Bases) -> list[Trunk]:
    rates = {label: _rates(part, label, bases) for label in part.bases}
    return [
        Trunk(label, ratio, rate, seed)
        for label in part.bases
        for rate in rates[label]
        for ratio in part.ratios
        for seed in part.seeds
    ]


def _rates(part: GridPart, label: str, bases: Bases) -> list[float]:
    if part.learning_rates:
        return part.learning_rates
    peak = peak_of(label, bases)
    if peak is None:
        raise InputError(
            f"grid: learning_rate_multiples need the peak learning rate of base {label!r}; "
            f"give bases.checkpoints.{label}.peak_learning_rate, or absolute learning_rates"
        )
    return [float(f"{multiple * peak:.6g}") for multiple in part.learning_rate_multiples]


def peak_of(label: str, bases: Bases) -> float | None:
    """Peak learning rate of a base's pre-training; None where a checkpoint's is not given."""
    if bases.ladder is not None and label in bases.ladder.sizes:
        own = bases.ladder.sizes[label].learning_rate
        return bases.ladder.learning_rate if own is None else own
    return bases.checkpoints[label].peak_learning_rate
