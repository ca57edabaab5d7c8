"""Our own runs, as they come with the package: ``SOURCE.md`` says what they are."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from dcpt.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("zh_annealed", "code", "code_lr")
"""The tables; the first is what ``dcpt demo --bundled`` shows."""


def bundled_runs(name: str = "zh_annealed") -> pd.DataFrame:
    """Load a runs table that comes with the package.

    Args:
        name: ``zh_annealed`` (two sizes, five learning rates, decays to zero), ``code`` (three
            sizes at a rate that falls with size) or ``code_lr`` (three sizes at two rates).

    Returns:
        The checked runs table, one row per point; losses in nats per token.

    Raises:
        InputError: If there is no table of that name.

    Examples:
        >>> runs = dcpt.bundled_runs("zh_annealed")
        >>> runs["run"].nunique(), len(runs)
        (50, 800)
    """
    from dcpt.table import load_runs

    if name not in NAMES:
        raise InputError(f"there are no bundled runs {name!r}; take one of {', '.join(NAMES)}")
    with as_file(files(__name__) / f"{name}.csv") as path:
        return load_runs(path)
