"""Warnings about shares of single channels: most laws know the share of domain text alone."""

from __future__ import annotations

import pandas as pd

from dcpt.flags import Flag
from dcpt.laws.flags.kinds import make_flag
from dcpt.laws.points.channel_data import SHARE
from dcpt.table.channels import DOMAIN

SAME_MIX = 0.05
"""Shares of the general text that differ by at most this much between runs are one mix: measured
shares of a run scatter around those that were asked for."""

MOST_NAMED = 4
"""Channels that a sentence names; the others are counted."""


def flag_mix(runs: pd.DataFrame) -> list[Flag]:
    """Flags of a table whose runs differ in the shares of several channels (``share_<channel>``).

    Args:
        runs: A checked runs table.
    """
    trained = runs[runs["n_tokens"] > 0]
    if "excluded" in trained:
        trained = trained[trained["excluded"].isna()]
    if "phase" in trained and (trained["phase"] == "constant").any():
        trained = trained[trained["phase"] == "constant"]  # a decay may have a mixture of its own
    last = trained.sort_values("n_tokens").groupby("run").last()
    columns = [name for name in map(str, last.columns) if name.startswith(SHARE)]
    has_ratio = "ratio" in last and bool(last["ratio"].notna().any())
    if has_ratio:
        columns = [name for name in columns if name != SHARE + DOMAIN]
    known = last[columns].dropna(axis="columns", how="all").dropna()
    total = known.sum(axis=1)
    mix = known[total > 0].div(total[total > 0], axis=0)
    if len(mix) == 0 or (mix.max() - mix.min()).max() <= SAME_MIX:
        return []
    names = [name.removeprefix(SHARE) for name in map(str, mix.columns)]
    more = len(names) - MOST_NAMED
    shown = names if more <= 0 else [*names[:MOST_NAMED], f"{more} more"]
    return [make_flag("mix_differs" if has_ratio else "mixtures_without_ratio", channels=shown)]
