"""NeMo Framework (Megatron Bridge): YAML overrides of a recipe. Its blend is that of Megatron."""

from __future__ import annotations

from typing import Any

from dcpt.trainer_configs.layout import (
    as_yaml,
    head,
    read_sources,
    rounded,
    token_lines,
    write_stages,
)
from dcpt.trainer_configs.records import Recipe, Stage


def write_nemo(recipe: Recipe) -> dict[str, str]:
    """A YAML file of each stage, given to a script of Megatron Bridge with ``--config-file``."""
    return write_stages(recipe, "nemo", ".yaml", _write_stage)


def _write_stage(recipe: Recipe, stage: Stage) -> str:
    sources = read_sources(recipe, stage)
    train: dict[str, Any] = {
        "train_iters": recipe.n_steps,
        "global_batch_size": recipe.batch_sequences,
    }
    content: dict[str, Any] = {
        "train": train,
        "optimizer": {"lr": recipe.learning_rate, "min_lr": 0.0},
        "scheduler": {"lr_warmup_iters": recipe.warmup_steps, "lr_decay_style": "constant"},
        "dataset": {
            "sequence_length": recipe.sequence_tokens,
            "blend": [
                [source.place for source in sources],
                [rounded(stage.shares[source.name]) for source in sources],
            ],
        },
    }
    if recipe.decay_steps:
        content["scheduler"] |= {
            "lr_decay_style": "WSD",
            "lr_wsd_decay_style": "linear",
            "lr_wsd_decay_iters": recipe.decay_steps,
            "lr_decay_iters": recipe.n_steps,
        }
    if stage is not recipe.stages[-1]:
        train["exit_interval"] = stage.end_step  # the stage ends there, with a checkpoint
    if stage.first_step:
        content["checkpoint"] = {"load": f"PATH-OF-CHECKPOINT-{stage.first_step}"}
    return head(recipe, *token_lines(recipe, stage)) + as_yaml(content)
