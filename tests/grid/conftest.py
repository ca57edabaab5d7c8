"""Prepared studies for the tests of the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace

ONE_SIZE = "bases: [a, b], ratios: [0.25, 0.5, 0.75]", "bases: [a], ratios: [0.25, 0.5]"


@pytest.fixture
def study(tiny_study: Path) -> Path:
    """A prepared study of one size and two ratios, without the larger target."""
    text = tiny_study.read_text(encoding="utf-8").replace(*ONE_SIZE)
    text = text[: text.index("target:")]
    tiny_study.write_text(text, encoding="utf-8")
    prepare_study(Workspace(tiny_study), workers=1)
    return tiny_study


@pytest.fixture
def longer(study: Path) -> Path:
    """Trunks long enough to be observed many times."""
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("tokens: 5120", "tokens: 102400"), encoding="utf-8")
    return study
