"""From a study file to its prepared text: where it lies, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from made_text import TEXTS, hashes, make_old
from safetensors.torch import save_file

import dcpt.text.prepare
import dcpt.text.request
import dcpt.text.sources
from dcpt.cli.console import open_console
from dcpt.cli.demo import run_bundled, write_study
from dcpt.errors import InputError
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace
from dcpt.study.folder import StudyFolder
from dcpt.text.manifest import Prepared
from dcpt.text.tokenizer import train_tokenizer
from dcpt.text.tokenizer_files import name_tokenizer


def prepare(study: Path) -> Prepared:
    return prepare_study(Workspace(study), workers=1)


def planned(study: Path) -> list[tuple[str, str]]:
    runs = Workspace(study).planned
    return [(run.config.name, run.config.recorded.data_path) for run in runs]


def edit(study: Path, old: str, new: str) -> None:
    text = study.read_text()
    assert old in text
    study.write_text(text.replace(old, new))


def test_a_corpus_in_data_stays(tiny_study: Path) -> None:
    """Channel `law` with its text in `data/law`: shards once went to the very same folder."""
    folder = tiny_study.parent
    for channel, file in (("en", "general"), ("law", "domain")):
        lines = (folder / f"{file}.jsonl").read_text().splitlines()
        (folder / "data" / channel).mkdir(parents=True)
        for number, line in enumerate(lines):
            text = json.loads(line)["text"]
            (folder / "data" / channel / f"{number}.txt").write_text(text)
        edit(tiny_study, f"train: {file}.jsonl", f"train: data/{channel}")
    (folder / "data" / "tokenizer").mkdir()
    (folder / "data" / "tokenizer" / "mine.json").write_text("{}")
    before = hashes(folder)
    prepare(tiny_study)
    assert prepare(tiny_study).did_nothing
    after = hashes(folder)
    assert before.items() <= after.items()
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"prepared"}
    assert {path for _, path in planned(tiny_study)} == {"prepared"}


def test_text_prepared_by_an_older_version_is_used(tiny_study: Path) -> None:
    folder = tiny_study.parent
    prepare(tiny_study)
    runs = planned(tiny_study)
    (folder / "prepared").rename(folder / "data")
    make_old(folder / "data")
    before = hashes(folder / "data")
    assert StudyFolder(tiny_study).prepared == folder / "data"
    assert prepare(tiny_study).did_nothing
    assert planned(tiny_study) == [(name, "data") for name, _ in runs]
    after = hashes(folder / "data")
    assert {name for name in before if after.get(name) != before[name]} == {"prepared.json"}
    # A change is prepared there as well.
    edit(tiny_study, "general.jsonl, valid_fraction: 10%", "general.jsonl, valid_fraction: 20%")
    assert not prepare(tiny_study).did_nothing
    assert not (folder / "prepared").exists()
    # Once it is torn it is no longer known as ours, and is left alone.
    (folder / "data" / "prepared.json").write_text("{")
    before = hashes(folder / "data")
    assert prepare(tiny_study).folder == folder / "prepared"
    assert hashes(folder / "data") == before


def test_a_tokenizer_of_all_texts_is_kept_until_one_of_them_changes(
    tiny_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions trained it on all texts; runs were trained with its ids."""
    with monkeypatch.context() as earlier:
        for module in (dcpt.text.prepare, dcpt.text.request, dcpt.text.sources):
            earlier.setattr(module, "general_text", list)
        before = prepare(tiny_study).tokenizer_files
    assert prepare(tiny_study).did_nothing
    edit(tiny_study, "tokenizer: 300", "near_duplicates: false\ntokenizer: 300")
    assert prepare(tiny_study).tokenizer_files == before
    edit(tiny_study, "train: domain.jsonl,", "train: domain.jsonl, max_tokens: 9000,")
    now = prepare(tiny_study).tokenizer_files
    assert now != before
    edit(tiny_study, "max_tokens: 9000", "max_tokens: 8000")
    assert prepare(tiny_study).tokenizer_files == now


