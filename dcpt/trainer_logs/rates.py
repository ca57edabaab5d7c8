"""The learning rate of a log as a schedule: warmup, constant part, linear or cosine decay.

A schedule is proposed only if it is within 1 % of the peak of all logged rates; a person checks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpt.quantities import format_rate
from dcpt.table.schedules import Segment
from dcpt.trainer_logs.records import RunLog, Series

Floats = NDArray[np.float64]

CLOSE = 0.01
"""Largest difference from a logged rate, as a share of the peak."""

AT_PEAK = 0.999
"""A rate above this share of the peak is the peak."""

FEWEST = 4
"""Logged rates from which a schedule is proposed."""


@dataclass(frozen=True)
class Proposal:
    """A schedule for the logs of some runs.

    Args:
        name: Its name, from shape, peak and length.
        segments: Its segments.
    """

    name: str
    segments: tuple[Segment, ...]


def propose_schedules(logs: Sequence[RunLog], metric: str) -> dict[str, Proposal]:
    """Schedules of logs, by run; runs whose rates have no simple form are left out.

    Args:
        logs: The logs.
        metric: The metric of the learning rate.
    """
    found = {}
    for log in logs:
        rates = log.metrics.get(metric)
        segments = () if rates is None else guess_segments(rates, log.last_step)
        if segments:
            peak = max(max(segment.lr_from, segment.end) for segment in segments)
            name = f"{segments[-1].shape}_{format_rate(peak)}_{segments[-1].to_step}"
            found[log.run] = Proposal(name, segments)
    return found


def guess_segments(rates: Series, last_step: int) -> tuple[Segment, ...]:
    """The segments of a schedule that falls at its end; empty if they are unclear.

    Args:
        rates: The logged learning rates.
        last_step: The last step of the log, which the schedule has to reach.
    """
    steps, values = rates.steps.astype(np.float64), rates.values
    if len(steps) < FEWEST or not np.isfinite(values).all() or values.max() <= 0:
        return ()
    peak = float(f"{values.max():.6g}")
    top = np.flatnonzero(values >= AT_PEAK * peak)
    warmup = _find_warmup(steps[: top[0]], values[: top[0]], peak)
    after = slice(top[-1] + 1, None)
    if warmup is None or not len(steps[after]):
        return ()
    if warmup == 0 and top[-1] == 0:
        first = _rate_at_start(steps, values)
        if not peak <= first <= (1 + 2 * CLOSE) * peak:
            return ()
        peak = first
    decay = _find_linear(steps[after], values[after], peak, last_step)
    for start in (warmup, int(steps[top[-1]])):
        decay = decay or _find_cosine(steps[after], values[after], peak, start, last_step)
    if decay is None:
        return ()
    start, segment = decay
    segments = [] if warmup == 0 else [_segment("linear", warmup, 0.0, peak)]
    if warmup < start < segment.to_step:
        segments.append(_segment("constant", start, peak, peak))
    return (*segments, segment)


def _segment(shape: str, to_step: int, lr_from: float, lr_to: float) -> Segment:
    return Segment.model_validate(
        {"shape": shape, "to_step": to_step, "lr_from": lr_from, "lr_to": float(f"{lr_to:.4g}")}
    )


def _find_warmup(steps: Floats, values: Floats, peak: float) -> int | None:
    """Steps of a linear warmup from 0; 0 if none was logged, None if it has another form."""
    if not len(steps):
        return 0
    if values[-1] <= 0:
        return None
    warmup = peak * steps[-1] / values[-1]
    fits = np.abs(peak * steps / warmup - values).max() <= CLOSE * peak
    return max(1, round(float(warmup))) if fits else None


def _rate_at_start(steps: Floats, values: Floats) -> float:
    """The rate at step 0 of a run without warmup, of which the first rate is logged later."""
    slope = (values[1] - values[0]) / (steps[1] - steps[0])
    return float(f"{values[0] - slope * steps[0]:.4g}")


def _find_linear(
    steps: Floats, values: Floats, peak: float, last_step: int
) -> tuple[int, Segment] | None:
    """A linear decay through all logged rates: its start and its segment."""
    if len(steps) < 2:
        return None
    slope = (values[-1] - values[0]) / (steps[-1] - steps[0])
    line = values[0] + slope * (steps - steps[0])
    if slope >= 0 or np.abs(line - values).max() > CLOSE * peak:
        return None
    start = round(float(steps[0] + (peak - values[0]) / slope))
    end = max(last_step, int(steps[-1]))
    lowest = max(0.0, float(values[0] + slope * (end - steps[0])))
    return max(0, start), _segment("linear", end, peak, lowest)


def _find_cosine(
    steps: Floats, values: Floats, peak: float, start: int, last_step: int
) -> tuple[int, Segment] | None:
    """Half a cosine from the warmup to the last logged rate, or on to 0."""
    last, lowest = float(steps[-1]), float(values[-1])
    turned = float(np.arccos(np.clip(2 * lowest / peak - 1, -1, 1)))
    for end, low in ((last, lowest), (start + (last - start) * np.pi / max(turned, 1e-9), 0.0)):
        part = (steps - start) / (end - start)
        curve = low + (peak - low) * 0.5 * (1 + np.cos(np.pi * part))
        if np.abs(curve - values).max() <= CLOSE * peak and round(end) >= last_step:
            return start, _segment("cosine", round(end), peak, low)
    return None


def write_schedules(proposals: dict[str, Proposal]) -> str:
    """The text of a file for ``dcpt fit --schedules``."""
    lines = [
        "# Learning-rate schedules, drafted by dcpt import from the rates in the logs. Check them,",
        "# and give the file to dcpt fit --schedules.",
    ]
    for proposal in {p.name: p for p in proposals.values()}.values():
        lines.append(f"{proposal.name}:")
        for part in proposal.segments:
            to = "" if part.shape == "constant" else f", lr_to: {part.end:g}"
            lines.append(
                f"  - {{shape: {part.shape}, to_step: {part.to_step}, "
                f"lr_from: {part.lr_from:g}{to}}}"
            )
    return "\n".join(lines) + "\n"
