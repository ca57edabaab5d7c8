"""Which laws are fitted to which channels of a runs table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from dcpt.errors import InputError
from dcpt.laws.fits.fit_channel import FitSettings
from dcpt.laws.flags.mix_flags import flag_mix
from dcpt.laws.formulas import LAWS
from dcpt.laws.formulas.sources import MANY_SOURCES, many_sources
from dcpt.laws.law import Law
from dcpt.laws.menu import as_list, laws_named
from dcpt.laws.points.channel_data import (
    ChannelData,
    points_from_table,
    sources_of,
)
from dcpt.laws.suitable import carried_laws, say_refusals
from dcpt.table.channels import channels as table_channels
from dcpt.table.schedules import Schedule


def laws_for(runs: pd.DataFrame, law: str | Law | Sequence[str | Law]) -> dict[str, Law]:
    """Look up laws for a table: ``auto`` has that of its sources where the runs' mixes differ.

    Args:
        runs: The runs table.
        law: As in :func:`fit`.
    """
    sources = sources_of(runs)
    laws = laws_named(law, sources)
    if "auto" in as_list(law) and flag_mix(runs):
        laws = {**laws, MANY_SOURCES: many_sources(sources)}
    return laws


def data_by_channel(
    runs: pd.DataFrame,
    laws: Mapping[str, Law],
    channels: Sequence[str] | None,
    schedules: Mapping[str, Schedule] | None,
) -> dict[str, ChannelData]:
    """The points of the channels to fit: those asked for, or all of the laws' sides."""
    available = table_channels(runs)
    if not available:
        raise InputError("the table has no loss_<channel> column, so there is nothing to fit")
    sides = {law.side for law in laws.values()}
    wanted = list(channels) if channels is not None else available
    data = {name: points_from_table(runs, name, schedules) for name in wanted}
    if channels is None and "any" not in sides:
        data = {name: channel for name, channel in data.items() if channel.side in sides}
    if not data:
        raise InputError(
            f"law {', '.join(laws)} is for the {' or '.join(sorted(sides))} side and the table "
            f"has the channels {', '.join(available)}"
        )
    return data


def laws_by_channel(
    data: Mapping[str, ChannelData], laws: Mapping[str, Law], how: FitSettings
) -> dict[str, list[Law]]:
    """Laws to fit to each channel; all refusals of laws asked for by name are raised together."""
    chosen: dict[str, list[Law]] = {}
    problems = []
    for channel, of_channel in data.items():
        reasons = carried_laws(of_channel, {**LAWS, **laws}, how.fixed, how.bounds)
        able = [law for name, law in laws.items() if reasons[name] is None]
        refused = {
            name: reasons[name]
            for name, law in laws.items()
            if law.side in ("any", of_channel.side)
        } or {name: reasons[name] for name in laws}
        stopping = {
            name: reason
            for name, reason in refused.items()
            if reason is not None and (name in how.by_hand or not able)
        }
        if not stopping:
            chosen[channel] = able
            continue
        offered = [name for name, reason in reasons.items() if reason is None]
        words = "; ".join(say_refusals(stopping, {**LAWS, **laws}, of_channel))
        end = (
            f"laws that suit it: {', '.join(offered)}"
            if offered
            else "no law suits it: add the runs or columns that one of them needs"
        )
        problems.append(f"channel {channel}: {words}; {end}")
    if problems:
        raise InputError(problems)
    return chosen


def check_sources(laws: Mapping[str, Law], sources: tuple[str, ...]) -> None:
    """Refuse a law of other sources than those of the table."""
    for law in laws.values():
        if law.sources not in ((), sources):
            raise InputError(
                f"law {law.name} reads the shares of {', '.join(law.sources)}, and the table has "
                f"those of {', '.join(sources) or 'no channel'} (share_<channel>); make the law "
                "for the sources of this table"
            )


def offer_laws(
    runs: pd.DataFrame,
    channel: str,
    law: str | Law | Sequence[str | Law] = "auto",
    schedules: Mapping[str, Schedule] | None = None,
) -> dict[str, str | None]:
    """Laws by name, each with the reason why it does not suit a channel; None if it does.

    Args:
        runs: A runs table.
        channel: One of its channels.
        law: As in :func:`fit`.
        schedules: The schedules named in the column ``schedule``.
    """
    return carried_laws(points_from_table(runs, channel, schedules), laws_for(runs, law))
