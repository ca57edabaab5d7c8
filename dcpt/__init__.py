"""How much domain text goes into a continual pre-training run.

The names below are loaded when they are first used, so that ``import dcpt`` costs next to nothing
and never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcpt.bundled import bundled_runs
    from dcpt.decide.next_runs import next_runs
    from dcpt.decide.recommend import recommend
    from dcpt.decide.records import Target
    from dcpt.decide.sentences import summarise
    from dcpt.diagnosis import diagnose
    from dcpt.errors import InputError
    from dcpt.laws import Law, Parameter, fit, load_fit
    from dcpt.limit import Limit
    from dcpt.pipeline.opened import open_study
    from dcpt.report.page import write_report
    from dcpt.report.plot import plot
    from dcpt.table import load_runs

    __version__: str

_HOMES = {
    "InputError": "dcpt.errors",
    "Law": "dcpt.laws",
    "Limit": "dcpt.limit",
    "Parameter": "dcpt.laws",
    "Target": "dcpt.decide.records",
    "bundled_runs": "dcpt.bundled",
    "diagnose": "dcpt.diagnosis",
    "fit": "dcpt.laws",
    "load_fit": "dcpt.laws",
    "load_runs": "dcpt.table",
    "next_runs": "dcpt.decide.next_runs",
    "open_study": "dcpt.pipeline.opened",
    "plot": "dcpt.report.plot",
    "recommend": "dcpt.decide.recommend",
    "summarise": "dcpt.decide.sentences",
    "write_report": "dcpt.report.page",
}

__all__ = [
    "InputError",
    "Law",
    "Limit",
    "Parameter",
    "Target",
    "__version__",
    "bundled_runs",
    "diagnose",
    "fit",
    "load_fit",
    "load_runs",
    "next_runs",
    "open_study",
    "plot",
    "recommend",
    "summarise",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("dcpt")
    if name not in _HOMES:
        raise AttributeError(f"module 'dcpt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
