"""From a runs table to a fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.flags import Flag
from dcpt.laws.fits.channel_fit import ChannelFit
from dcpt.laws.fits.draws import draw_run_weights
from dcpt.laws.fits.fit_channel import MOST_DRAWN, FitSettings, fit_channel
from dcpt.laws.fits.result import Fit, WithoutRun
from dcpt.laws.fits.run_off import find_run_off, flag_run_off
from dcpt.laws.fits.table_laws import check_sources, data_by_channel, laws_by_channel
from dcpt.laws.fits.two_level_member import make_two_level
from dcpt.laws.flags.design_flags import (
    flag_channels,
    flag_design,
    flag_evaluations,
    flag_phase,
    flag_settings,
)
from dcpt.laws.flags.kinds import distinct_flags, make_flag
from dcpt.laws.flags.mix_flags import flag_mix, general_mix
from dcpt.laws.formulas.sources import MANY_SOURCES, many_sources
from dcpt.laws.law import Law
from dcpt.laws.menu import as_list, laws_named, named_by_hand
from dcpt.laws.points.channel_data import (
    ChannelData,
    find_general_channel,
    points_from_table,
    sources_of,
)
from dcpt.laws.suitable import check_names, data_for, refusal
from dcpt.laws.two_level import refuse_table
from dcpt.table.channels import DOMAIN, choose_sizes, general_weights, validation_channels
from dcpt.table.channels import channels as table_channels
from dcpt.table.checks import check_runs
from dcpt.table.schedules import Schedule
from dcpt.table.study_rows import VERIFICATION
from dcpt.table.units import bases_of, flag_units

Array = NDArray[np.float64]


DRAWS_WITHOUT = 100
"""Most draws of the fit without a run that is off: they give an interval to compare with."""


def fit(
    runs: pd.DataFrame,
    law: str | Law | Sequence[str | Law] = "auto",
    channels: Sequence[str] | None = None,
    *,
    n_draws: int = 200,
    seed: int = 0,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    delta: float = 1e-3,
    schedules: Mapping[str, Schedule] | None = None,
    size_column: str | None = None,
) -> Fit:
    """Fit laws to every channel of a runs table.

    Args:
        runs: A runs table (``dcpt.load_runs``).
        law: ``auto`` fits every law that suits the table and weights them by held-out error.
            Otherwise a law or a list of laws: a name of the menu, ``module:name`` of your own
            record, or a :class:`Law` record; the list may contain ``auto``.
        channels: Channels to fit; None fits all channels of the laws' sides.
        n_draws: Number of bootstrap refits, for the intervals.
        seed: Seed of starts and draws; the same seed gives the same numbers.
        fixed: Parameters fixed at a value, by name.
        bounds: Bounds that replace a parameter's own, by name.
        delta: Threshold of the Huber loss, in log loss; ``float("inf")`` is least squares.
        schedules: Learning-rate schedules named in the column ``schedule``
            (``dcpt.table.schedules.load_schedules``); with None, rows that name one have no
            history.
        size_column: The column that is N: ``n_params``, ``n_params_non_embedding`` or
            ``n_params_active``; None takes the first that the table has. Predictions are asked in
            the same count.

    Returns:
        The fit.

    Raises:
        InputError: If a law or channel is unknown, or no law suits a channel. The message names the
            missing column or axis, and the laws that suit the channel.

    Examples:
        >>> fit = dcpt.fit(runs, n_draws=20)
        >>> fit.channels
        ['general', 'domain']
        >>> asked = {"n_params": 6.6e6, "n_tokens": 4.4e7, "ratio": 0.5, "learning_rate": 9e-4}
        >>> base = {"base_loss_general": 2.98, "base_peak_learning_rate": 2e-3}
        >>> fit.predict(**asked, **base)[["channel", "loss"]].round(1)
           channel  loss
        0  general   3.0
        1   domain   4.5
    """
    _check_arguments(runs, n_draws, seed, bounds or {}, delta)
    checked = check_runs(runs, "runs")
    runs, size_column = choose_sizes(checked, size_column)
    laws = laws_named(law)
    by_hand = named_by_hand(law, laws)
    mix_flags = flag_mix(runs)
    if mix_flags and "auto" in as_list(law):
        laws = {**laws, MANY_SOURCES: many_sources(sources_of(runs))}
    check_names({**(fixed or {}), **(bounds or {})}, list(laws.values()))
    check_sources(laws, sources_of(runs))
    data = data_by_channel(runs, laws, channels, schedules)
    several = flag_evaluations(runs, list(data))
    weights = draw_run_weights(n_draws, len(next(iter(data.values())).run_names), seed)
    how = FitSettings(dict(fixed or {}), dict(bounds or {}), delta, seed, weights, by_hand)
    chosen = laws_by_channel(data, laws, how)
    order = table_channels(runs)
    by_channel = {
        name: fit_channel(of_channel, chosen[name], how, order.index(name))
        for name, of_channel in data.items()
    }
    off = find_run_off(data, by_channel)
    with_verification = (
        _with_verification_runs(runs, list(data), schedules) if "auto" in as_list(law) else {}
    )
    without = None
    if off is not None:
        without = _fit_without(off.run, data, by_channel, with_verification, how, order)
    by_channel = _with_two_level(by_channel, with_verification, seed, order)
    return Fit(
        by_channel=by_channel,
        general_channel=find_general_channel(runs),
        domain_channel=DOMAIN if DOMAIN in by_channel else None,
        seen_rates=_seen_rates(list(data.values())),
        flags=distinct_flags(
            [
                *flag_units(runs),
                *flag_settings(runs),
                *mix_flags,
                *flag_channels(order),
                *flag_phase(runs, schedules),
                *several,
                *([] if off is None else [flag_run_off(off)]),
                *_flag_two_level(runs, with_verification),
                *_find_flags(data, chosen, by_channel),
            ]
        ),
        warmup_tokens=_shared_value(runs, "warmup_tokens"),
        batch_tokens=_shared_value(runs, "batch_tokens"),
        n_draws=n_draws,
        seed=seed,
        table_sha256=_hash_table(checked),
        size_column=size_column,
        schedules=_named_schedules(runs, schedules),
        delta=delta,
        general_weights=general_weights(runs),
        general_mix=general_mix(runs),
        validation_channels=tuple(n for n in validation_channels(runs) if n in by_channel),
        bases={name: bases_of(runs, name) for name in order},
        without=without,
    )


def _named_schedules(
    runs: pd.DataFrame, schedules: Mapping[str, Schedule] | None
) -> dict[str, Schedule]:
    """The schedules that runs name, of those given."""
    if schedules is None:
        return {}
    named = set(runs["schedule"].dropna())
    return {name: schedule for name, schedule in schedules.items() if name in named}


def _check_arguments(
    runs: object,
    n_draws: int,
    seed: int,
    bounds: Mapping[str, tuple[float, float]],
    delta: float,
) -> None:
    problems = []
    if not isinstance(runs, pd.DataFrame):
        problems.append(f"runs is a {type(runs).__name__}; read a file with dcpt.load_runs first")
    if n_draws < 1:
        problems.append(f"n_draws is {n_draws}; at least 1 is needed")
    if seed < 0:
        problems.append(f"seed is {seed}; it must be 0 or more")
    problems += [
        f"bounds of {name} are {pair!r}; give a pair (low, high)"
        for name, pair in bounds.items()
        if len(pair) != 2
    ]
    if not isinstance(delta, float | int) or not delta > 0:
        problems.append(f"delta is {delta!r}; it must be a number above 0 (inf is least squares)")
    if problems:
        raise InputError(problems)


def _fit_without(
    run: str,
    data: Mapping[str, ChannelData],
    by_channel: Mapping[str, ChannelFit],
    with_verification: Mapping[str, ChannelData],
    how: FitSettings,
    order: Sequence[str],
) -> WithoutRun | None:
    """Fit the laws that have weight and the two-level model without a run.

    Returns:
        None where no law of a phase suits the rest.
    """
    few = replace(how, run_weights=how.run_weights[:DRAWS_WITHOUT], by_hand=frozenset())
    others = {}
    for stream, (channel, fit) in enumerate(by_channel.items()):
        of_channel = data[channel]
        rest = of_channel.take(of_channel.runs != of_channel.run_names.index(run))
        laws = [
            member.law
            for name, member in fit.members.items()
            if any(compared.weights.get(name, 0.0) > 0 for compared in fit.comparisons.values())
            and refusal(member.law, data_for(member.law, rest), fixed=how.fixed) is None
        ]
        if not laws:
            return None
        others[channel] = fit_channel(rest, laws, few, stream, near=fit)
        if others[channel].comparisons.keys() != fit.comparisons.keys():
            return None
    others_of_all = {
        name: of.take(of.runs != of.run_names.index(run)) for name, of in with_verification.items()
    }
    return WithoutRun(run, _with_two_level(others, others_of_all, how.seed, order))


def _with_verification_runs(
    runs: pd.DataFrame, names: Sequence[str], schedules: Mapping[str, Schedule] | None
) -> dict[str, ChannelData]:
    """The points of each channel for the two-level model, those of verification runs included.

    Laws are proved on verification runs, so none is fitted to them. The two-level model is tested
    by predicting each run at the target without it.
    """
    if "excluded" in runs.columns:
        runs = runs.assign(excluded=runs["excluded"].where(runs["excluded"] != VERIFICATION))
    found = {name: points_from_table(runs, name, schedules) for name in names}
    return {name: of.take(~np.isnan(of.points.get("annealed"))) for name, of in found.items()}


def _with_two_level(
    by_channel: Mapping[str, ChannelFit],
    data: Mapping[str, ChannelData],
    seed: int,
    order: Sequence[str],
) -> dict[str, ChannelFit]:
    """Channels with their two-level models, where there are points for these."""
    models = {name: make_two_level(of, seed, order.index(name)) for name, of in data.items()}
    return {name: replace(of, two_level=models.get(name)) for name, of in by_channel.items()}


def _flag_two_level(runs: pd.DataFrame, data: Mapping[str, ChannelData]) -> Iterator[Flag]:
    """Channels that the two-level model does not suit, and the verification runs that it takes."""
    reasons = {name: refuse_table(of_channel) for name, of_channel in data.items()}
    for name, reason in reasons.items():
        if reason is not None:
            yield make_flag("two_level_left_out", {"channel": name}, reason=reason)
    if "excluded" in runs and None in reasons.values():
        names = runs.loc[runs["excluded"] == VERIFICATION, "run"].astype(str)
        if len(names):
            yield make_flag("verification_runs", runs=sorted(set(names)))


def _seen_rates(data: Sequence[ChannelData]) -> tuple[tuple[float | None, float, str], ...]:
    seen: set[tuple[float | None, float, str]] = set()
    for channel in data:
        rates = channel.points.learning_rate
        if rates is None:
            continue
        points = channel.points.take(np.isfinite(rates))
        phases = np.where(points.get("annealed") > 0, "annealed", "constant").tolist()
        sizes = [None] * len(phases) if points.n_params is None else points.n_params.tolist()
        seen |= set(zip(sizes, points.get("learning_rate").tolist(), phases, strict=True))
    return tuple(sorted(seen, key=lambda entry: (entry[0] or 0.0, entry[1], entry[2])))


def _find_flags(
    data: Mapping[str, ChannelData],
    chosen: Mapping[str, Sequence[Law]],
    by_channel: Mapping[str, ChannelFit],
) -> list[Flag]:
    """Flags of the design, of each channel, and of the laws with weight."""
    flags = [flag for of_channel in data.values() for flag in flag_design(of_channel)]
    for channel, fit in by_channel.items():
        if len(data[channel].losses) > MOST_DRAWN:
            flags.append(make_flag("drawn_from_part", {"channel": channel}))
        flags += [
            make_flag("not_fitted", {"channel": channel, "law": law.name})
            for law in chosen[channel]
            if law.name not in fit.members
        ]
        flags += [
            make_flag("not_held_out", {"channel": channel}, phase=phase)
            for phase, compared in fit.comparisons.items()
            if not compared.spread
        ]
        for name, member in fit.members.items():
            if any(c.weights.get(name, 0.0) > 0 for c in fit.comparisons.values()):
                flags += member.flags
    return flags


def _shared_value(runs: pd.DataFrame, column: str) -> float | None:
    """The value of a column that all trained rows share; None if there are several or none."""
    if column not in runs.columns:
        return None
    values = runs.loc[runs["n_tokens"] > 0, column].dropna().unique()
    return float(values[0]) if len(values) == 1 else None


def _hash_table(runs: pd.DataFrame) -> str:
    content = runs.to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(content.encode("utf-8")).hexdigest()
