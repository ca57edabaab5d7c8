"""Shared material: small made-up texts and a study that trains in seconds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny_study import STUDY, write_text

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """Tables of other people that are not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: these tables are not part of the repository")
    return SHARED


@pytest.fixture
def as_root() -> None:
    """Tests that mount a small file system."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")


@pytest.fixture
def tiny_study(tmp_path: Path) -> Path:
    """A study of two sizes x three ratios with a larger target, its texts not yet prepared."""
    general = "the of and to a in house river people law state union year work peace war man"
    domain = "fever bone tooth lung other unspecified initial encounter left right acute chronic"
    write_text(tmp_path / "general.jsonl", general, 150, seed=1)
    write_text(tmp_path / "domain.jsonl", domain, 150, seed=2)
    study = tmp_path / "study.yaml"
    study.write_text(STUDY, encoding="utf-8")
    return study
