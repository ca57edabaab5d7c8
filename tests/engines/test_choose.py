"""The engine of a study, and the option that overrides it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpt.engines.choose import open_engine, override_kind
from dcpt.errors import InputError
from dcpt.grid.local import LocalEngine
from dcpt.grid.slots import Slot
from dcpt.study.engine import EngineSection
from dcpt.study.folder import StudyFolder


def test_a_study_without_the_section_trains_on_this_machine() -> None:
    engine = open_engine(EngineSection(), StudyFolder(Path("study.yaml")), [Slot()])
    assert isinstance(engine, LocalEngine)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match=r"--engine locl: .* did you mean 'local'\?"):
        override_kind(EngineSection(), "locl")
