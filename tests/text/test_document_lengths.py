"""Lengths of prepared documents are those of their texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace
from dcpt.text import document_lengths
from dcpt.text.document_lengths import measure_lengths
from dcpt.text.shard_files import open_shard


@pytest.mark.parametrize("block", [7, 1_000_000])
def test_lengths_are_those_of_the_documents(
    tiny_study: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_lengths, "_BLOCK", block)
    prepared = prepare_study(Workspace(tiny_study), workers=1)
    found = measure_lengths(prepared, "law")
    lengths, length = [], 0
    for token in open_shard(prepared.folder, "law", "train"):
        length += 1
        if token == prepared.channels["law"].eos_id:
            lengths.append(length)
            length = 0
    assert found is not None
    assert found.documents == prepared.channels["law"].train.documents == len(lengths)
    assert found.mean == pytest.approx(np.mean(lengths))
    assert found.deviation == pytest.approx(np.std(lengths))
