"""The mixture that a run reads and its learning rate, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

from dcpt.runs.identity import Identity
from dcpt.runs.names import Sided


class WeightedChannel(Sided, Protocol):
    """Any record of a channel with a weight relative to the other general channels."""

    @property
    def weight(self) -> float:
        """Its weight."""


def channel_shares(channels: Sequence[WeightedChannel], ratio: float) -> dict[str, Fraction]:
    """Exact share of every channel in training. Only this function computes ``1 - ratio``.

    Args:
        channels: At most one on the domain side; the general ones divide ``1 - ratio`` by weight.
        ratio: Share of domain tokens, 0..1, taken as the decimal number in the study file.

    Returns:
        Share by channel name; shares of 0 are left out; the shares sum to 1.
    """
    domain = Fraction(repr(float(ratio)))
    weights = {c.name: Fraction(repr(float(c.weight))) for c in channels if c.side == "general"}
    total = sum(weights.values())
    shares = {name: (1 - domain) * weight / total for name, weight in weights.items()}
    shares |= {c.name: domain for c in channels if c.side == "domain"}
    return {name: share for name, share in shares.items() if share > 0}


def mixture_phases(identity: Identity) -> list[tuple[int, dict[str, Fraction]]]:
    """What a run reads: the step from which each mixture holds, and the shares of all channels."""
    phases = [(0, channel_shares(identity.channels, identity.ratio))]
    warmup_steps = -(-identity.warmup_tokens // identity.batch_tokens)
    if identity.warmup_ratio is not None and warmup_steps:
        phases = [
            (0, channel_shares(identity.channels, identity.warmup_ratio)),
            (warmup_steps, phases[0][1]),
        ]
    if identity.decay is not None and identity.decay.mixture is not None:
        own = {name: Fraction(repr(share)) for name, share in identity.decay.mixture.items()}
        phases.append((identity.decay.start_tokens // identity.batch_tokens, own))
    names = [channel.name for channel in identity.channels]
    return [(step, {n: shares.get(n, Fraction(0)) for n in names}) for step, shares in phases]


def learning_rate_at(identity: Identity, step: int) -> float:
    """Learning rate of optimizer step ``step``, counted from 0."""
    tokens = (step + 1) * identity.batch_tokens
    rate = identity.learning_rate
    if tokens < identity.warmup_tokens:
        return rate * tokens / identity.warmup_tokens
    decay = identity.decay
    if decay is None or tokens <= decay.start_tokens:
        return rate
    # n steps take the rates in between: the first is below the peak, the last is above zero.
    done = (tokens - decay.start_tokens) / (decay.n_tokens + identity.batch_tokens)
    return rate * (1 - min(1.0, done) * (1 - decay.final_fraction))
