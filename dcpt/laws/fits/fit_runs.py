"""From a runs table to a fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.flags import Flag
from dcpt.laws.bounds import check_names
from dcpt.laws.fits.channel_fit import ChannelFit
from dcpt.laws.fits.draws import draw_run_weights
from dcpt.laws.fits.fit_channel import MOST_DRAWN, FitSettings, fit_channel
from dcpt.laws.fits.result import Fit, WithoutRun
from dcpt.laws.fits.run_off import RunOff, find_run_off, flag_run_off
from dcpt.laws.fits.table_laws import check_sources, data_by_channel, laws_by_channel, laws_for
from dcpt.laws.fits.two_level_fits import flag_two_level, points_with_verification, with_two_level
from dcpt.laws.flags.design_flags import (
    flag_channels,
    flag_design,
    flag_evaluations,
    flag_phase,
    flag_settings,
)
from dcpt.laws.flags.kinds import distinct_flags, make_flag
from dcpt.laws.flags.mix_flags import flag_mix, general_mix, tied_sources
from dcpt.laws.law import Law
from dcpt.laws.menu import as_list, named_by_hand
from dcpt.laws.points.channel_data import ChannelData, find_general_channel, sources_of
from dcpt.laws.suitable import data_for, refusal
from dcpt.table.channels import DOMAIN, choose_sizes, general_weights, validation_channels
from dcpt.table.channels import channels as table_channels
from dcpt.table.checks import check_runs
from dcpt.table.schedules import Schedule
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
    laws = _laws_to_try(runs, law, {**(fixed or {}), **(bounds or {})})
    data = data_by_channel(runs, laws, channels, schedules)
    table_flags = _flag_table(runs, list(data), schedules)
    weights = draw_run_weights(n_draws, len(next(iter(data.values())).run_names), seed)
    by_hand = named_by_hand(law, laws)
    how = FitSettings(dict(fixed or {}), dict(bounds or {}), delta, seed, weights, by_hand)
    # The two-level model knows the share of domain text alone.
    has_two_level = _is_auto(law) and not flag_mix(runs)
    two_level_data = points_with_verification(runs, list(data), schedules) if has_two_level else {}
    fitted = _fit_channels(data, laws, two_level_data, how, table_channels(runs))
    fit_flags = _flag_fits(data, fitted, flag_two_level(runs, two_level_data))
    return Fit(
        by_channel=fitted.by_channel,
        general_channel=find_general_channel(runs),
        domain_channel=DOMAIN if DOMAIN in fitted.by_channel else None,
        seen_rates=_seen_rates(list(data.values())),
        flags=distinct_flags([*table_flags, *fit_flags]),
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
        tied_sources=tied_sources(runs),
        validation_channels=tuple(n for n in validation_channels(runs) if n in data),
        bases={name: bases_of(runs, name) for name in table_channels(runs)},
        without=fitted.without,
    )


def _is_auto(law: str | Law | Sequence[str | Law]) -> bool:
    """Whether all laws that suit the table are asked for."""
    return "auto" in as_list(law)


def _laws_to_try(
    runs: pd.DataFrame, law: str | Law | Sequence[str | Law], parameters: Mapping[str, object]
) -> dict[str, Law]:
    """The laws to try, checked.

    Raises:
        InputError: If no law has one of the ``parameters``, or a law is of other sources.
    """
    laws = laws_for(runs, law)
    check_names(parameters, list(laws.values()))
    check_sources(laws, sources_of(runs))
    return laws


def _flag_table(
    runs: pd.DataFrame, names: Sequence[str], schedules: Mapping[str, Schedule] | None
) -> list[Flag]:
    """Flags of the runs table that need no fit; ``names`` are the channels that are fitted."""
    return [
        *flag_units(runs),
        *flag_settings(runs),
        *flag_mix(runs),
        *flag_channels(table_channels(runs)),
        *flag_phase(runs, schedules),
        *flag_evaluations(runs, names),
    ]


@dataclass(frozen=True)
class _Fitted:
    """The fits of all channels, the laws that were tried, and the run that is off, if any."""

    by_channel: dict[str, ChannelFit]
    tried: dict[str, list[Law]]
    off: RunOff | None
    without: WithoutRun | None


def _fit_channels(
    data: Mapping[str, ChannelData],
    laws: Mapping[str, Law],
    two_level_data: Mapping[str, ChannelData],
    how: FitSettings,
    order: Sequence[str],
) -> _Fitted:
    """Fit every channel, and all again without a run that is off.

    Args:
        data: The points of each channel.
        laws: Laws to try, by name.
        two_level_data: The points for the two-level model; empty leaves it out.
        how: Settings of the fit.
        order: All channels of the table; the place of a channel is its stream of random numbers.
    """
    tried = laws_by_channel(data, laws, how)
    by_channel = {
        name: fit_channel(of_channel, tried[name], how, order.index(name))
        for name, of_channel in data.items()
    }
    off, without = find_run_off(data, by_channel), None
    if off is not None:
        without = _fit_without(off.run, data, by_channel, two_level_data, how, order)
    return _Fitted(with_two_level(by_channel, two_level_data, how.seed, order), tried, off, without)


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
    two_level_data: Mapping[str, ChannelData],
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
            if _has_weight(fit, name)
            and refusal(member.law, data_for(member.law, rest), fixed=how.fixed) is None
        ]
        if not laws:
            return None
        others[channel] = fit_channel(rest, laws, few, stream, near=fit)
        if others[channel].comparisons.keys() != fit.comparisons.keys():
            return None
    others_of_all = {
        name: of.take(of.runs != of.run_names.index(run)) for name, of in two_level_data.items()
    }
    return WithoutRun(run, with_two_level(others, others_of_all, how.seed, order))


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


def _flag_fits(
    data: Mapping[str, ChannelData], fitted: _Fitted, two_level_flags: Iterable[Flag]
) -> Iterator[Flag]:
    """Flags of a run that is off, of the design, of each channel, and of the laws with weight."""
    if fitted.off is not None:
        yield flag_run_off(fitted.off)
    yield from two_level_flags
    for of_channel in data.values():
        yield from flag_design(of_channel)
    for channel, fit in fitted.by_channel.items():
        if len(data[channel].losses) > MOST_DRAWN:
            yield make_flag("drawn_from_part", {"channel": channel})
        for law in fitted.tried[channel]:
            if law.name not in fit.members:
                yield make_flag("not_fitted", {"channel": channel, "law": law.name})
        for phase, compared in fit.comparisons.items():
            if not compared.spread:
                yield make_flag("not_held_out", {"channel": channel}, phase=phase)
        for name, member in fit.members.items():
            if _has_weight(fit, name):
                yield from member.flags


def _has_weight(fit: ChannelFit, law: str) -> bool:
    """Whether a law has weight in a phase."""
    return any(compared.weights.get(law, 0.0) > 0 for compared in fit.comparisons.values())


def _shared_value(runs: pd.DataFrame, column: str) -> float | None:
    """The value of a column that all trained rows share; None if there are several or none."""
    if column not in runs.columns:
        return None
    values = runs.loc[runs["n_tokens"] > 0, column].dropna().unique()
    return float(values[0]) if len(values) == 1 else None


def _hash_table(runs: pd.DataFrame) -> str:
    content = runs.to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(content.encode("utf-8")).hexdigest()
