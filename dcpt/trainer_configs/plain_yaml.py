"""YAML for every other trainer: shares in both units, schedule and batch, in plain names."""

from __future__ import annotations

from typing import Any

from dcpt.trainer_configs.document_weights import describe_documents, document_weights
from dcpt.trainer_configs.layout import as_yaml, head, rounded
from dcpt.trainer_configs.records import Recipe, Stage


def write_plain_yaml(recipe: Recipe) -> dict[str, str]:
    """One file, ``mixture.yaml``, with all stages."""
    has_lengths = all(source.lengths is not None for source in recipe.sources.values())
    content = {
        "learning_rate": {
            "peak": recipe.learning_rate,
            "warmup_steps": recipe.warmup_steps,
            "stable_steps": recipe.stable_steps,
            "decay_steps": recipe.decay_steps,
            "decay_shape": "linear",
            "final": 0.0 if recipe.decay_steps else recipe.learning_rate,
        },
        "batch": {
            "sequences": recipe.batch_sequences,
            "tokens_per_sequence": recipe.sequence_tokens,
            "tokens": recipe.batch_tokens,
        },
        "steps": recipe.n_steps,
        "sources": {
            name: {
                "path": source.place,
                "tokens": round(recipe.source_tokens(name)),
                "unique_tokens": source.unique_tokens,
                "tokens_per_document": None if source.lengths is None else source.lengths.mean,
            }
            for name, source in recipe.sources.items()
        },
        "stages": [_stage(recipe, stage, has_lengths) for stage in recipe.stages],
    }
    more = ["A trainer that mixes tokens or sequences takes token_shares."]
    if has_lengths:
        more.append("A trainer that draws documents takes document_weights.")
        more += [line for stage in recipe.stages for line in describe_documents(recipe, stage)[1:]]
    return {"mixture.yaml": head(recipe, *more) + as_yaml(content)}


def _stage(recipe: Recipe, stage: Stage, has_lengths: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": stage.name,
        "first_step": stage.first_step,
        "n_steps": stage.n_steps,
        "token_shares": {name: rounded(share) for name, share in stage.shares.items()},
        "document_weights": None,  # unknown without the lengths of all documents
    }
    if has_lengths:
        weights = document_weights(recipe, stage)
        found["document_weights"] = {name: rounded(weights[name]) for name in stage.shares}
    return found
