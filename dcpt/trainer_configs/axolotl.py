"""axolotl: ``axolotl train FILE.yaml``. It has no weights, so documents are counted."""

from __future__ import annotations

from typing import Any

from dcpt.errors import InputError
from dcpt.trainer_configs.document_weights import document_counts, known_lengths
from dcpt.trainer_configs.hf_arguments import batch_arguments, resume_arguments, schedule_arguments
from dcpt.trainer_configs.layout import as_yaml, document_lines, head, read_sources, write_stages
from dcpt.trainer_configs.records import Recipe, Source, Stage


def write_axolotl(recipe: Recipe) -> dict[str, str]:
    """A YAML file of each stage."""
    return write_stages(recipe, "axolotl", ".yaml", _write_stage)


def _write_stage(recipe: Recipe, stage: Stage) -> str:
    counts = document_counts(recipe, stage)
    batch = batch_arguments(recipe)
    content = {
        "datasets": [
            entry
            for source in read_sources(recipe, stage)
            for entry in _entries(source, counts[source.name], recipe)
        ],
        "shuffle_merged_datasets": True,
        "num_epochs": 1,
        "sequence_len": recipe.sequence_tokens,
        "sample_packing": True,
        **_renamed(schedule_arguments(recipe, stage)),
        "micro_batch_size": batch["per_device_train_batch_size"],
        "gradient_accumulation_steps": batch["gradient_accumulation_steps"],
        **resume_arguments(stage),
    }
    more = [
        "axolotl has no weights: it concatenates what it is given and shuffles it. So each source "
        "is cut to the documents that the stage reads, and is listed again where it is repeated. "
        "The first documents of a file are taken: shuffle the file if it is sorted. A file with "
        "fewer documents than its unique tokens say gives too small a share."
    ]
    return head(recipe, *document_lines(recipe, stage), *more) + as_yaml(content)


def _renamed(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments by axolotl's names."""
    names = {"lr_scheduler_type": "lr_scheduler"}
    return {names.get(name, name): value for name, value in arguments.items()}


def _entries(source: Source, count: int, recipe: Recipe) -> list[dict[str, Any]]:
    """The documents of a source, in parts of at most as many as it has.

    Raises:
        InputError: If nobody has said how many documents the source has.
    """
    if source.unique_tokens is None:
        raise InputError(
            f"the number of documents of {source.name} is not known, and axolotl is given a number "
            f"of documents: give --unique-tokens {source.name}=300M with the tokens of your text"
        )
    documents = max(1, int(source.unique_tokens / known_lengths(recipe)[source.name].mean))
    whole, rest = divmod(count, documents)
    entry = {"path": source.place, "ds_type": "json", "type": "completion", "field": "text"}
    parts = [documents] * whole + ([rest] if rest else [])
    # Never the whole file: it may hold more documents than its unique tokens say.
    return [{**entry, "split": f"train[:{part}]"} for part in parts]
