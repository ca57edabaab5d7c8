"""The channels that a target limits, and by how much; those whose losses it minimizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dcpt.decide.records import Target
from dcpt.errors import InputError, did_you_mean
from dcpt.limit import Limit
from dcpt.table.channels import DOMAIN, GENERAL_TOTAL

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

GENERAL = "general"
"""Names the general side where the table has no channel of that name: the only general channel, or
the weighted total of several."""


def find_limits(fit: Fit, target: Target, general: str | None) -> dict[str, Limit]:
    """The limit of each limited channel.

    Args:
        fit: The fit.
        target: The target.
        general: The fitted channel that represents the general side; None if there is none.

    Returns:
        Limits by channel; empty where the target has no limit.

    Raises:
        InputError: With all limits that are on no channel of the fit, or on the domain.
    """
    limits: dict[str, Limit] = {}
    problems = []
    if target.limit is not None:
        names = [general] if general is not None else []
        if target.limit.each:
            names = [name for name in fit.general_channels if name != GENERAL_TOTAL]
        limits = dict.fromkeys(names, target.limit)
        if not limits:
            problems.append(_without_channel(fit, target.limit))
    for given, limit in target.channel_limits.items():
        known = given in fit.channels or general is None
        name = general if given == GENERAL and not known and general is not None else given
        if name in limits:
            problems.append(f"limit {given}={limit}: this channel has a limit already; give one")
        elif name not in fit.channels or name == fit.domain_channel:
            problems.append(_not_limited(fit, given, limit))
        else:
            limits[name] = limit
    if problems:
        raise InputError(problems)
    return limits


def find_weights(fit: Fit, target: Target, general: str | None) -> dict[str, float]:
    """The weights of the channels in the mean loss that is minimized.

    Args:
        fit: The fit.
        target: The target.
        general: The fitted channel that represents the general side; None if there is none.

    Returns:
        Weights by the fit's channels, those of 0 left out; empty if the target has none.

    Raises:
        InputError: If a channel is not fitted or has two weights, a weight is negative, or all are
            0.
    """
    assert fit.domain_channel is not None
    weights, problems = {}, []
    for given, weight in target.weights.items():
        side = {GENERAL: general, DOMAIN: fit.domain_channel}.get(given)
        name = side if given not in fit.channels and side is not None else given
        if name not in fit.channels:
            problems.append(
                f"weight {given}={weight:g}: the fit has no such channel; it has "
                f"{', '.join(fit.channels)}" + did_you_mean(given, fit.channels)
            )
        elif not 0 <= weight < math.inf:
            problems.append(f"weight {given}={weight:g}: write a number of at least 0")
        elif name in weights:
            problems.append(f"weight {given}={weight:g}: {name} has a weight already; give one")
        weights[name] = weight
    if weights and not any(weights.values()) and not problems:
        problems.append("the weights of all channels are 0: give one that counts")
    if problems:
        raise InputError(problems)
    return {name: weight for name, weight in weights.items() if weight}


def mean_loss(weights: Mapping[str, float], losses: Mapping[str, Any]) -> NDArray[np.float64]:
    """The weighted mean of losses.

    Args:
        weights: Weights by channel.
        losses: Losses of these channels and perhaps of others, nats per token, of one shape.
    """
    parts = [weight * np.asarray(losses[name]) for name, weight in weights.items()]
    return np.asarray(np.sum(parts, axis=0) / sum(weights.values()), dtype=np.float64)


def _without_channel(fit: Fit, limit: Limit) -> str:
    """The table has no channel that a limit on the general side could be on."""
    names = list(fit.general_channels)
    if not names:
        return (
            f"limit {limit}: the fit has no general channel, so there is nothing to limit: ask "
            "without a limit (--limit none), or measure a general loss in the runs"
        )
    return (
        f"limit {limit}: the fit has {len(names)} general channels ({', '.join(names)}) and no "
        "weighted total: limit each channel (--limit +3% each, or "
        f"{' '.join(f'--limit {name}=3%' for name in names)}), or fit a table with "
        "weight_<channel> columns"
    )


def _not_limited(fit: Fit, name: str, limit: Limit) -> str:
    """A limit on the domain, or on a channel that the fit lacks."""
    if name == fit.domain_channel:
        return (
            f"limit {name}={limit}: the loss of the domain channel is minimized and takes no limit"
        )
    others = [channel for channel in fit.channels if channel != fit.domain_channel]
    return (
        f"limit {name}={limit}: the fit has no such channel; it can limit {', '.join(others)}"
        + did_you_mean(name, others)
    )
