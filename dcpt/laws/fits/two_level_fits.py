"""The two-level models of all channels: their points, their fits, their flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from dcpt.flags import Flag
from dcpt.laws.fits.channel_fit import ChannelFit
from dcpt.laws.fits.two_level_member import make_two_level
from dcpt.laws.flags.kinds import make_flag
from dcpt.laws.points.channel_data import ChannelData, points_from_table
from dcpt.laws.two_level import refuse_table
from dcpt.table.schedules import Schedule
from dcpt.table.study_rows import VERIFICATION


def points_with_verification(
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


def with_two_level(
    by_channel: Mapping[str, ChannelFit],
    data: Mapping[str, ChannelData],
    seed: int,
    order: Sequence[str],
) -> dict[str, ChannelFit]:
    """Channels with their two-level models, where there are points for these."""
    models = {name: make_two_level(of, seed, order.index(name)) for name, of in data.items()}
    return {name: replace(of, two_level=models.get(name)) for name, of in by_channel.items()}


def flag_two_level(runs: pd.DataFrame, data: Mapping[str, ChannelData]) -> Iterator[Flag]:
    """Channels that the two-level model does not suit, and the verification runs that it takes."""
    reasons = {name: refuse_table(of_channel) for name, of_channel in data.items()}
    for name, reason in reasons.items():
        if reason is not None:
            yield make_flag("two_level_left_out", {"channel": name}, reason=reason)
    if "excluded" in runs and None in reasons.values():
        names = runs.loc[runs["excluded"] == VERIFICATION, "run"].astype(str)
        if len(names):
            yield make_flag("verification_runs", runs=sorted(set(names)))
