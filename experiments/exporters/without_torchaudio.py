"""LLaMA-Factory imports torchaudio, of which no release is for torch 2.13.

Text does not need it.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


def allow_missing_torchaudio() -> None:
    """Put an empty module in its place."""
    sys.modules["torchaudio"] = ModuleType("torchaudio")
    sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)
