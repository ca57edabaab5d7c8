"""How far predictions can be trusted: laws fitted to cheap points predict the dearer ones.

Rolling-origin tests (Tashman 2000): all points above a part of the largest compute are held out,
the laws with weight are fitted to the others, and their stack predicts what was held out. The error
is recorded against the factor in compute that was bridged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.fits.coverage import PHASES
from dcpt.laws.fits.folds import Fold, predict_held_out
from dcpt.laws.fits.stack import Stack
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.record import SAME, Points, distinct
from dcpt.laws.solver.search import LawFit
from dcpt.quantities import format_factor, format_loss

Array = NDArray[np.float64]

FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Factors in compute: points above the largest compute divided by each of them are held out.

Points above the largest compute of each smaller size are held out as well."""

SHARE_WITHIN = 0.9
"""Part of the tested points whose error is within the recorded one."""

FEWEST_POINTS = 5
"""Fewest points that the tests of a phase predict."""


@dataclass(frozen=True)
class Horizon:
    """Errors of rolling-origin tests in one phase.

    Args:
        compute: Largest N x D of the channel's points, parameters x tokens; tokens alone where the
            table has no sizes.
        tests: (factor, error, points) by ascending factor: nine of ten of the points predicted at
            up to this factor in compute were missed by at most the error, nats.
    """

    compute: float
    tests: tuple[tuple[float, float, int], ...]

    @property
    def factor(self) -> float:
        """Largest factor in compute that was tested."""
        return self.tests[-1][0]

    def error(self, factor: float) -> float:
        """Error at up to a factor in compute, nats; the last one beyond the tests."""
        within = [error for tested, error, _ in self.tests if factor <= tested * (1 + SAME)]
        return within[0] if within else self.tests[-1][1]


def compute_of(points: Points) -> Array:
    """N x D of points, or D where the points have no size, shape (M,)."""
    tokens = points.get("n_tokens")
    return tokens if points.n_params is None else tokens * points.n_params


def measure_horizons(
    data: ChannelData,
    fits: Mapping[str, LawFit],
    stacks: Mapping[str, Stack],
    fixed: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
) -> dict[str, Horizon]:
    """Run the rolling-origin tests of a channel.

    A law is fitted once to the cheaper points of a test, also if it describes both phases.

    Args:
        data: The channel's points.
        fits: Fitted laws by name.
        stacks: Stack by phase.
        fixed: Parameters fixed at a value, by name.
        bounds: Bounds that replace a parameter's own, by name.

    Returns:
        The errors by phase; a phase is absent if no law of its stack can be fitted to a cheaper
        part of the points.
    """
    compute = compute_of(data.points)
    folds = [
        Fold("compute", f"above {cut:.3g}", compute > cut * (1 + SAME))
        for cut in _cuts(data.points, compute)
        if (compute <= cut).any()
    ]
    names = dict.fromkeys(n for stack in stacks.values() for n in stack.weights if n in fits)
    held_out = {n: predict_held_out(fits[n], data, folds, fixed, bounds) for n in names}
    tested = {
        phase: _test_phase(data, folds, stack, PHASES[phase], held_out)
        for phase, stack in stacks.items()
    }
    return {phase: horizon for phase, horizon in tested.items() if horizon is not None}


def _test_phase(
    data: ChannelData,
    folds: Sequence[Fold],
    stack: Stack,
    annealed: bool,
    held_out: Mapping[str, Sequence[Array]],
) -> Horizon | None:
    """Errors of a stack at the held-out points of a phase; None with too few points."""
    compute = compute_of(data.points)
    in_phase = (data.points.get("annealed") > 0) == annealed
    bridged, errors = [], []
    for number, fold in enumerate(folds):
        asked = fold.held & in_phase
        predicted = {n: held_out[n][number] for n in stack.weights if n in held_out}
        able = {n: losses for n, losses in predicted.items() if np.isfinite(losses[asked]).any()}
        if able:
            losses = np.stack(list(able.values()))
            there = asked & np.isfinite(losses).all(axis=0)
            mean = stack.part(list(able)).mean(losses[:, there])
            errors.append(np.abs(mean - data.losses[there]))
            bridged.append(compute[there] / compute[~fold.held].max())
    if sum(map(len, errors)) < FEWEST_POINTS:
        return None
    tests = _by_factor(np.concatenate(bridged), np.concatenate(errors))
    return Horizon(float(compute.max()), tests)


def _cuts(points: Points, compute: Array) -> list[float]:
    """Amounts of compute above which points are held out."""
    cuts = {float(compute.max() / factor) for factor in FACTORS}
    for size in distinct(points, "n_params")[:-1]:
        cuts.add(float(compute[points.get("n_params") <= size * (1 + 1e-6)].max()))
    return sorted(cuts)


def _by_factor(bridged: Array, errors: Array) -> tuple[tuple[float, float, int], ...]:
    """Errors at up to each factor, and at the largest factor."""
    edges = [factor for factor in FACTORS if bridged.min() < factor < bridged.max()]
    tests = []
    for edge in (*edges, float(bridged.max())):
        near = bridged <= edge * (1 + SAME)
        error = float(np.quantile(errors[near], SHARE_WITHIN))
        tests.append((float(edge), error, int(near.sum())))
    return tuple(tests)


def say_horizon(horizons: Mapping[str, Horizon], asked: float | None) -> list[str]:
    """The result of the tests in a sentence; nothing if there are none.

    Args:
        horizons: By channel.
        asked: N x D of the question; None if there are several questions.
    """
    if not horizons:
        return []
    compute = max(h.compute for h in horizons.values())
    tested = min(h.factor for h in horizons.values())
    factor = tested if asked is None else min(max(asked / compute, 1.0), tested)
    errors = " and ".join(
        f"{format_loss(h.error(factor))} ({name})" for name, h in horizons.items()
    )
    reach = min(
        next((t for t, _, _ in h.tests if factor <= t * (1 + SAME)), h.factor)
        for h in horizons.values()
    )
    words = (
        f"Laws fitted to the cheaper points alone predicted nine of ten dearer points within "
        f"{errors} nats, up to {format_factor(reach)} times the compute (N x D) of those fitted."
    )
    if asked is not None and asked > compute * (1 + SAME):
        beyond = ", which is beyond these tests" if asked > compute * tested * (1 + SAME) else ""
        words += f" The target has {format_factor(asked / compute)} times that of the runs{beyond}."
    return [words]
