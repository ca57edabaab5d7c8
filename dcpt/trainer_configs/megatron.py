"""Megatron-LM: a bash array of arguments. The weights of its blend are shares of sequences."""

from __future__ import annotations

import shlex

from dcpt.trainer_configs.layout import head, read_sources, rounded, token_lines, write_stages
from dcpt.trainer_configs.records import Recipe, Stage


def write_megatron(recipe: Recipe) -> dict[str, str]:
    """A bash file of each stage, to be sourced before ``pretrain_gpt.py "${DCPT_ARGS[@]}"``."""
    return write_stages(recipe, "megatron", ".sh", _write_stage)


def _write_stage(recipe: Recipe, stage: Stage) -> str:
    lines = [f"  {' '.join(map(shlex.quote, line))}" for line in _arguments(recipe, stage)]
    more = ['Use: source this file, then pretrain_gpt.py "${DCPT_ARGS[@]}" and your arguments.']
    if stage.first_step:
        more.append(
            f"It resumes from step {stage.first_step}: --load the folder of that checkpoint."
        )
    if stage is not recipe.stages[-1]:
        more.append("--exit-interval ends the stage; --save writes the checkpoint of its end.")
    text = head(recipe, *token_lines(recipe, stage), *more)
    return text + "DCPT_ARGS=(\n" + "\n".join(lines) + "\n)\n"


def _arguments(recipe: Recipe, stage: Stage) -> list[list[str]]:
    blend = [
        (str(rounded(stage.shares[source.name])), source.place)
        for source in read_sources(recipe, stage)
    ]
    arguments = [
        ["--data-path", *(part for pair in blend for part in pair)],
        ["--seq-length", str(recipe.sequence_tokens)],
        ["--global-batch-size", str(recipe.batch_sequences)],
        ["--train-iters", str(recipe.n_steps)],
        ["--lr", repr(recipe.learning_rate)],
        ["--min-lr", "0.0"],
        ["--lr-warmup-iters", str(recipe.warmup_steps)],
    ]
    if recipe.decay_steps:
        arguments += [
            ["--lr-decay-style", "WSD"],
            ["--lr-wsd-decay-style", "linear"],
            ["--lr-wsd-decay-iters", str(recipe.decay_steps)],
            ["--lr-decay-iters", str(recipe.n_steps)],
        ]
    else:
        arguments.append(["--lr-decay-style", "constant"])
    if stage is not recipe.stages[-1]:
        arguments.append(["--exit-interval", str(stage.end_step)])
    return arguments
