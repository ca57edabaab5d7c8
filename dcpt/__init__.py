"""How much domain text goes into a continual pre-training run.

The names below are loaded when they are first used, so that ``import dcpt`` costs next to nothing
and never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcpt.bundled import bundled_runs
    from dcpt.errors import InputError
    from dcpt.table import load_runs

    __version__: str

_HOMES = {
    "InputError": "dcpt.errors",
    "bundled_runs": "dcpt.bundled",
    "load_runs": "dcpt.table",
}

__all__ = ["InputError", "__version__", "bundled_runs", "load_runs"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("dcpt")
    if name not in _HOMES:
        raise AttributeError(f"module 'dcpt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
