"""Units judged between rows: losses that are not nats per token, tokens that are steps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from dcpt.flags import Flag
from dcpt.quantities import format_count, format_loss
from dcpt.table.channels import general_channels

RISES_BY = 1.02
"""A larger base may have a loss up to this many times that of a smaller one: bases of equal size
differ by less than 1 % in the tables that are bundled with dcpt."""

LARGEST_BASE_LOSS = 6.0
"""Nats per token: the general loss of a base of 50M parameters or more lies below. Bases of 2M to
1B parameters start at 4.0 to 2.4 on their own kind of text, whatever their vocabulary."""

SMALLEST_JUDGED = 5e7
"""Parameters from which the level of a base's general loss is judged."""

Bases = tuple[tuple[float, float], ...]
"""(parameters, loss at D = 0 in nats per token) of each size, ascending."""


def bases_of(runs: pd.DataFrame, channel: str) -> Bases:
    """The mean loss of a channel at D = 0, by size.

    Args:
        runs: A checked runs table.
        channel: One of its channels.

    Returns:
        An entry per size with such a loss; empty if the table names no sizes.
    """
    if "n_params" not in runs:
        return ()
    points = runs[runs["excluded"].isna()] if "excluded" in runs else runs
    at_base = points[points["n_tokens"] == 0].rename(columns={f"loss_{channel}": "loss"})
    given = points.rename(columns={f"base_loss_{channel}": "loss"})
    parts = [
        rows[["n_params", "loss"]].dropna() for rows in (at_base, given) if "loss" in rows.columns
    ]
    losses = pd.concat(parts).groupby("n_params")["loss"].mean()
    return tuple((float(str(size)), float(loss)) for size, loss in losses.sort_index().items())


def flag_units(runs: pd.DataFrame) -> list[Flag]:
    """Flags of losses whose unit is in doubt.

    Args:
        runs: A checked runs table.
    """
    flags = []
    for channel in general_channels(runs):
        bases = bases_of(runs, channel)
        flags += [*_too_high(channel, bases), *_rises_with_size(channel, bases)]
    return flags


def _too_high(channel: str, bases: Bases) -> list[Flag]:
    high = [(n, loss) for n, loss in bases if n >= SMALLEST_JUDGED and loss > LARGEST_BASE_LOSS]
    if not high:
        return []
    n_params, loss = high[0]
    return [
        Flag(
            "loss_unit",
            f"A base of {format_count(n_params)} parameters has a {channel} loss of "
            f"{format_loss(loss)}, and such bases have less than {LARGEST_BASE_LOSS:g} nats per "
            "token. If it is a perplexity, take its natural logarithm. If it is in bits, multiply "
            f"it by {np.log(2):.4f}.",
            {"channel": channel},
            {"n_params": n_params, "loss": loss},
        )
    ]


def _rises_with_size(channel: str, bases: Bases) -> list[Flag]:
    for (small, before), (large, loss) in pairwise(bases):
        if loss > RISES_BY * before:
            return [
                Flag(
                    "larger_base_is_worse",
                    f"The base of {format_count(large)} parameters has a higher {channel} loss "
                    f"({format_loss(loss)}) than that of {format_count(small)} "
                    f"({format_loss(before)}). Check that both were measured on the same text, in "
                    "the same unit and with the same tokenizer.",
                    {"channel": channel},
                    {"n_params": [small, large], "losses": [before, loss]},
                )
            ]
    return []


SAME_SIZE_OFF = 0.05
"""Relative difference from a base of the runs that a loss of the target's base may have."""

OFF_PER_E = 0.1
"""The same for each factor of e between the target's size and the runs' nearest."""


def flag_base_loss(channel: str, n_params: float, loss: float, bases: Bases) -> list[Flag]:
    """Flags of a base's loss that contradicts the bases of the runs.

    The losses of the runs' bases are continued as a power law in the size.

    Args:
        channel: The channel.
        n_params: Parameters of the base.
        loss: Its loss, nats per token.
        bases: What the runs say.
    """
    if not bases:
        return []
    sizes = np.log([n for n, _ in bases])
    losses = np.log([known for _, known in bases])
    size = float(np.log(n_params))
    if len(bases) == 1 or sizes[0] <= size <= sizes[-1]:
        expected = float(np.interp(size, sizes, losses))
    else:
        near = slice(0, 2) if size < sizes[0] else slice(-2, None)
        slope = min(0.0, float(np.diff(losses[near])[0] / np.diff(sizes[near])[0]))
        end = near.start if size < sizes[0] else -1
        expected = float(losses[end] + slope * (size - sizes[end]))
    away = float(np.abs(sizes - size).min())
    if abs(np.log(loss) - expected) <= np.log1p(SAME_SIZE_OFF) + OFF_PER_E * away:
        return []
    return [
        Flag(
            "base_loss_contradicts_runs",
            f"The {channel} loss of the target's base is {format_loss(loss)}, and the runs' bases "
            f"lead to expect {format_loss(np.exp(expected))} at {format_count(n_params)} parameters"
            f"{_guess_unit(loss, np.exp(expected))}. Measure it on the validation text of the "
            "runs, in nats per token.",
            {"channel": channel},
            {"loss": loss, "expected": float(np.exp(expected))},
        )
    ]


def _guess_unit(loss: float, expected: float) -> str:
    """The unit in which a loss would be as expected, as the end of a clause; empty if none."""
    units = {
        "bits per token": loss * np.log(2),
        "a perplexity": np.log(loss) if loss > 1 else np.inf,
    }
    near = {unit: abs(np.log(value / expected)) for unit, value in units.items() if value > 0}
    unit = min(near, key=lambda name: near[name], default=None)
    return f" (it looks like {unit})" if unit is not None and near[unit] < 0.1 else ""