def test_a_tokenizer_of_all_texts_is_kept_when_a_validation_channel_is_added(
    tiny_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run reads such a channel, so the runs of the study go on with their tokenizer."""
    with monkeypatch.context() as earlier:
        for module in (dcpt.text.prepare, dcpt.text.request, dcpt.text.sources):
            earlier.setattr(module, "general_text", list)
        before = prepare(tiny_study)
    lines = (tiny_study.parent / "domain.jsonl").read_text().splitlines(keepends=True)
    (tiny_study.parent / "tasks.jsonl").write_text("".join(lines[:20]))
    tasks = "  - {name: tasks, side: validation, valid: tasks.jsonl}\n"
    edit(tiny_study, "tokenizer: 300", f"{tasks}tokenizer: 300")
    now = prepare(tiny_study)
    assert now.tokenizer_files == before.tokenizer_files
    assert {name: now.channels[name] for name in before.channels} == before.channels
    assert prepare(tiny_study).did_nothing


def test_another_tool_s_record_in_data_is_not_ours(tiny_study: Path) -> None:
    (tiny_study.parent / "data").mkdir()
    for content in ("{}", "[]", '{"channels": 1}', "\0"):
        (tiny_study.parent / "data" / "prepared.json").write_text(content)
        assert StudyFolder(tiny_study).prepared == tiny_study.parent / "prepared"


@pytest.mark.parametrize("train", [".", "..", "prepared", "runs", "resolved.json", "**/*.json"])
def test_files_of_ours_are_no_text(tiny_study: Path, train: str) -> None:
    prepare(tiny_study)
    (tiny_study.parent / "resolved.json").write_text("{}")
    metrics = tiny_study.parent / "runs" / "a" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    metrics.write_text('{"text": "no text"}\n')
    edit(tiny_study, "train: domain.jsonl", f"train: '{train}'")
    with pytest.raises(InputError, match=r"channel law: .*which dcpt writes to"):
        prepare(tiny_study)


def test_a_home_folder_is_found(tiny_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tiny_study.parent / "home"
    home.mkdir()
    (tiny_study.parent / "domain.jsonl").rename(home / "domain.jsonl")
    monkeypatch.setenv("HOME", str(home))
    edit(tiny_study, "train: domain.jsonl", "train: ~/domain.jsonl")
    (read,) = prepare(tiny_study).channels["law"].inputs
    assert read.path == str(home / "domain.jsonl")


@pytest.fixture
def base(tiny_study: Path) -> Path:
    """A base whose tokenizer AutoTokenizer does not read as its files say."""
    folder = tiny_study.parent / "models" / "base"
    folder.mkdir(parents=True)
    train_tokenizer([text for texts in TEXTS.values() for text in texts], 400, folder)
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>"}'
    )
    save_file({"w": torch.ones(2)}, folder / "model.safetensors")  # never loaded as a model
    edit(tiny_study, "bases:\n", "bases:\n  checkpoints: {own: {model: models/base}}\n")
    edit(tiny_study, "[a, b]", "[own]")
    return folder


def test_a_base_with_another_tokenizer_is_refused_before_text_is_encoded(
    tiny_study: Path, base: Path
) -> None:
    seen: set[str] = set()
    says = r"bases\.checkpoints\.own: its tokenizer .*write `tokenizer: models/base` in the study"
    with pytest.raises(InputError, match=says):
        prepare_study(Workspace(tiny_study), workers=1, progress=lambda name, *_: seen.add(name))
    assert seen == {"tokenizer"}
    edit(tiny_study, "tokenizer: 300", "tokenizer: models/base")  # the remedy
    prepared = prepare(tiny_study)
    assert prepare(tiny_study).did_nothing
    assert any("own" in name for name, _ in planned(tiny_study))
    copied = prepared.tokenizer_path / "tokenizer.json"
    assert copied.read_bytes() == (base / "tokenizer.json").read_bytes()

    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = []
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match=r"checkpoints\.own: .*: its tokenizer splits .*tokenizer"):
        planned(tiny_study)
    prepare(tiny_study)  # the folder has changed, so that the text is prepared again
    planned(tiny_study)


def test_bases_with_two_tokenizers_are_refused(tiny_study: Path, base: Path) -> None:
    other = base.with_name("other")
    shutil.copytree(base, other)
    train_tokenizer(TEXTS["domain"], 300, other)
    edit(tiny_study, "own: {", "other: {model: models/other}, own: {")
    edit(tiny_study, "tokenizer: 300", "tokenizer: models/base")
    with pytest.raises(InputError) as caught:
        prepare(tiny_study)
    assert caught.value.problems[0].startswith("bases.checkpoints.other: its tokenizer ")
    assert caught.value.problems[1].startswith("bases.checkpoints: all bases of a study need one")


def test_text_that_an_older_version_encoded_otherwise_is_prepared_again(
    tiny_study: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    def copy_as_before(spec: str, folder: Path) -> None:
        AutoTokenizer.from_pretrained(spec).save_pretrained(folder)
        for path in folder.iterdir():
            if path.name not in {"tokenizer.json", "tokenizer_config.json"} and path.suffix:
                path.unlink()

    edit(tiny_study, "tokenizer: 300", "tokenizer: models/base")
    text = tiny_study.read_text()
    with monkeypatch.context() as patch:
        patch.setattr("dcpt.text.prepare.copy_tokenizer", copy_as_before)
        edit(tiny_study, "  checkpoints: {own: {model: models/base}}\n", "")
        edit(tiny_study, "[own]", "[a]")
        old = prepare(tiny_study)
    make_old(old.folder)
    tiny_study.write_text(text)
    new = prepare(tiny_study)
    assert not new.did_nothing
    assert new.channels["en"].tokenizer_sha256 != old.channels["en"].tokenizer_sha256
    planned(tiny_study)


def test_a_copy_with_other_bytes_that_encodes_the_same_is_kept(
    tiny_study: Path, base: Path
) -> None:
    edit(tiny_study, "tokenizer: 300", "tokenizer: models/base")
    prepared = prepare(tiny_study)
    kept = prepared.tokenizer_path / "tokenizer.json"
    # As an older version would have written the same tokenizer.
    content = json.dumps(json.loads(kept.read_text()))
    shutil.rmtree(prepared.folder)
    (base / "tokenizer.json").rename(base / "original")
    (base / "tokenizer.json").write_text(content)
    old = prepare(tiny_study)
    record: dict[str, Any] = json.loads((old.folder / "prepared.json").read_text())
    (base / "original").replace(base / "tokenizer.json")
    name = name_tokenizer(str(base))
    text = json.dumps(record).replace(record["tokenizer_name"], name)
    (old.folder / "prepared.json").write_text(text)
    edit(tiny_study, "domain.jsonl, valid_fraction: 10%", "domain.jsonl, valid_fraction: 20%")
    new = prepare(tiny_study)
    assert new.channels["en"].tokenizer_sha256 == old.channels["en"].tokenizer_sha256
    assert new.channels["en"].train == old.channels["en"].train


def test_a_missing_tokenizer_is_not_looked_for_on_the_hub(
    tiny_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    (tiny_study.parent / "models").mkdir()
    edit(tiny_study, "tokenizer: 300", "tokenizer: models/typo")
    with pytest.raises(InputError, match=r"tokenizer .*models/typo: no such folder; check the"):
        prepare(tiny_study)
    assert not (tiny_study.parent / "prepared").exists()


def test_the_demo_writes_only_to_a_folder_of_its_own(tmp_path: Path) -> None:
    console = open_console(True)
    for name in ("runs/a.txt", "bundled/fit.json"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("mine")
    before = hashes(tmp_path)
    with pytest.raises(InputError, match=r"holds runs, .*choose another folder with --out"):
        write_study(tmp_path, "icd", 0)
    with pytest.raises(InputError, match=r"bundled: holds fit\.json, .*choose another folder"):
        run_bundled(tmp_path, console)
    assert hashes(tmp_path) == before
