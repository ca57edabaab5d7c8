"""Read and check a study file; each problem is a sentence."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dcpt.errors import InputError, did_you_mean
from dcpt.names import shorten
from dcpt.study.schema import Study
from dcpt.yaml_files import read_yaml

MOST_SHOWN = 20
"""Problems that an error lists; the others are counted."""

_RULES = {
    "model_type": "is not a section; write keys and their values",
    "dict_type": "is not a section; write keys and their values",
    "list_type": "is not a list; write [..., ...], or a line that begins with - for each item",
    "string_pattern_mismatch": (
        "is not a name; write letters from a to z, digits, _, . and -, a letter or digit first"
    ),
}
"""Messages in place of pydantic's own, by type of problem; they follow the value."""


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
    if problem["type"] == "extra_forbidden":
        key, parent = str(problem["loc"][-1]), problem["loc"][:-1]
        valid = _keys_at(parent)
        return f"{where}: unknown key; valid here: {', '.join(valid)}{did_you_mean(key, valid)}"
    if problem["type"] == "missing":
        return f"{where}: missing; this key is required"
    message = _RULES.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    value = problem["input"]
    if problem["type"] == "string_type" and isinstance(value, int | float):
        message += "; put it in quotes"
    shown = shorten(value)
    if isinstance(value, dict | list | BaseModel) or shown in message:
        shown = ""
    else:
        message = message[0].lower() + message[1:]
    return f"{where}: {shown} {message}" if shown else f"{where}: {message}"


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
