"""Measured losses of decays with mixtures of their own, next to the ordinary decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dcpt.quantities import format_count
from dcpt.report.cells import channel_name, nats, percent, rate
from dcpt.report.parts import Bullets, Part, Section, Table, Tabled, Text

if TYPE_CHECKING:
    from dcpt.table.study_rows import OwnDecay

_UNMEASURED = "not measured"


def own_decays_section(decays: Sequence[OwnDecay]) -> Section:
    """Losses of every trunk after its ordinary decay and after decays with their own mixtures.

    Args:
        decays: At least one.
    """
    shares = {
        decay.mixture: decay.shares for decay in sorted(decays, key=lambda decay: decay.mixture)
    }
    table = own_decays_table(decays)
    parts: list[Part] = [
        Text(
            "After the constant learning rate of these runs, further decays to zero were trained, "
            "each with its own mixture. All losses in this section are measured. They are in no "
            "fit, so they do not affect the laws or the recommendation. The ordinary decay "
            "continues with the run's own mixture; it starts from the same weights and takes as "
            "many tokens. A negative difference means that the decay with its own mixture ended "
            "with a lower loss."
        ),
        Bullets([f"{name}: {_mixed(mixture)}" for name, mixture in shares.items()]),
        Tabled(
            table,
            "Measured after each decay, nats per token, and the difference from the ordinary decay",
        ),
    ]
    if any(_UNMEASURED in row for row in table.rows):
        parts.append(
            Text(
                "Not measured: the decay has not ended, or the channel is an extra channel that "
                "is not in the mixture of this decay."
            )
        )
    return Section("own-mixtures", "Decays with mixtures of their own", parts)


def own_decays_table(decays: Sequence[OwnDecay]) -> Table:
    """A row per trunk and channel, two columns per mixture."""
    mixtures = sorted({decay.mixture for decay in decays})
    seeds = ["seed"] if len({decay.seed for decay in decays}) > 1 else []
    head = ["size", "domain share", "learning rate", *seeds, "tokens", "channel", "ordinary"]
    for name in mixtures:
        head += [name, f"{name} − ordinary"]
    trunks: dict[tuple[str, int], dict[str, OwnDecay]] = {}
    for decay in sorted(decays, key=_order):
        trunks.setdefault((decay.run, decay.n_tokens), {})[decay.mixture] = decay
    rows = []
    for by_mixture in trunks.values():
        decays_here = list(by_mixture.values())
        first = decays_here[0]
        trunk = [format_count(first.n_params), percent(first.ratio), rate(first.learning_rate)]
        trunk += [str(first.seed)] if seeds else []
        trunk.append(format_count(first.n_tokens))
        ordinary = next((decay.ordinary for decay in decays_here if decay.ordinary), {})
        measured = [channel for decay in decays_here for channel in decay.losses]
        for channel in dict.fromkeys([*ordinary, *measured]):
            row = [*trunk, channel_name(channel), _loss(ordinary, channel)]
            for name in mixtures:
                row += _measured(by_mixture.get(name), channel)
            rows.append(row)
    return Table(head, rows, words=head.index("ordinary"))


def own_decay_record(decay: OwnDecay) -> dict[str, Any]:
    """A decay as plain JSON values, with its differences from the ordinary decay."""
    return {**asdict(decay), "differences": decay.differences}


def _order(decay: OwnDecay) -> tuple[float | str, ...]:
    """Sort key: size, learning rate, share, seed, length, trunk, mixture."""
    size = (decay.n_params, decay.learning_rate, decay.ratio, decay.seed, decay.n_tokens)
    return (*size, decay.run, decay.mixture)


def _measured(decay: OwnDecay | None, channel: str) -> list[str]:
    """A channel's loss after a decay, and its difference from the ordinary decay."""
    if decay is None:
        return [_UNMEASURED, ""]
    difference = decay.differences.get(channel)
    return [
        _loss(decay.losses, channel),
        "" if difference is None else nats(difference, sign=True),
    ]


def _loss(losses: dict[str, float], channel: str) -> str:
    return nats(losses[channel]) if channel in losses else _UNMEASURED


def _mixed(shares: dict[str, float]) -> str:
    """A mixture as text: ``60 % domain, 40 % general``."""
    return ", ".join(f"{percent(share)} {channel_name(name)}" for name, share in shares.items())
