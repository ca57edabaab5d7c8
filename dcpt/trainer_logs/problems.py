"""Problems of several runs that are of one kind are one sentence."""

from __future__ import annotations

from collections.abc import Callable

from dcpt.errors import InputError
from dcpt.trainer_logs.mapping import list_names


class Problems:
    """Collects problems by kind with the runs that have them."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._words: dict[str, Callable[[str], str]] = {}

    def add(self, kind: str, run: str, words: Callable[[str], str]) -> None:
        """Add a problem of a run; ``words`` makes the sentence from the names of the runs."""
        self._found.setdefault(kind, []).append(run)
        self._words.setdefault(kind, words)

    def raise_if_any(self) -> None:
        """Raise all problems together."""
        if self._found:
            raise InputError(
                [self._words[kind](_name_runs(runs)) for kind, runs in self._found.items()]
            )


def _name_runs(runs: list[str]) -> str:
    return f"run {runs[0]}" if len(runs) == 1 else f"{len(runs)} runs ({list_names(runs)})"
