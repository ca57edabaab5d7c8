"""Configurations of runs that are not trained: two channels, 10 tokens per step, 100 in all."""

from __future__ import annotations

from dcpt.runs.identity import ChannelIdentity, Identity, Recorded, RunConfig


def run_config(purpose: str = "grid", n_tokens: int = 100, **changes: object) -> RunConfig:
    """Configure a trunk; ``changes`` replace fields of its identity."""
    channels = tuple(
        ChannelIdentity(name=name, side=side, weight=1, train_sha256="a", valid_sha256="b")
        for name, side in (("en", "general"), ("law", "domain"))
    )
    fields = {
        "kind": "trunk",
        "base": "weights:00",
        "tokenizer_sha256": "c",
        "channels": channels,
        "ratio": 0.5,
        "learning_rate": 1e-3,
        "warmup_tokens": 10,
        "batch_sequences": 2,
        "sequence_tokens": 5,
        "validation_tokens": 100,
        "seed": 0,
    }
    recorded = Recorded(size="tiny", n_tokens=n_tokens, evaluation_at=(n_tokens,), purpose=purpose)
    return RunConfig(identity=Identity(**{**fields, **changes}), recorded=recorded)
