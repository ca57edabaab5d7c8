"""The memory of a process that trains on the CPU."""

from __future__ import annotations

import ctypes
import platform
from types import SimpleNamespace

import pytest

from dcpt.training.host_memory import LARGEST_KEPT, MOST_KEPT, keep_freed_memory


def test_glibc_keeps_large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    library = SimpleNamespace(mallopt=lambda option, value: asked.setdefault(option, value))
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    assert keep_freed_memory()
    assert asked == {-1: MOST_KEPT, -3: LARGEST_KEPT}  # without -3, a step takes twice as long


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert not keep_freed_memory()
