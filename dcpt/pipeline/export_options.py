"""What a person says about the target's run when a configuration is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcpt.trainer_configs.records import DocumentLengths


@dataclass(frozen=True)
class ExportOptions:
    """What a person says about the target's run; what is None or absent comes from the study.

    Args:
        paths: Where the trainer finds the text of a channel.
        lengths: Document lengths of a channel.
        unique_tokens: Tokens of a channel's distinct documents.
        weights: Weights of the general channels, where a table has several.
        decay_mixture: Shares of the final decay by channel.
        decay_mixture_name: Name of a mixture of the study, instead.
        decay: Length of the decay as a share of the tokens before it.
        batch_sequences: Sequences of a step over all devices.
        sequence_tokens: Tokens of a sequence.
        learning_rate: Peak learning rate, where the recommendation has none.
        warmup_tokens: Tokens of the warmup, where the recommendation has none.
        devices: Number of data-parallel devices.
        command: The command, for the head of the files.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    lengths: Mapping[str, DocumentLengths] = field(default_factory=dict)
    unique_tokens: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    decay_mixture: Mapping[str, float] = field(default_factory=dict)
    decay_mixture_name: str | None = None
    decay: float | None = None
    batch_sequences: int | None = None
    sequence_tokens: int | None = None
    learning_rate: float | None = None
    warmup_tokens: float | None = None
    devices: int = 1
    command: str = "dcpt export"
