"""What ``scale.py`` measures: shapes, rows and their times."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "0.5B": {
        "vocab_size": 151_936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "1.5B": {
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "7B": {
        "vocab_size": 151_936,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
}
"""Shapes of Qwen2.5, by the names of ``transformers``, and a tiny one to try the script."""


@dataclass(frozen=True)
class Case:
    """What a row measures.

    Attributes:
        micro_batch: Sequences that a GPU passes at a time.
        recompute: Whether the backward pass computes each layer again.
        warmup: Steps before the timed ones.
        steps: Timed steps.
    """

    system: str
    size: str
    gpus: int
    sequence: int
    batch_tokens: int
    micro_batch: int
    recompute: bool
    warmup: int
    steps: int
    device: str

    @property
    def batch(self) -> int:
        """Sequences of a step, on all GPUs."""
        return self.batch_tokens // self.sequence

    @property
    def passes(self) -> int:
        """Micro-batches of a step on each GPU."""
        return self.batch // (self.micro_batch * self.gpus)

    def config(self) -> Any:
        """Configure the model for ``transformers``."""
        from transformers import Qwen2Config

        no_ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        theta = {"rope_type": "default", "rope_theta": 1_000_000.0}
        return Qwen2Config(
            **SHAPES[self.size], **no_ids, max_position_embeddings=32_768, rope_parameters=theta
        )


class Clock:
    """Times of the first timed step and of the end.

    Args:
        case: The row.
    """

    def __init__(self, case: Case) -> None:
        self._case, self._taken = case, 0
        self._times: list[float] = []
        self._began = time.monotonic()

    def note_step(self) -> None:
        """Note that a step was launched; waits for the GPU before and after the timed steps."""
        self._taken += 1
        if self._taken in (self._case.warmup, self._case.warmup + self._case.steps):
            if self._case.device == "cuda":
                torch.cuda.synchronize()
            self._times.append(time.monotonic())

    def describe(self) -> dict[str, Any]:
        """Tokens per second on all GPUs, and seconds before the first timed step."""
        first, last = self._times
        tokens = self._case.steps * self._case.batch_tokens
        return {"tokens_per_s": tokens / (last - first), "ready_s": first - self._began}
