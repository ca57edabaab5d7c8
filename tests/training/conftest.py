"""Prepared text and a base, shared by all tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_runs import Made, prepare_text, save_base


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with prepared ``data`` and a ``base``."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("text") / "prepared"
    prepare_text(folder)
    save_base(folder / "data" / "tokenizer", folder / "base")
    return folder


@pytest.fixture
def made(text: Path, tmp_path: Path) -> Made:
    """An empty study on the prepared text."""
    (tmp_path / "data").symlink_to(text / "data")
    return Made(tmp_path, text / "base")
