"""OLMo-core: a Python module with its mixture, scheduler and batch. Ratios are of tokens."""

from __future__ import annotations

import math

from dcpt.trainer_configs.layout import (
    head,
    read_sources,
    rounded,
    token_lines,
    write_stages,
)
from dcpt.trainer_configs.records import Recipe, Source, Stage

_CODE = """
from olmo_core.data.source_mixture import (
    SourceMixtureConfig,
    SourceMixtureDatasetConfig,
    SourceMixtureList,
)
from olmo_core.optim import {scheduler}

SEQUENCE_TOKENS = {sequence_tokens}
MAX_STEPS = {end_step}  # Duration.steps(MAX_STEPS)
LEARNING_RATE = {learning_rate!r}

scheduler = {schedule}
mixture = SourceMixtureDatasetConfig(  # source_mixture_config of NumpyFSLDatasetConfig
    source_list=SourceMixtureList(
        sources=[
{sources}
        ]
    ),
    requested_tokens={tokens},
    global_batch_size={batch_tokens},
    seed=42,
)
"""


def write_olmo_core(recipe: Recipe) -> dict[str, str]:
    """A Python module of each stage."""
    return write_stages(recipe, "olmo-core", ".py", _write_stage)


def _write_stage(recipe: Recipe, stage: Stage) -> str:
    name, schedule = _schedule(recipe, stage)
    code = _CODE.format(
        scheduler=name,
        schedule=schedule,
        sequence_tokens=recipe.sequence_tokens,
        end_step=stage.end_step,
        learning_rate=recipe.learning_rate,
        sources="\n".join(_source(source, stage, recipe) for source in read_sources(recipe, stage)),
        tokens=recipe.stage_tokens(stage),
        batch_tokens=recipe.batch_tokens,
    )
    more = [
        "max_repetition_ratio allows the epochs that the stage needs of the unique tokens above; "
        "OLMo-core stops if your files hold fewer."
    ]
    if stage.first_step:
        more.append(
            f"It resumes from the checkpoint of step {stage.first_step}, without the data loader's "
            "state: load_trainer_state=True and a new data loader."
        )
    return head(recipe, *token_lines(recipe, stage), *more) + code


def _schedule(recipe: Recipe, stage: Stage) -> tuple[str, str]:
    """Name and constructor of the scheduler; before the decay both schedules are the same."""
    if recipe.decay_steps and stage is recipe.stages[-1]:
        how = f"warmup={recipe.warmup_steps}, decay={recipe.decay_steps}, decay_fraction=None"
        return "WSD", f"WSD({how})"
    return "ConstantWithWarmup", f"ConstantWithWarmup(warmup={recipe.warmup_steps})"


def _source(source: Source, stage: Stage, recipe: Recipe) -> str:
    share = stage.shares[source.name]
    fields = [
        f"source_name={source.name!r}",
        f"target_ratio={rounded(share)!r}",
        f"paths=[{source.place!r}]",
    ]
    if source.unique_tokens is not None:
        epochs = recipe.stage_tokens(stage) * share / source.unique_tokens
        if epochs > 1:
            fields.append(f"max_repetition_ratio={math.ceil(100 * epochs) / 100 + 0.01:.2f}")
    inner = "".join(f"                {field},\n" for field in fields)
    return f"            SourceMixtureConfig(\n{inner}            ),"
