"""Read and check a study file; each problem is a sentence."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dcpt.errors import InputError
from dcpt.study.schema import Study
from dcpt.yaml_files import explain_problem, read_yaml

MOST_SHOWN = 20
"""Problems that an error lists; the others are counted."""


def load_study(path: Path) -> Study:
    """Read and check a study file.

    Raises:
        InputError: With every problem of the file: its key, value, rule and remedy.
    """
    content = read_yaml(path, f"write one with `dcpt init {path}`")
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no keys; write a study with `dcpt init {path}`")
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        problems = error.errors()
        words = [f"{path}: {_explain(problem)}" for problem in problems[:MOST_SHOWN]]
        if len(problems) > MOST_SHOWN:
            words.append(f"{path}: {len(problems) - MOST_SHOWN:,} more problems")
        raise InputError(words) from None


def study_template(file_name: str) -> str:
    """The commented study file that ``dcpt init`` writes."""
    template = resources.files("dcpt").joinpath("study_template.yaml").read_text(encoding="utf-8")
    return template.format(file=file_name)


def _explain(problem: Any) -> str:
    """A sentence for a pydantic problem: place, value, rule, remedy."""
    where = ".".join(str(part)[:60] for part in problem["loc"]) or "study"
    return explain_problem(problem, where, lambda: _keys_at(problem["loc"][:-1]))


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """Valid keys of the section at a place such as ``("bases", "ladder")``."""
    section: Any = Study
    inside_collection = False
    for part in place:
        if inside_collection:  # a list index or the label of a dict
            inside_collection = False
            continue
        annotation = section.model_fields[str(part)].annotation
        inside_collection = getattr(annotation, "__origin__", None) in (list, dict)
        section = _section_in(annotation)
    return list(section.model_fields)


def _section_in(annotation: Any) -> Any:
    """The section class inside ``list[X]``, ``dict[str, X]`` or ``X | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _section_in(inner)
        if found is not None:
            return found
    return None
