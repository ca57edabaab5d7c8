"""Warnings about shares of single channels: most laws know the share of domain text alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dcpt.flags import Flag
from dcpt.laws.flags.kinds import make_flag
from dcpt.laws.points.channel_data import SHARE
from dcpt.table.channels import DOMAIN

SAME_MIX = 0.05
"""Shares of the general text that differ by at most this much between runs are one mix: measured
shares of a run scatter around those that were asked for."""

LEAST_SPREAD = 0.015
"""Standard deviation over the runs below which a share counts as one that they do not change: parts
that differ by ``SAME_MIX`` have 0.0144 if they are spread evenly."""

MOST_NAMED = 4
"""Channels that a sentence names; the others are counted."""


def flag_mix(runs: pd.DataFrame) -> list[Flag]:
    """Flags of a table whose runs differ in the shares of several channels (``share_<channel>``).

    Args:
        runs: A checked runs table.
    """
    mix = _mixes(runs)
    if len(mix) == 0 or (mix.max() - mix.min()).max() <= SAME_MIX:
        return []
    names = list(map(str, mix.columns))
    more = len(names) - MOST_NAMED
    shown = names if more <= 0 else [*names[:MOST_NAMED], f"{more} more"]
    kind = "mix_differs" if _has_ratio(runs) else "mixtures_without_ratio"
    return [make_flag(kind, channels=shown)]


def general_mix(runs: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Lowest and highest part of each channel in the general text of the runs.

    Args:
        runs: A checked runs table.

    Returns:
        By channel; empty where the table has no share of domain text, or the shares of fewer than
        two other channels.
    """
    mix = _mixes(runs) if _has_ratio(runs) else pd.DataFrame()
    if len(mix) == 0 or len(mix.columns) < 2:
        return {}
    return {str(name): (float(parts.min()), float(parts.max())) for name, parts in mix.items()}


def tied_sources(runs: pd.DataFrame) -> tuple[str, ...]:
    """Sources whose shares the runs do not change apart from those of the others.

    The shares sum to 1, so runs of S sources must change them in S - 1 independent ways.

    Args:
        runs: A checked runs table.

    Returns:
        Sources of the general text; empty if the runs change every share on its own, or the table
        does not name the shares.
    """
    if not general_mix(runs):
        return ()
    mix = _mixes(runs)
    shares = mix.mul(1 - _last_points(runs).loc[mix.index, "ratio"], axis=0)
    whole = _independent_ways(shares)
    if whole == len(shares.columns):
        return ()
    names = map(str, shares.columns)
    return tuple(name for name in names if _independent_ways(shares.drop(columns=name)) == whole)


def _independent_ways(shares: pd.DataFrame) -> int:
    """Directions in which the shares of runs are spread."""
    centred = (shares - shares.mean()).to_numpy(dtype=np.float64)
    spreads = np.linalg.svd(centred, compute_uv=False) / np.sqrt(len(shares))
    return int((spreads > LEAST_SPREAD).sum())


def _has_ratio(runs: pd.DataFrame) -> bool:
    """Whether the table names the share of domain text of its runs."""
    return "ratio" in runs and bool(runs.loc[runs["n_tokens"] > 0, "ratio"].notna().any())


def _mixes(runs: pd.DataFrame) -> pd.DataFrame:
    """Shares of the channels in the text of each run, the domain apart if the table has a ratio.

    A row per run, a column per channel; the rows sum to 1.
    """
    last = _last_points(runs)
    columns = [name for name in map(str, last.columns) if name.startswith(SHARE)]
    if _has_ratio(runs):
        columns = [name for name in columns if name != SHARE + DOMAIN]
    known = last[columns].dropna(axis="columns", how="all").dropna()
    total = known.sum(axis=1)
    mix = known[total > 0].div(total[total > 0], axis=0)
    return mix.rename(columns=lambda name: str(name).removeprefix(SHARE))


def _last_points(runs: pd.DataFrame) -> pd.DataFrame:
    """The last trained point of each run, by run."""
    trained = runs[runs["n_tokens"] > 0]
    if "excluded" in trained:
        trained = trained[trained["excluded"].isna()]
    if "phase" in trained and (trained["phase"] == "constant").any():
        trained = trained[trained["phase"] == "constant"]  # a decay may have a mixture of its own
    return trained.sort_values("n_tokens").groupby("run").last()
