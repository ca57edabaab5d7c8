"""What ends a command early: bad input, or a signal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from dcpt.names import escape_controls


class InputError(ValueError):
    """Bad input from a person: says where, which value, which rule, and what to do.

    The command line prints it without a traceback and exits with code 2. Control characters of the
    input are shown escaped, so that they change nothing in a terminal.

    Args:
        problems: One sentence, or several that were found together.

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

    No ``Exception``, as ``KeyboardInterrupt`` is none: what handles errors must not catch it.

    Args:
        number: The signal.
        words: What was saved, and how to resume.

    Attributes:
        number: The signal.
        exit_code: The conventional one, 128 + the signal's number.
    """

    def __init__(self, number: int, words: str) -> None:
        super().__init__(words)
        self.number = number
        self.exit_code = 128 + number


def find_nearest(name: str, valid: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The valid name nearest to a name, None if none is near.

    Args:
        name: The name as written.
        valid: The valid names.
        cutoff: Least similarity, 0 to 1 (``difflib``).
    """
    found = difflib.get_close_matches(name, list(valid), n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest valid name, if one is near."""
    found = find_nearest(name, valid, cutoff=0.5)
    return f"; did you mean {found!r}?" if found else ""
