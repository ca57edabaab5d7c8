"""What the table says about the plan: shares that were not kept, size and rate confounded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dcpt.diagnosis.curves import Curve
from dcpt.diagnosis.records import Finding
from dcpt.laws.flags.design_flags import flag_design
from dcpt.laws.flags.explain import explain_flag
from dcpt.laws.points.channel_data import find_general_channel, points_from_table
from dcpt.laws.points.record import SAME
from dcpt.quantities import format_count, format_rate, format_share

SHARE_OFF = 0.01
"""One point of share. Mixtures counted in sequences are within .001 of the plan at the end of every
made run; one that draws 10,000 sequences at random is off by .005 (one standard deviation)."""

CONFOUNDED = "confounded:n_params,learning_rate"


def about_share(curve: Curve) -> Iterator[Finding]:
    """Whether the channel's share of the tokens was the planned one, beyond the warmup."""
    if not len(curve.tokens):
        return
    if np.isnan(curve.planned):
        if not np.nan_to_num(curve.shares).any():
            return  # a channel that only branches read
        lacks = "ratio" if curve.side == "domain" else f"ratio (and weight_{curve.channel})"
    elif np.isnan(curve.shares).all():
        lacks = f"share_{curve.channel}"
    else:
        found = _share_after_warmup(curve)
        if abs(found - curve.planned) > SHARE_OFF:
            words = (
                f"{format_share(found)} of the tokens are from this channel and "
                f"{format_share(curve.planned)} were planned by ratio and weights: every law would "
                "use a wrong share; fix the mixture"
            )
            numbers = {"share": found, "planned": curve.planned}
            yield Finding("share_off_plan", "alarm", words, curve.run, curve.channel, numbers)
        return
    words = f"cannot be judged without {lacks}"
    yield Finding(
        "share_off_plan", "cannot be judged", words, curve.run, curve.channel, lacks=lacks
    )


def _share_after_warmup(curve: Curve) -> float:
    """Share of the tokens between the first and the last point beyond the warmup.

    A warmup may have a mixture of its own. With one such point all tokens up to it count.
    """
    known = np.isfinite(curve.shares)
    tokens, shares = curve.tokens[known], curve.shares[known]
    first = int((curve.settled[known]).argmax())
    if first == len(tokens) - 1:
        return float(shares[-1])
    read = tokens * shares
    return float((read[-1] - read[first]) / (tokens[-1] - tokens[first]))


def about_design(runs: pd.DataFrame) -> Iterator[Finding]:
    """Whether sizes and learning rates can be told apart, by what the fits say of the same table.

    Runs that leave the rule may keep the fit's flag down where they are few: as long as no rate
    was trained at two sizes, they tell what the rate does at one size only.
    """
    found = {name: _values(runs, name) for name in ("n_params", "learning_rate")}
    several = [name for name, values in found.items() if values.nunique() > 1]
    for name, values in found.items():
        if values.isna().all() and several:
            words = f"cannot be judged without {name}"
            yield Finding("confounded", "cannot be judged", words, lacks=name)
    if len(several) < 2:
        return
    channel = "domain" if "loss_domain" in runs else find_general_channel(runs)
    data = None if channel is None else points_from_table(runs, channel)
    by_size = {
        size: sorted(group.unique())
        for size, group in found["learning_rate"].groupby(found["n_params"])
    }
    told = "; ".join(
        f"{format_count(float(str(size)))} at {', '.join(format_rate(rate) for rate in rates)}"
        for size, rates in by_size.items()
    )
    if data is not None and len(data.losses) and CONFOUNDED in flag_design(data):
        words = f"{explain_flag(CONFOUNDED)} ({told})"
        yield Finding("confounded", "alarm", words)
    elif not _shared_rates(list(by_size.values())):
        words = (
            f"no learning rate was trained at two sizes ({told}): what looks like size may be the "
            "rate; train two sizes at one rate"
        )
        yield Finding("confounded", "alarm", words)


def _values(runs: pd.DataFrame, name: str) -> pd.Series[float]:
    """A column of the trained rows, all unknown where the table has none."""
    trained = runs[runs["n_tokens"] > 0]
    if name not in trained.columns:
        return pd.Series(np.nan, index=trained.index)
    return trained[name].astype(float)


def _shared_rates(by_size: list[list[float]]) -> bool:
    """Whether some learning rate is there at two sizes, within 2 %."""
    return any(
        abs(one - other) <= SAME * other
        for at, rates in enumerate(by_size)
        for others in by_size[at + 1 :]
        for one in rates
        for other in others
    )
