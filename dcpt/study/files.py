"""Read and check a study file; each problem is a sentence."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dcpt.errors import InputError
from dcpt.key_problems import explain_problem
from dcpt.study.lent_bases import find_lent, lender_of, name_lent
from dcpt.study.schema import Included, Study
from dcpt.study.section import Section
from dcpt.yaml_files import read_yaml

Kind = TypeVar("Kind", bound=Section)

MOST_SHOWN = 20
"""Problems that an error lists; the others are counted."""


def load_study(path: Path) -> Study:
    """Read and check a study file, and the runs of the file that it includes.

    Raises:
        InputError: With every problem of the file: its key, value, rule and remedy.
    """
    content = read_yaml(path, f"write one with `dcpt init {path}`")
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no keys; write a study with `dcpt init {path}`")
    lender = _find_lender(path, content)
    if lender is not None:
        content = name_lent(path, content, lender)
    study = _validate(path, content, Study)
    if study.include is not None:
        runs = load_included(path.parent / study.include, path).runs
        listed = [run.model_dump() for run in (*study.runs, *runs)]
        study = _validate(path, {**content, "runs": listed}, Study)
    return study if lender is None else find_lent(path, study, lender)


def _find_lender(path: Path, content: dict[str, Any]) -> Study | None:
    """The study whose bases a study names in ``bases.study``; None if it names none."""
    named = lender_of(content)
    if named is None:
        return None
    file = path.parent / named
    other = read_yaml(file, f"name the study that pre-trains the bases in bases.study of {path}")
    if lender_of(other) is not None:
        raise InputError(
            f"{path}: bases.study: {named} takes its bases from another study too; name the study "
            "that pre-trains them"
        )
    return load_study(file)


def load_included(path: Path, study: Path) -> Included:
    """Read and check a file of runs that a study includes.

    Args:
        path: The file.
        study: The study file.

    Raises:
        InputError: With every problem of the file.
    """
    remedy = f"write it with `dcpt next-runs {study} --write`, or remove `include` from {study}"
    return _validate(path, read_yaml(path, remedy) or {}, Included)


def _validate(path: Path, content: Any, kind: type[Kind]) -> Kind:
    """Check the content of a file.

    Raises:
        InputError: With every problem: its key, value, rule and remedy.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = error.errors()
        words = [f"{path}: {_explain(problem, kind)}" for problem in problems[:MOST_SHOWN]]
        if len(problems) > MOST_SHOWN:
            words.append(f"{path}: {len(problems) - MOST_SHOWN:,} more problems")
        raise InputError(words) from None


def study_template(file_name: str) -> str:
    """The commented study file that ``dcpt init`` writes."""
    template = resources.files("dcpt").joinpath("study_template.yaml").read_text(encoding="utf-8")
    return template.format(file=file_name)


def _explain(problem: Any, kind: type[Section]) -> str:
    """A sentence for a pydantic problem: place, value, rule, remedy."""
    where = ".".join(str(part)[:60] for part in problem["loc"]) or kind.__name__.lower()
    return explain_problem(problem, where, lambda: _keys_at(problem["loc"][:-1], kind))


def _keys_at(place: tuple[int | str, ...], kind: type[Section]) -> list[str]:
    """Valid keys of the section at a place such as ``("bases", "ladder")``."""
    section: Any = kind
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
