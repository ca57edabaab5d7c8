"""Bases that a study pre-trains: which run a size is, and whether it was trained before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dcpt.runs.identity import ChannelIdentity, Identity, RunConfig
from dcpt.runs.stored import StoredRuns
from dcpt.text.manifest import Prepared


def base_channels(
    channels: Sequence[ChannelIdentity], prepared: Prepared
) -> tuple[ChannelIdentity, ...]:
    """The channels that define a base: the general ones, with all of their validation text.

    Which validation documents are near-copies depends on the domain's text as well, so validation
    text without near-copies would make the same base another run for every domain.
    """
    return tuple(
        channel.model_copy(update={"valid_sha256": prepared.channels[channel.name].valid.sha256})
        for channel in channels
        if channel.side == "general"
    )


def find_trained(
    config: RunConfig, channels: tuple[ChannelIdentity, ...], stored: StoredRuns
) -> RunConfig:
    """The run of a base that is there already, else the run as planned.

    Bases were once defined by all channels, so they had another hash for every domain. One of
    those, or one with other validation text, is the same model if it is done.

    Args:
        config: The pre-training run as planned.
        channels: All channels of the study: its bases were defined by them.
        stored: The runs that are there.

    Returns:
        A run that trains the same model.
    """

    def with_identity(identity: Identity) -> RunConfig:
        return config.model_copy(update={"identity": identity})

    earlier = config.identity.model_copy(update={"channels": channels})
    for known in (earlier, config.identity):
        if known.hash in stored.folders:
            return with_identity(known)
    wanted = _what_trains(config.identity)
    for folder, other in stored.sound:
        is_same = other.identity.kind == "pretrain" and _what_trains(other.identity) == wanted
        if is_same and folder.is_done(with_identity(other.identity)):
            return with_identity(other.identity)
    return config


def _what_trains(identity: Identity) -> dict[str, Any]:
    """The fields of a base's identity that its weights depend on."""
    fields = identity.model_dump(exclude={"validation_tokens"})
    fields["channels"] = [
        channel.model_dump(exclude={"valid_sha256"})
        for channel in identity.channels
        if channel.side == "general"
    ]
    return fields
