"""The Ray engine on a cluster of several local nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance import EngineConformance

from dcpt.engines.choose import open_engine, slots_of
from dcpt.engines.engine import Engine, Tick
from dcpt.study.engine import EngineSection
from dcpt.study.folder import StudyFolder

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    # The sockets of Ray's own processes and files, which it leaves to Python's end.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def open_ray(study: Path, on_tick: Tick | None = None, **settings: object) -> Engine:
    section = EngineSection.model_validate({"kind": "ray", "ray": settings})
    return open_engine(section, StudyFolder(study), slots_of(section, None), on_tick)


class TestRay(EngineConformance):
    def open(self, study: Path, on_tick: Tick | None = None) -> Engine:
        return open_ray(study, on_tick)
