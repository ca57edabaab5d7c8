"""Sentences for the problems that pydantic finds in the keys of a file."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from dcpt.errors import did_you_mean
from dcpt.names import shorten

_NOT_A_LIST = "is not a list; write [..., ...], or a line that begins with - for each item"
_RULES = {
    "model_type": "is not a section; write keys and their values",
    "dict_type": "is not a section; write keys and their values",
    "list_type": _NOT_A_LIST,
    "tuple_type": _NOT_A_LIST,
    "string_pattern_mismatch": (
        "is not a name; write letters from a to z, digits, _, . and -, a letter or digit first"
    ),
}
"""Messages in place of pydantic's own, by type of problem; they follow the value."""


def explain_problem(problem: ErrorDetails, where: str, valid_keys: Callable[[], list[str]]) -> str:
    """Write a sentence for a problem that pydantic found in a file.

    Args:
        problem: The problem.
        where: Its place in the file.
        valid_keys: Gives the keys that are valid there; called if a key is unknown.
    """
    if problem["type"] == "extra_forbidden":
        valid = valid_keys()
        hint = did_you_mean(str(problem["loc"][-1]), valid)
        return f"{where}: unknown key; valid here: {', '.join(valid)}{hint}"
    if problem["type"] == "missing":
        return f"{where}: missing; this key is required"
    message = _RULES.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    value = problem["input"]
    if problem["type"] == "string_type" and isinstance(value, int | float):
        message += "; put it in quotes"
    shown = shorten(value)
    says_value = problem["type"] == "value_error" and shown in message
    if isinstance(value, dict | list | BaseModel) or says_value:
        return f"{where}: {message}"
    return f"{where}: {shown} {message[0].lower()}{message[1:]}"
