"""nanotron: sections of its YAML file. It changes the mixture by itself at a step."""

from __future__ import annotations

from dcpt.trainer_configs.hf_arguments import batch_arguments
from dcpt.trainer_configs.layout import TOKEN_SHARES, as_yaml, head, read_sources, rounded
from dcpt.trainer_configs.records import Recipe, Stage


def write_nanotron(recipe: Recipe) -> dict[str, str]:
    """One YAML file: ``tokens``, ``optimizer.learning_rate_scheduler`` and ``data_stages``."""
    batch = batch_arguments(recipe)
    schedule = {
        "learning_rate": recipe.learning_rate,
        "lr_warmup_steps": recipe.warmup_steps,
        "lr_warmup_style": "linear",
        "lr_decay_style": "linear",
        # Without a decay, the rate decays to itself.
        "min_decay_lr": 0.0 if recipe.decay_steps else recipe.learning_rate,
        "lr_decay_starting_step": recipe.n_steps - recipe.decay_steps,
        "lr_decay_steps": recipe.decay_steps,
    }
    if not recipe.decay_steps:
        del schedule["lr_decay_starting_step"], schedule["lr_decay_steps"]
    content = {
        "tokens": {
            "sequence_length": recipe.sequence_tokens,
            "train_steps": recipe.n_steps,
            "micro_batch_size": batch["per_device_train_batch_size"],
            "batch_accumulation_per_replica": batch["gradient_accumulation_steps"],
        },
        "optimizer": {"learning_rate_scheduler": schedule},
        "data_stages": [_stage(recipe, stage) for stage in recipe.stages],
    }
    more = [TOKEN_SHARES, "Merge these sections into your file; the folders are Nanosets."]
    return {"nanotron.yaml": head(recipe, *more) + as_yaml(content)}


def _stage(recipe: Recipe, stage: Stage) -> dict[str, object]:
    sources = read_sources(recipe, stage)
    dataset = {
        "dataset_folder": [source.place for source in sources],
        "dataset_weights": [rounded(stage.shares[source.name]) for source in sources],
    }
    return {
        "name": stage.name,
        "start_training_step": stage.first_step + 1,
        "data": {"dataset": dataset, "num_loading_workers": 1, "seed": 42},
    }
