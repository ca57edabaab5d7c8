"""The names of a study's channels and bases in the runs table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from dcpt.runs.identity import RunConfig, Side


class Sided(Protocol):
    """Any record of a channel: it has a name and a side."""

    @property
    def name(self) -> str:
        """Its name in the study."""

    @property
    def side(self) -> Side:
        """The side it is on."""


def table_names(channels: Sequence[Sided]) -> dict[str, str]:
    """The name of each channel of a study in the runs table.

    The domain is always ``domain``, and a single general channel ``general``; several general
    channels keep their names.
    """
    lone = sum(c.side == "general" for c in channels) == 1
    plain = {"domain": "domain"} | ({"general": "general"} if lone else {})
    return {c.name: plain.get(c.side, c.name) for c in channels}


def bases_by_size(configs: Iterable[RunConfig]) -> dict[str, set[str]]:
    """The bases that runs start from, by the labels of their sizes.

    A pre-training run makes a base, which has the name that its trunks use.
    """
    found: dict[str, set[str]] = {}
    for config in configs:
        identity = config.identity
        base = f"run:{identity.hash}" if identity.kind == "pretrain" else identity.base
        found.setdefault(config.recorded.size, set()).add(base)
    return found
