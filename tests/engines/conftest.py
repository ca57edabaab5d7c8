"""A prepared study for the tests of the engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace


@pytest.fixture
def study(tiny_study: Path) -> Path:
    """A prepared study of one size and two ratios: a base, two trunks and their decays."""
    text = tiny_study.read_text(encoding="utf-8")
    text = text.replace("[a, b], ratios: [0.25, 0.5, 0.75]", "[a], ratios: [0.25, 0.5]")
    tiny_study.write_text(text[: text.index("target:")], encoding="utf-8")
    prepare_study(Workspace(tiny_study), workers=1)
    return tiny_study
