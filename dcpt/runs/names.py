"""What the runs table calls the channels and the bases of a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from dcpt.runs.identity import RunConfig, Side


class Sided(Protocol):
    """Anything that is a channel: it has a name and a side."""

    @property
    def name(self) -> str:
        """Its name in the study."""

    @property
    def side(self) -> Side:
        """The side it is on."""


def table_names(channels: Sequence[Sided]) -> dict[str, str]:
    """How the runs table calls each channel of a study.

    The domain is always ``domain`` and a lone general channel ``general``; several general
    channels keep their names.
    """
    lone = sum(c.side == "general" for c in channels) == 1
    plain = {"domain": "domain"} | ({"general": "general"} if lone else {})
    return {c.name: plain.get(c.side, c.name) for c in channels}


def bases_by_size(configs: Iterable[RunConfig]) -> dict[str, set[str]]:
    """The bases that runs start from, by the labels of their sizes.

    A pre-training run makes one, named as its trunks name it.
    """
    found: dict[str, set[str]] = {}
    for config in configs:
        identity = config.identity
        base = f"run:{identity.hash}" if identity.kind == "pretrain" else identity.base
        found.setdefault(config.recorded.size, set()).add(base)
    return found
