"""Reading a study file: YAML in, a checked ``Study`` out, each problem in one sentence."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from dcpt.errors import InputError
from dcpt.study import Study, nearest


def load_study(path: Path) -> Study:
    """Read and check a study file.

    Raises:
        InputError: With every problem of the file, each by its key, value, rule and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} is not there; write one with `dcpt init {path}`") from None
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from None
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no keys; write a study with `dcpt init {path}`")
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise InputError([f"{path}: {_explain(problem)}" for problem in error.errors()]) from None


def study_template(file_name: str) -> str:
    """The commented study file that ``dcpt init`` writes."""
    template = resources.files("dcpt").joinpath("study_template.yaml").read_text(encoding="utf-8")
    return template.format(file=file_name)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: ``1e-3`` is a number (YAML 1.1, PyYAML's own, reads it as text)."""


def _refuse_repeated_keys(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    """YAML would take the last of two equal keys in silence."""
    loader.flatten_mapping(node)
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in found:
            place = key_node.start_mark
            raise yaml.YAMLError(f"line {place.line + 1}: the key {key!r} stands there twice")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor("tag:yaml.org,2002:map", _refuse_repeated_keys)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9]+)[eE][-+]?[0-9]+"),
    list("-+.0123456789"),
)


def _explain(problem: Any) -> str:
    """One sentence for one pydantic problem: place, value, rule, remedy."""
    where = ".".join(str(part) for part in problem["loc"]) or "study"
    if problem["type"] == "extra_forbidden":
        key, parent = str(problem["loc"][-1]), problem["loc"][:-1]
        valid = _keys_at(parent)
        return f"{where}: unknown key; valid here: {', '.join(valid)}{nearest(key, valid)}"
    if problem["type"] == "missing":
        return f"{where}: missing; this key is required"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    value = problem["input"]
    shown = "" if isinstance(value, dict | list | BaseModel) else f" {value!r}"
    return f"{where}:{shown} {message}" if shown not in f" {message}" else f"{where}: {message}"


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
