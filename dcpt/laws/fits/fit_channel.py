"""The fit of a channel: its laws are fitted, compared, weighted and bootstrapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.fits.channel_fit import ChannelFit, picks
from dcpt.laws.fits.coverage import PHASES, what_was_seen
from dcpt.laws.fits.draws import draw_errors, draw_ranks, refit
from dcpt.laws.fits.folds import list_folds, predict_held_out, size_parameters
from dcpt.laws.fits.horizon import Horizon, measure_horizons
from dcpt.laws.fits.members import Member
from dcpt.laws.fits.stack import Candidate, Comparison, compare_laws
from dcpt.laws.flags.law_flags import flag_law
from dcpt.laws.formulas import LAWS
from dcpt.laws.law import Law
from dcpt.laws.menu import check_formula
from dcpt.laws.points.channel_data import (
    ChannelData,
)
from dcpt.laws.points.rate_rule import rule_of
from dcpt.laws.points.record import distinct
from dcpt.laws.solver.search import LawFit, fit_law
from dcpt.laws.suitable import data_for

Array = NDArray[np.float64]


MOST_DRAWN = 5_000
"""Largest number of points of a channel for folds and draws: what varies is runs, not points."""


@dataclass(frozen=True)
class FitSettings:
    """Settings that all channels are fitted with.

    Args:
        fixed: Parameters fixed at a value, by name.
        bounds: Bounds that replace a parameter's own, by name.
        delta: Threshold of the Huber loss, in log loss.
        seed: Seed of starts and draws.
        run_weights: Weight of each run in each draw, shape (n_draws, n_runs).
        by_hand: Laws that were asked for by name.
    """

    fixed: Mapping[str, float]
    bounds: Mapping[str, tuple[float, float]]
    delta: float
    seed: int
    run_weights: Array
    by_hand: frozenset[str]


def fit_channel(
    data: ChannelData,
    laws: Sequence[Law],
    how: FitSettings,
    stream: int,
    near: ChannelFit | None = None,
) -> ChannelFit:
    """Fit, compare, weight and bootstrap the laws of a channel.

    Args:
        data: The channel's points.
        laws: The laws.
        how: Settings of the fit.
        stream: Number of the channel, for random numbers of its own.
        near: A fit to nearly the same points, from which the laws start. No rolling-origin tests
            are run then: those of that fit are shown.
    """
    fits: dict[str, LawFit] = {}
    held_out: dict[str, list[Array]] = {}
    few = _few_points(data, how.seed)
    folds = list_folds(few)
    for law in laws:
        if law.name not in LAWS:
            check_formula(law, data_for(law, data).points, how.fixed)
        fitted = fit_law(
            law,
            data,
            fixed=how.fixed,
            bounds=how.bounds,
            delta=how.delta,
            seed=how.seed,
            near=None if near is None else near.members[law.name].values,
        )
        if not np.isfinite(fitted.objective):
            continue  # no start gives losses above 0 at every point
        fits[law.name] = fitted if few is data else replace(fitted, data=data_for(law, few))
        held_out[law.name] = predict_held_out(fits[law.name], few, folds, how.fixed, how.bounds)
    lost = [law.name for law in laws if law.name not in fits]
    if lost and (not fits or not how.by_hand.isdisjoint(lost)):
        raise InputError(
            f"channel {data.channel}: no parameters of {', '.join(lost)} give losses above 0 at "
            "every point; check the losses of this channel in the table, or name another law"
        )
    comparisons = {
        phase: compare_laws(few, _candidates(fits, annealed), folds, held_out, annealed)
        for phase, annealed in PHASES.items()
        if _candidates(fits, annealed)
    }
    ranks = draw_ranks(len(how.run_weights), how.seed, stream)
    taken = [picks(ranks, compared.whole) for compared in comparisons.values()]
    members = {
        name: _make_member(fitted, how, [rows[name] for rows in taken if name in rows])
        for name, fitted in fits.items()
    }
    return ChannelFit(
        channel=data.channel,
        side=data.side,
        members=members,
        comparisons=comparisons,
        seen=what_was_seen(data, few.points, folds, fits, comparisons),
        ranks=ranks,
        errors=draw_errors(len(ranks), how.seed, stream),
        left_out=_left_out(data, fits),
        residuals=_residuals(fits),
        horizons={} if near is not None else _horizons(few, fits, comparisons, how),
    )


def _few_points(data: ChannelData, seed: int) -> ChannelData:
    """The points for folds, draws and residuals: a random part if there are very many."""
    size = len(data.losses)
    if size <= MOST_DRAWN:
        return data
    mask = np.zeros(size, dtype=bool)
    mask[np.random.default_rng([seed, 4]).permutation(size)[:MOST_DRAWN]] = True
    return data.take(mask)


def _candidates(fits: Mapping[str, LawFit], annealed: bool) -> dict[str, Candidate]:
    """The laws that were fitted to points of a phase."""
    return {
        name: Candidate(
            n_fitted=int((fitted.upper > fitted.lower).sum()),
            misfit=fitted.objective / len(fitted.data.losses),
        )
        for name, fitted in fits.items()
        if saw_phase(fitted, annealed)
    }


def saw_phase(fitted: LawFit, annealed: bool) -> bool:
    """Whether a law was fitted to points of a phase; a column may be missing in all of them."""
    there = (fitted.data.points.get("annealed") > 0) == annealed
    return ("annealed" if annealed else "constant") in fitted.law.phases and bool(there.any())


def _horizons(
    data: ChannelData,
    fits: Mapping[str, LawFit],
    comparisons: Mapping[str, Comparison],
    how: FitSettings,
) -> dict[str, Horizon]:
    """Errors of rolling-origin tests by phase."""
    stacks = {phase: compared.whole for phase, compared in comparisons.items()}
    return measure_horizons(data, fits, stacks, how.fixed, how.bounds)


def _make_member(fitted: LawFit, how: FitSettings, taken: Sequence[NDArray[np.intp]]) -> Member:
    """A fitted law with its draws and the field values at which alone it predicts.

    Args:
        fitted: The law.
        how: Settings of the fit.
        taken: Numbers of the draws that the stack of each phase takes from this law. Only these are
            refitted, which saves nine tenths of the time of drawing every law.
    """
    rows = np.unique(np.concatenate([np.zeros(0, dtype=np.intp), *taken]))
    draws = np.repeat(fitted.values[None], len(how.run_weights), axis=0)
    if len(rows):
        draws[rows] = refit(fitted, how.run_weights[rows])
    law, points = fitted.law, fitted.data.points
    rule = rule_of(points) if "learning_rate" in law.one_value else None
    held = {
        n: float(distinct(points, n)[0])
        for n in law.one_value
        if getattr(points, n) is not None and not (n == "learning_rate" and rule is not None)
    }
    of_size = size_parameters(law)
    given = of_size and of_size <= how.fixed.keys()
    for axis in law.axes_that_drop_out:
        values = distinct(points, axis)
        if len(values) == 1 and not (axis == "n_params" and given):
            held[axis] = float(values[0])
    if "learning_rate" in law.needs and len(distinct(points, "learning_rate")) == 1:
        held["learning_rate"] = float(distinct(points, "learning_rate")[0])
    return Member(
        law=law,
        values=fitted.values,
        draws=draws,
        references=fitted.references,
        lower=fitted.lower,
        upper=fitted.upper,
        objective=fitted.objective,
        n_points=fitted.n_points,
        held_at={name: value for name, value in held.items() if np.isfinite(value)},
        rate_rule=rule,
        flags=tuple(flag_law(fitted)),
    )


def _left_out(data: ChannelData, fits: Mapping[str, LawFit]) -> tuple[tuple[int, str], ...]:
    rows = dict.fromkeys(data.left_out)
    for fitted in fits.values():
        rows.update(dict.fromkeys(fitted.data.left_out))
    return tuple(sorted(rows))


def _residuals(fits: Mapping[str, LawFit]) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {
        name: [] for name in ("row", "channel", "run", "phase", "law", "measured", "predicted")
    }
    for name, fitted in fits.items():
        used = fitted.data
        columns["row"] += used.rows.tolist()
        columns["channel"] += [used.channel] * len(used.rows)
        columns["run"] += [used.run_names[i] for i in used.runs]
        annealed = used.points.get("annealed") > 0
        columns["phase"] += np.where(annealed, "annealed", "constant").tolist()
        columns["law"] += [name] * len(used.rows)
        columns["measured"] += used.losses.tolist()
        columns["predicted"] += fitted.predict(used.points).tolist()
    return columns
