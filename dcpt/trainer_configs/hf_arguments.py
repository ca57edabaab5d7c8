"""Learning rate, steps and batch as arguments of the trainer of ``transformers``.

ms-swift, LLaMA-Factory and axolotl train with it and take its arguments.
"""

from __future__ import annotations

from typing import Any

from dcpt.trainer_configs.records import Recipe, Stage


def schedule_arguments(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """Arguments for the learning rate and the steps of a stage.

    A stage ends at its last step; the next one resumes from the checkpoint of that step, with the
    optimizer's state and the position in the schedule.
    """
    arguments: dict[str, Any] = {
        "learning_rate": recipe.learning_rate,
        "warmup_steps": recipe.warmup_steps,
        "max_steps": stage.end_step,
    }
    if recipe.decay_steps and stage is recipe.stages[-1]:
        arguments["lr_scheduler_type"] = "warmup_stable_decay"
        arguments["lr_scheduler_kwargs"] = {
            # Without it, LLaMA-Factory starts the decay after a third of the steps.
            "num_stable_steps": recipe.stable_steps,
            "num_decay_steps": recipe.decay_steps,
            "decay_type": "linear",
            "min_lr_ratio": 0.0,
        }
    else:  # the rate before the decay is the same in both schedules
        arguments["lr_scheduler_type"] = "constant_with_warmup"
    return arguments


def resume_arguments(stage: Stage) -> dict[str, Any]:
    """Arguments that resume from the checkpoint of the stage before, on other data."""
    if not stage.first_step:
        return {}
    return {
        "resume_from_checkpoint": f"PATH-OF-CHECKPOINT-{stage.first_step}",
        "ignore_data_skip": True,
    }


def batch_arguments(recipe: Recipe) -> dict[str, int]:
    """Batch of a device and accumulation, whose product over all devices is the batch."""
    accumulated = recipe.batch_sequences // recipe.devices
    return {"per_device_train_batch_size": 1, "gradient_accumulation_steps": accumulated}
