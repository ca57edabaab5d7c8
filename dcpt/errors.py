"""The one error that bad input raises."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(ValueError):
    """Bad input from a person: says where, which value, which rule, and what to do.

    The command line prints it without a traceback and exits with code 2.

    Args:
        problems: One sentence, or several that were found together.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))
