"""ms-swift: ``swift pt FILE.yaml``. It draws documents with ``datasets.interleave_datasets``."""

from __future__ import annotations

from dcpt.trainer_configs.document_weights import document_weights
from dcpt.trainer_configs.hf_arguments import batch_arguments, resume_arguments, schedule_arguments
from dcpt.trainer_configs.layout import (
    as_yaml,
    document_lines,
    head,
    read_sources,
    rounded,
    write_stages,
)
from dcpt.trainer_configs.records import Recipe, Stage


def write_ms_swift(recipe: Recipe) -> dict[str, str]:
    """A YAML file of each stage."""
    return write_stages(recipe, "ms-swift", ".yaml", _write_stage)


def _write_stage(recipe: Recipe, stage: Stage) -> str:
    weights, sources = document_weights(recipe, stage), read_sources(recipe, stage)
    content = {
        "dataset": [source.place for source in sources],
        "interleave_prob": [rounded(weights[source.name]) for source in sources],
        # Else the text ends with the first source that does.
        "stopping_strategy": "all_exhausted",
        "split_dataset_ratio": 0.0,
        "max_length": recipe.sequence_tokens,
        "truncation_strategy": "split",  # by default, documents longer than a sequence are deleted
        "packing": True,
        "attn_impl": "flash_attn",  # packing is refused without it
        **schedule_arguments(recipe, stage),
        **batch_arguments(recipe),
        **resume_arguments(stage),
    }
    return head(recipe, *document_lines(recipe, stage)) + as_yaml(content)
