"""Shared fixtures: small synthetic texts and a study that trains in seconds."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_study import write_tiny_study


@pytest.fixture
def as_root() -> None:
    """Skip tests that mount a small file system, unless they run as root."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache hashes of files for this test session only."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def listening() -> Iterator[None]:
    """Handle SIGINT as in a terminal; a shell that starts pytest in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def tiny_study(tmp_path: Path) -> Path:
    """A study of two sizes x three ratios with a larger target, whose text is not prepared."""
    return write_tiny_study(tmp_path)
