"""Checkpoints of the hub: what is in its cache whole needs no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from dcpt.errors import InputError
from dcpt.training.checkpoints import checkpoint_files

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


class Hub:
    """A hub that nobody can reach, and its cache with a snapshot."""

    def __init__(self, snapshot: Path) -> None:
        self.snapshot, self.asked = snapshot, 0

    def snapshot_download(self, name: str, *, local_files_only: bool = False, **_: Any) -> str:
        if not local_files_only:
            self.asked += 1
            raise ConnectionError("no route to host")
        if not self.snapshot.is_dir():
            raise LocalEntryNotFoundError(f"{name} is not in the cache")
        return str(self.snapshot)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "snapshot")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.chdir(tmp_path)
    return hub


def fill(snapshot: Path, *names: str) -> None:
    snapshot.mkdir()
    for name in names:
        (snapshot / name).touch()


def test_a_cached_checkpoint_needs_no_network(hub: Hub) -> None:
    fill(hub.snapshot, "config.json", "model.safetensors")
    assert [path.name for path in checkpoint_files("some/model")] == [
        "model.safetensors",
        "config.json",
    ]
    assert not hub.asked


@pytest.mark.parametrize(
    "names", [("config.json",), ("config.json", SHARDS[0]), ("model.safetensors",)]
)
def test_a_part_of_a_checkpoint_is_completed_by_the_hub(hub: Hub, names: tuple[str, ...]) -> None:
    fill(hub.snapshot, *names)
    if SHARDS[0] in names:
        index = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
        (hub.snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="hub cannot provide it"):
        checkpoint_files("some/model")
    assert hub.asked == 1


def test_a_checkpoint_that_cannot_be_reached_is_named_with_the_remedy(hub: Hub) -> None:
    with pytest.raises(InputError) as refused:
        checkpoint_files("some/model")
    assert str(refused.value) == (
        "checkpoint some/model: no such folder, and the hub cannot provide it (no route to host); "
        "check the name, or call `hf download some/model` where there is a network, with HF_HOME "
        "in a folder that this machine sees"
    )
