"""Diagnosis of the plan: shares off plan, and size confounded with learning rate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dcpt.diagnosis.curves import Curve
from dcpt.diagnosis.records import Finding, lacking
from dcpt.flags import Flag
from dcpt.laws.flags.design_flags import flag_design
from dcpt.laws.points.channel_data import ChannelData, find_general_channel, points_from_table
from dcpt.laws.points.record import SAME
from dcpt.quantities import format_count, format_rate, format_share

SHARE_OFF = 0.01
"""Largest difference between actual and planned share. Mixtures counted in sequences are within
0.001 of the plan at the end of every synthetic run; a mixture that draws 10,000 sequences at random
is off by 0.005 (one standard deviation)."""


def about_share(curve: Curve) -> Iterator[Finding]:
    """Report a channel whose share of the tokens after the warmup was not the planned share."""
    if not len(curve.tokens):
        return
    if np.isnan(curve.planned):
        if not np.nan_to_num(curve.shares).any():
            return  # only branches read this channel
        lacks = "ratio" if curve.side == "domain" else f"ratio (and weight_{curve.channel})"
    elif np.isnan(curve.shares).all():
        lacks = f"share_{curve.channel}"
    else:
        actual = _share_after_warmup(curve)
        if abs(actual - curve.planned) > SHARE_OFF:
            words = (
                f"{format_share(actual)} of the tokens are from this channel and "
                f"{format_share(curve.planned)} were planned by ratio and weights, so every law "
                "would use a wrong share. Fix the mixture."
            )
            values = {"share": actual, "planned": curve.planned}
            yield Finding("share_off_plan", words, curve.subject, values, verdict="alarm")
        return
    yield lacking("share_off_plan", lacks, curve.subject)


def _share_after_warmup(curve: Curve) -> float:
    """Share of the tokens between the first and the last point beyond the warmup.

    A warmup may have a mixture of its own. With a single such point all tokens up to it count.
    """
    known = np.isfinite(curve.shares)
    tokens, shares = curve.tokens[known], curve.shares[known]
    first = int((curve.settled[known]).argmax())
    if first == len(tokens) - 1:
        return float(shares[-1])
    read = tokens * shares
    return float((read[-1] - read[first]) / (tokens[-1] - tokens[first]))


def about_design(runs: pd.DataFrame) -> Iterator[Finding]:
    """Report sizes and learning rates whose effects cannot be separated.

    The fit's own flag misses tables in which a few runs leave the rule LR(N). As long as no rate
    was trained at two sizes, those runs show the effect of the rate at a single size only.
    """
    columns = {name: _values(runs, name) for name in ("n_params", "learning_rate")}
    several = [name for name, values in columns.items() if values.nunique() > 1]
    for name, values in columns.items():
        if values.isna().all() and several:
            yield lacking("confounded", name)
    if len(several) < 2:
        return
    channel = "domain" if "loss_domain" in runs else find_general_channel(runs)
    data = None if channel is None else points_from_table(runs, channel)
    by_size = {
        size: sorted(group.unique())
        for size, group in columns["learning_rate"].groupby(columns["n_params"])
    }
    rates_by_size = "; ".join(
        f"{format_count(float(str(size)))} at {', '.join(format_rate(rate) for rate in rates)}"
        for size, rates in by_size.items()
    )
    flag = _find_confounded(data) if data is not None and len(data.losses) else None
    if flag is not None:
        yield Finding("confounded", f"{flag.sentence} The runs: {rates_by_size}.", verdict="alarm")
    elif not _shared_rates(list(by_size.values())):
        words = (
            f"No learning rate was trained at two sizes ({rates_by_size}), so the effect of size "
            "may be that of the rate. Train two sizes at the same rate."
        )
        yield Finding("confounded", words, verdict="alarm")


def _find_confounded(data: ChannelData) -> Flag | None:
    """The fit's own flag about size and learning rate, if it has one."""
    axes = ["n_params", "learning_rate"]
    flags = (flag for flag in flag_design(data) if flag.kind == "confounded")
    return next((flag for flag in flags if flag.values["axes"] == axes), None)


def _values(runs: pd.DataFrame, name: str) -> pd.Series[float]:
    """A column of the trained rows; all NaN where the column is missing."""
    trained = runs[runs["n_tokens"] > 0]
    if name not in trained.columns:
        return pd.Series(np.nan, index=trained.index)
    return trained[name].astype(float)


def _shared_rates(by_size: list[list[float]]) -> bool:
    """Whether some learning rate was trained at two sizes, within 2 %."""
    return any(
        abs(rate - other) <= SAME * other
        for at, rates in enumerate(by_size)
        for others in by_size[at + 1 :]
        for rate in rates
        for other in others
    )
