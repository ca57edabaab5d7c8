"""Every file of the runs, damaged in five ways, is named, set aside, and trained again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_study import write_tiny_study

from dcpt.grid.status import read_status
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder
from dcpt.study.folder import StudyFolder
from dcpt.table.study_rows import StudyRows
from dcpt.training.loop import train

PRETRAIN, TRUNK, BRANCH = "pretrain-a-*", "a-*-seed0-????????", "a-*-branch*"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content), max(1, len(content) // 7)):
        content[place] ^= 1
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


WAYS: dict[str, Callable[[Path], Any]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": flip,
    "other-json": lambda path: path.write_text("[]\n"),
    "folder": replace_by_folder,
}
NAMED = [
    *(f"{run}/{name}" for run in (TRUNK, BRANCH) for name in ("config.json", "result.json")),
    f"{TRUNK}/metrics.jsonl",
    f"{BRANCH}/metrics.jsonl",
    f"{PRETRAIN}/metrics.jsonl",
    f"{PRETRAIN}/model/config.json",
    f"{PRETRAIN}/model/model.safetensors",
]
HARMLESS = [f"{TRUNK}/state-5120.safetensors"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a trained study with a base, two trunks and their branches."""
    torch.set_num_threads(1)
    file = write_tiny_study(tmp_path_factory.mktemp("trained"))
    text = file.read_text(encoding="utf-8")
    text = text.replace("bases: [a, b], ratios: [0.25, 0.5, 0.75]", "bases: [a], ratios: [0.25, 1]")
    file.write_text(text[: text.index("target:")], encoding="utf-8")
    prepare_study(Workspace(file), workers=1)
    train_all(file)
    return file


@pytest.fixture
def study(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(trained.parent, tmp_path / "study")
    return tmp_path / "study" / trained.name


def train_all(file: Path) -> list[str]:
    """Train like `run-grid`, in this process; returns the runs that were not done."""
    workspace, folder = Workspace(file), StudyFolder(file)
    workspace.planner.settle_warmup()
    trained = []
    for run in workspace.planned:
        run_folder = RunFolder.of(run.config, folder.runs)
        with run_folder.lock():
            if not run_folder.is_done(run.config):
                trained.append(run.config.name)
                train(run.config, folder.path)
    return trained


def read_rows(file: Path) -> StudyRows:
    return Workspace(file).rows


def find(file: Path, pattern: str) -> Path:
    return sorted(file.parent.glob(f"runs/{pattern}"))[0]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pattern", NAMED)
def test_a_damaged_file_is_named_and_trained_again(
    study: Path, trained: Path, pattern: str, way: str
) -> None:
    expected, path = read_rows(trained).rows, find(study, pattern)
    WAYS[way](path)
    before = contents(study.parent)

    found = read_rows(study)
    statuses = read_status(Workspace(study).planned, StudyFolder(study))
    assert len(found.damaged) == 1
    assert str(path) in found.damaged[0]
    assert [
        str(path) in status.error.sentence for status in statuses if status.state == "damaged"
    ] == [True]
    assert all(row in expected for row in found.rows)
    assert contents(study.parent) == before  # Reading writes nothing.

    train_all(study)
    healed = read_rows(study)
    assert (healed.damaged, healed.rows) == ([], expected)
    aside = path.parent if path.parent.name == "model" else path
    assert aside.with_name(f"{aside.name}.damaged").exists()
    assert train_all(study) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pattern", HARMLESS)
def test_what_nobody_reads_now_changes_nothing(
    study: Path, trained: Path, pattern: str, way: str
) -> None:
    WAYS[way](find(study, pattern))
    found = read_rows(study)
    assert (found.damaged, found.rows) == ([], read_rows(trained).rows)
    assert train_all(study) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_state_is_not_trained_on(study: Path, trained: Path, way: str) -> None:
    path, branch = find(study, f"{TRUNK}/state-5120.safetensors"), find(study, BRANCH)
    shutil.rmtree(branch)
    WAYS[way](path)
    assert train_all(study) == [branch.name]
    assert os.path.lexists(path.with_name(f"{path.name}.damaged"))
    assert read_rows(study).rows == read_rows(trained).rows
    assert any(
        str(path) in event["words"]
        for event in RunFolder(branch).events()
        if event["event"] == "note"
    )
    assert train_all(study) == [path.parent.name]  # The trunk makes its state again.
    assert path.is_file()


def test_a_looping_link_in_place_of_a_state_is_set_aside(study: Path, trained: Path) -> None:
    path, branch = find(study, f"{TRUNK}/state-5120.safetensors"), find(study, BRANCH)
    shutil.rmtree(branch)
    path.unlink()
    path.symlink_to(path.name)
    # No state is there, so the trunk makes it again before the branch needs it.
    assert train_all(study) == [path.parent.name, branch.name]
    assert path.is_file()
    assert path.with_name(f"{path.name}.damaged").is_symlink()
    assert read_rows(study).rows == read_rows(trained).rows
    assert train_all(study) == []


@pytest.mark.parametrize("way", WAYS)
def test_the_warmup_outlives_its_file(study: Path, trained: Path, way: str) -> None:
    hashes = [run.config.identity.hash for run in Workspace(trained).planned]
    longer = study.read_text(encoding="utf-8").replace("tokens: 5120", "tokens: 51200")
    study.write_text(longer, encoding="utf-8")
    path = study.parent / "resolved.json"
    WAYS[way](path)
    again = [run.config.identity.hash for run in Workspace(study).planned]
    assert again[:2] == hashes[:2]  # The base and a trunk.
    assert str(path) in Workspace(study).damaged[0]
    Workspace(study).planner.settle_warmup()
    assert path.with_name("resolved.json.damaged").exists()
    assert Workspace(study).damaged == []
    assert [run.config.identity.hash for run in Workspace(study).planned] == again


def test_a_line_in_the_middle_that_is_no_json(study: Path, trained: Path) -> None:
    path = find(study, f"{TRUNK}/metrics.jsonl")
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b'{"event": "poi', *lines[1:]]))
    found = read_rows(study)
    assert "its 1 branches are left out with it" in found.damaged[0]
    assert {row["ratio"] for row in found.rows} == {1.0}  # The trunk and its branch are left out.
    train_all(study)
    assert read_rows(study).rows == read_rows(trained).rows


