"""Errors that end a command: bad input, or a signal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from dcpt.names import escape_controls


class InputError(ValueError):
    """Bad input from the user: states the place, the value, the rule and the remedy.

    The command line prints it without a traceback and exits with code 2. Control characters of the
    input are escaped, so that they do not affect the terminal.

    Args:
        problems: A sentence, or a list of sentences.

    Examples:
        >>> try:
        ...     dcpt.bundled_runs("verse")
        ... except dcpt.InputError as error:
        ...     print(error.problems)
        ["there are no bundled runs 'verse'; take one of zh_annealed, code, code_lr"]
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        sentences = [problems] if isinstance(problems, str) else problems
        self.problems = [escape_controls(sentence) for sentence in sentences]
        super().__init__("\n".join(self.problems))


class Stopped(BaseException):
    """A signal stopped the work.

    Not an ``Exception``, like ``KeyboardInterrupt``: code that handles errors must not catch it.

    Args:
        number: The signal.
        words: What was saved, and how to resume.

    Attributes:
        exit_code: The conventional one, 128 + the signal's number.
    """

    def __init__(self, number: int, words: str) -> None:
        super().__init__(words)
        self.exit_code = 128 + number


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The end of an error about an unknown name: the valid name most like it, if there is one."""
    similar = difflib.get_close_matches(name, list(valid), n=1)
    similar = similar or difflib.get_close_matches(name.lower(), list(valid), n=1)
    return f"; did you mean {similar[0]!r}?" if similar else ""
