"""Texts of configuration files: their head of comments, their YAML, one file per stage."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

from dcpt.trainer_configs.document_weights import describe_documents
from dcpt.trainer_configs.records import Recipe, Source, Stage

_WHOLE_WORDS: Any = {"break_long_words": False, "break_on_hyphens": False}

TOKEN_SHARES = (
    "This trainer mixes by tokens (sequences of equal length): weights are shares of tokens."
)


def head(recipe: Recipe, *more: str) -> str:
    """The head of a file as comments: the recommendation, the run, and further lines."""
    return comment([*recipe.about, *recipe.describe(), *more]) + "\n"


def comment(lines: Iterable[str]) -> str:
    """Lines as comments of Python, YAML and shells, wrapped at 100 characters.

    A line break in a line, such as one in the name of a file, starts a comment too.
    """
    parts = [part for line in lines for part in line.splitlines()]
    wrapped = [piece for part in parts for piece in textwrap.wrap(part, 98, **_WHOLE_WORDS)]
    return "\n".join(f"# {piece}" for piece in wrapped)


def as_yaml(content: Mapping[str, Any]) -> str:
    """A mapping as YAML, in its order."""
    return yaml.safe_dump(
        dict(content), sort_keys=False, allow_unicode=True, default_flow_style=False, width=100
    )


def read_sources(recipe: Recipe, stage: Stage) -> list[Source]:
    """The sources that a stage reads."""
    return [source for name, source in recipe.sources.items() if stage.shares.get(name)]


def rounded(weight: float) -> float:
    """A weight with ten digits: far finer than any sampler, and without binary noise."""
    return float(f"{weight:.10g}")


def write_stages(
    recipe: Recipe, name: str, suffix: str, write: Callable[[Recipe, Stage], str]
) -> dict[str, str]:
    """A file for each stage, or a single file without a number if the run has one stage.

    Args:
        recipe: The run.
        name: Start of the files' names.
        suffix: End of the files' names, with its dot.
        write: Writes the text of a stage.

    Returns:
        Text by file name.
    """
    if len(recipe.stages) == 1:
        return {f"{name}{suffix}": write(recipe, recipe.stages[0])}
    return {
        f"{name}-{number}-{stage.name}{suffix}": write(recipe, stage)
        for number, stage in enumerate(recipe.stages, 1)
    }


def stage_lines(recipe: Recipe, stage: Stage) -> list[str]:
    """A line on which part of the run a file is; none if the run has one stage."""
    if len(recipe.stages) == 1:
        return []
    number = recipe.stages.index(stage) + 1
    shares = ", ".join(f"{name} {share:.4g}" for name, share in stage.shares.items())
    return [
        f"Stage {number} of {len(recipe.stages)} ({stage.name}): steps {stage.first_step + 1} to "
        f"{stage.end_step}. Shares of tokens: {shares}."
    ]


def document_lines(recipe: Recipe, stage: Stage) -> list[str]:
    """What the head of a stage's file says if the trainer draws documents."""
    return [*stage_lines(recipe, stage), *describe_documents(recipe, stage)]


def token_lines(recipe: Recipe, stage: Stage) -> list[str]:
    """What the head of a stage's file says if the trainer mixes tokens."""
    return [*stage_lines(recipe, stage), TOKEN_SHARES]
