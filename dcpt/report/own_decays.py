"""What decays with mixtures of their own gave: measured, beside the ordinary decay."""

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
    """Every trunk's losses after its ordinary decay and after those with mixtures of their own.

    Args:
        decays: At least one.
    """
    shares = {one.mixture: one.shares for one in sorted(decays, key=lambda one: one.mixture)}
    table = own_decays_table(decays)
    parts: list[Part] = [
        Text(
            "At the end of these runs' constant learning rate further decays to zero were trained, "
            "each on a mixture of its own. All losses here are measured, none is predicted, and "
            "they are in no fit: neither the laws nor the recommendation knows them. The ordinary "
            "decay goes on with the run's own mixture; it starts from the same weights and takes "
            "as many tokens. A difference below zero: the decay with its own mixture ended lower."
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
                "Not measured: the decay has not ended, or the channel is an extra one, which only "
                "decays whose mixture names it read and measure."
            )
        )
    return Section("own-mixtures", "Decays with mixtures of their own", parts)


def own_decays_table(decays: Sequence[OwnDecay]) -> Table:
    """A row per trunk and channel, two columns per mixture."""
    mixtures = sorted({one.mixture for one in decays})
    seeds = ["seed"] if len({one.seed for one in decays}) > 1 else []
    head = ["size", "domain share", "learning rate", *seeds, "tokens", "channel", "ordinary"]
    for name in mixtures:
        head += [name, f"{name} − ordinary"]
    trunks: dict[tuple[str, int], dict[str, OwnDecay]] = {}
    for one in sorted(decays, key=_order):
        trunks.setdefault((one.run, one.n_tokens), {})[one.mixture] = one
    rows = []
    for found in trunks.values():
        one = next(iter(found.values()))
        trunk = [format_count(one.n_params), percent(one.ratio), rate(one.learning_rate)]
        trunk += [str(one.seed)] if seeds else []
        trunk.append(format_count(one.n_tokens))
        ordinary = next((other.ordinary for other in found.values() if other.ordinary), {})
        for channel in dict.fromkeys([*ordinary, *(c for o in found.values() for c in o.losses)]):
            row = [*trunk, channel_name(channel), _loss(ordinary, channel)]
            for name in mixtures:
                row += _measured(found.get(name), channel)
            rows.append(row)
    return Table(head, rows, words=head.index("ordinary"))


def own_decay_record(one: OwnDecay) -> dict[str, Any]:
    """A decay as plain JSON values, with its differences from the ordinary one."""
    return {**asdict(one), "differences": one.differences}


def _order(one: OwnDecay) -> tuple[float | str, ...]:
    """By size, learning rate, share, seed, length; then by trunk and mixture."""
    size = (one.n_params, one.learning_rate, one.ratio, one.seed, one.n_tokens)
    return (*size, one.run, one.mixture)


def _measured(one: OwnDecay | None, channel: str) -> list[str]:
    """A channel's loss after a decay, and its difference where the ordinary one has it too."""
    if one is None:
        return [_UNMEASURED, ""]
    difference = one.differences.get(channel)
    return [
        _loss(one.losses, channel),
        "" if difference is None else nats(difference, sign=True),
    ]


def _loss(losses: dict[str, float], channel: str) -> str:
    return nats(losses[channel]) if channel in losses else _UNMEASURED


def _mixed(shares: dict[str, float]) -> str:
    """A mixture in words: ``60 % domain, 40 % general``."""
    return ", ".join(f"{percent(share)} {channel_name(name)}" for name, share in shares.items())
