"""torchtitan: a Python module for a config function. It mixes packed sequences, so by tokens."""

from __future__ import annotations

from pprint import pformat

from dcpt.trainer_configs.layout import head, read_sources, rounded, token_lines, write_stages
from dcpt.trainer_configs.records import Recipe, Stage

_CODE = """
from datasets import load_dataset
from torchtitan.components.optimizer import LRSchedulersContainer
from torchtitan.config import TrainingConfig
from torchtitan.hf_datasets import DatasetConfig
from torchtitan.hf_datasets.text_datasets import (
    DATASETS,
    HFDataSource,
    InterleavedHuggingFaceTextDataLoader,
)

SOURCES = {sources}
WEIGHTS = {weights}
LEARNING_RATE = {learning_rate!r}  # of the optimizer


def load_json_lines(path):
    return load_dataset("json", data_files=path, split="train")


def read_text(sample):
    return sample["text"]


for name, path in SOURCES.items():  # torchtitan looks names up in lower case
    DATASETS[name.lower()] = DatasetConfig(
        path=path, loader=load_json_lines, sample_processor=read_text
    )

dataloader = InterleavedHuggingFaceTextDataLoader.Config(
    sources=[HFDataSource(dataset=name, weight=weight) for name, weight in WEIGHTS.items()],
    stopping_strategy="all_exhausted",
    seed=42,
)
training = TrainingConfig(
    steps={end_step},
    seq_len={sequence_tokens},
    local_batch_size=1,
    global_batch_size={batch_sequences},
)
lr_scheduler = LRSchedulersContainer.Config(
    warmup_steps={warmup_steps},
    total_steps={n_steps},
    decay_ratio={decay_ratio!r},  # of the total steps: the decay
    decay_type="linear",
    min_lr_factor=0.0,
)
"""


def write_torchtitan(recipe: Recipe) -> dict[str, str]:
    """A Python module of each stage; sources are JSON Lines with the field ``text``."""
    return write_stages(recipe, "torchtitan", ".py", _write_stage)


def _write_stage(recipe: Recipe, stage: Stage) -> str:
    sources = read_sources(recipe, stage)
    code = _CODE.format(
        sources=pformat({source.name: source.place for source in sources}, sort_dicts=False),
        weights=pformat({s.name: rounded(stage.shares[s.name]) for s in sources}, sort_dicts=False),
        learning_rate=recipe.learning_rate,
        end_step=stage.end_step,
        sequence_tokens=recipe.sequence_tokens,
        batch_sequences=recipe.batch_sequences,
        warmup_steps=recipe.warmup_steps,
        n_steps=recipe.n_steps,
        decay_ratio=recipe.decay_steps / recipe.n_steps,
    )
    more = ["Each source is packed into sequences before they are mixed."]
    if stage.first_step:
        more.append(
            f"It resumes from the checkpoint of step {stage.first_step} without the state of its "
            'data loader: exclude_from_loading=["dataloader"] in the checkpoint section.'
        )
    return head(recipe, *token_lines(recipe, stage), *more) + code
