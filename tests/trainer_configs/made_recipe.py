"""Runs whose configurations are written: two or three sources, one or two stages."""

from __future__ import annotations

from typing import Any

from dcpt.trainer_configs import DocumentLengths, Recipe, Source, Stage

GENERAL = DocumentLengths(mean=2400.0, deviation=1800.0)
DOMAIN = DocumentLengths(mean=40.0, deviation=30.0)


def make_recipe(*, own_decay: bool = False, **fields: Any) -> Recipe:
    """1,000 steps of 64 sequences of 4,096 tokens, 30 % domain; the decay has 100 steps."""
    shares = {"web": 0.7, "law": 0.3}
    stages = (Stage("main", 0, 1000, shares),)
    if own_decay:
        stages = (
            Stage("main", 0, 900, shares),
            Stage("decay", 900, 100, {"web": 0.2, "law": 0.8}),
        )
    plain: dict[str, Any] = {
        "sources": {
            "web": Source("web", "general", path="web.jsonl", lengths=GENERAL, unique_tokens=240e6),
            "law": Source("law", "domain", path="law.jsonl", lengths=DOMAIN, unique_tokens=4e6),
        },
        "stages": stages,
        "learning_rate": 3e-4,
        "warmup_steps": 50,
        "decay_steps": 100,
        "batch_sequences": 64,
        "sequence_tokens": 4096,
        "about": ("Share of domain text: 30 %.",),
    }
    return Recipe(**{**plain, **fields})