def test_metrics_and_config_that_are_gone(study: Path, trained: Path) -> None:
    for name in ("metrics.jsonl", "config.json"):
        path = find(study, f"{TRUNK}/{name}")
        path.unlink()
        assert str(path) in read_rows(study).damaged[0]
        assert train_all(study) == [path.parent.name]
        assert train_all(study) == []
    assert read_rows(study).rows == read_rows(trained).rows


def test_a_folder_with_the_files_of_another_run(study: Path, trained: Path) -> None:
    first, second = sorted(study.parent.glob(f"runs/{TRUNK}"))
    shutil.rmtree(second)
    shutil.copytree(first, second)
    assert (
        f"{second}: the file is damaged (its config.json is of run" in read_rows(study).damaged[0]
    )
    train_all(study)
    assert read_rows(study).rows == read_rows(trained).rows


def test_strangers_in_the_folder_of_runs(study: Path, trained: Path) -> None:
    runs = study.parent / "runs"
    (runs / "notes.txt").write_text("mine")
    (runs / "foo").mkdir()
    (runs / "foo" / "config.json").write_text("{}")
    (runs / "x-deadbeef").write_text("mine")
    found = read_rows(study)
    assert (found.damaged, found.rows) == ([], read_rows(trained).rows)
    assert train_all(study) == []
    assert (runs / "x-deadbeef").read_text() == "mine"


def as_an_earlier_version(folder: Path) -> None:
    """Remove the hashes that earlier versions did not write."""
    for name, hashes in (("config.json", ["sha256"]), ("result.json", ["sha256", "metrics"])):
        record = json.loads((folder / name).read_text())
        record = {key: value for key, value in record.items() if key not in [*hashes, "files"]}
        (folder / name).write_text(json.dumps(record))


@pytest.mark.parametrize("left", ["none", "half", "gone"])
def test_runs_of_an_earlier_version(study: Path, trained: Path, left: str) -> None:
    for folder in (study.parent / "runs").iterdir():
        as_an_earlier_version(folder)
    assert read_rows(study).damaged == []
    assert train_all(study) == []
    path = find(study, f"{TRUNK}/metrics.jsonl")
    content = path.read_bytes()
    path.write_bytes(b"" if left == "none" else content[: len(content) // 2])
    if left == "gone":
        path.unlink()
    assert str(path) in read_rows(study).damaged[0]
    assert train_all(study) == [path.parent.name]
    assert read_rows(study).rows == read_rows(trained).rows


def test_a_run_whose_points_were_planned_closer_later_is_whole(study: Path) -> None:
    text = study.read_text(encoding="utf-8").replace(
        "points_per_doubling: 1", "points_per_doubling: 2"
    )
    study.write_text(text.replace("tokens: 5120", "tokens: 7680"), encoding="utf-8")
    train_all(study)
    for folder in (study.parent / "runs").iterdir():
        as_an_earlier_version(folder)
    assert read_rows(study).damaged == []
    assert train_all(study) == []
