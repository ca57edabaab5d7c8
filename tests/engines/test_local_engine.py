"""The local engine passes the tests of all engines."""

from __future__ import annotations

from pathlib import Path

from conformance import EngineConformance

from dcpt.engines.choose import open_engine
from dcpt.engines.engine import Engine, Tick
from dcpt.grid.slots import Slot
from dcpt.study.engine import EngineSection
from dcpt.study.folder import StudyFolder


class TestLocal(EngineConformance):
    def open(self, study: Path, on_tick: Tick | None = None) -> Engine:
        return open_engine(EngineSection(), StudyFolder(study), [Slot()], on_tick)
