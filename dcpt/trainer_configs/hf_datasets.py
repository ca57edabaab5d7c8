"""Hugging Face datasets: a Python module that mixes with ``interleave_datasets``."""

from __future__ import annotations

from pprint import pformat

from dcpt.trainer_configs.document_weights import document_weights
from dcpt.trainer_configs.hf_arguments import batch_arguments, resume_arguments, schedule_arguments
from dcpt.trainer_configs.layout import document_lines, head, rounded
from dcpt.trainer_configs.records import Recipe

_CODE = '''
from datasets import interleave_datasets, load_dataset

SOURCES = {sources}

DOCUMENT_WEIGHTS = {weights}

STEPS = {steps}  # first step of each stage, and the step after its last

LEARNING_RATE = {learning_rate!r}
WARMUP_STEPS, DECAY_STEPS, N_STEPS = {warmup_steps}, {decay_steps}, {n_steps}
BATCH_SEQUENCES, SEQUENCE_TOKENS = {batch_sequences}, {sequence_tokens}

# For transformers.TrainingArguments, if you train with its Trainer. Of a stage that resumes, give
# the checkpoint to Trainer.train(resume_from_checkpoint=...).
TRAINING_ARGUMENTS = {arguments}


def load_mixture(stage={first!r}, seed=0, datasets=None):
    """Documents of a stage, drawn by weight; sources are repeated until all were read.

    Concatenate the tokens of the documents and cut them into sequences: cutting each document
    instead changes the shares. `datasets` replaces the files of SOURCES, by name.
    """
    weights = DOCUMENT_WEIGHTS[stage]
    parts = datasets or {{
        name: load_dataset("json", data_files=SOURCES[name], split="train") for name in weights
    }}
    return interleave_datasets(
        [parts[name] for name in weights],
        probabilities=list(weights.values()),
        seed=seed,
        stopping_strategy="all_exhausted",
    )
'''


def write_hf_datasets(recipe: Recipe) -> dict[str, str]:
    """One Python module, ``mixture.py``, with all stages."""
    weights, arguments, lines = {}, {}, []
    for stage in recipe.stages:
        arguments[stage.name] = {
            **schedule_arguments(recipe, stage),
            **batch_arguments(recipe),
            **resume_arguments(stage),
        }
        found = document_weights(recipe, stage)
        weights[stage.name] = {name: rounded(found[name]) for name in stage.shares}
        lines += document_lines(recipe, stage)
    code = _CODE.format(
        sources=pformat({name: s.place for name, s in recipe.sources.items()}, sort_dicts=False),
        weights=pformat(weights, sort_dicts=False),
        steps=repr({stage.name: (stage.first_step, stage.end_step) for stage in recipe.stages}),
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup_steps,
        decay_steps=recipe.decay_steps,
        n_steps=recipe.n_steps,
        batch_sequences=recipe.batch_sequences,
        sequence_tokens=recipe.sequence_tokens,
        arguments=pformat(arguments, sort_dicts=False),
        first=recipe.stages[0].name,
    )
    return {"mixture.py": head(recipe, *lines) + code}
