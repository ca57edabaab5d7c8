"""Schedules are proposed from logged rates where their form is clear, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from dcpt.trainer_logs.rates import guess_segments
from dcpt.trainer_logs.records import Series

PEAK, WARMUP, N_STEPS = 3e-4, 100, 2000


def rate_at(kind: str, step: int) -> float:
    """The rate of a step, as a share of the peak."""
    if step < WARMUP:
        return step / WARMUP
    done = (step - WARMUP) / (N_STEPS - WARMUP)
    return {
        "linear": 1 - done,
        "cosine": 0.5 * (1 + np.cos(np.pi * done)),
        "cosine to a tenth": 0.1 + 0.45 * (1 + np.cos(np.pi * done)),
        "late linear": min(1.0, (N_STEPS - step) / 400),
        "quadratic": (1 - done) ** 2,
        "square root": (WARMUP / step) ** 0.5,
        "steps": 1.0 if step < 1000 else 0.3,
        "constant": 1.0,
    }[kind]


def logged(kind: str, every: int = 10) -> Series:
    steps = np.arange(every, N_STEPS + 1, every)
    return Series(steps, PEAK * np.array([rate_at(kind, step) for step in steps]))


@pytest.mark.parametrize("every", [1, 10, 25, 50])
@pytest.mark.parametrize(
    ("kind", "segments"),
    [
        ("linear", [("linear", 100, PEAK), ("linear", 2000, 0.0)]),
        ("cosine", [("linear", 100, PEAK), ("cosine", 2000, 0.0)]),
        ("cosine to a tenth", [("linear", 100, PEAK), ("cosine", 2000, PEAK / 10)]),
        (
            "late linear",
            [("linear", 100, PEAK), ("constant", 1600, PEAK), ("linear", 2000, 0.0)],
        ),
    ],
)
def test_warmup_and_decay_are_found(
    kind: str, segments: list[tuple[str, int, float]], every: int
) -> None:
    found = guess_segments(logged(kind, every), N_STEPS)
    assert [(part.shape, part.to_step) for part in found] == [part[:2] for part in segments]
    ends = [part.end for part in found]
    np.testing.assert_allclose(ends, [part[2] for part in segments], rtol=1e-3, atol=PEAK / 1e4)


@pytest.mark.parametrize("kind", ["quadratic", "square root", "steps", "constant"])
def test_other_forms_are_left_to_the_person(kind: str) -> None:
    assert guess_segments(logged(kind), N_STEPS) == ()


def test_a_run_without_warmup_starts_at_its_peak() -> None:
    steps = np.arange(10, 1001, 10)
    (segment,) = guess_segments(Series(steps, 1e-3 * (1 - steps / 1000)), 1000)
    assert (segment.shape, segment.lr_from, segment.end) == ("linear", 1e-3, 0.0)


def test_the_schedule_reaches_the_last_evaluation() -> None:
    steps = np.arange(10, 951, 10)
    (segment,) = guess_segments(Series(steps, 1e-3 * (1 - steps / 1000)), 1000)
    assert segment.to_step == 1000


def test_a_run_that_logs_too_rarely_does_not_tell_its_peak() -> None:
    steps = np.arange(50, 1001, 50)
    assert guess_segments(Series(steps, 1e-3 * (1 - steps / 1000)), 1000) == ()
