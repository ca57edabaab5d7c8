"""What a document is: where it starts and ends, and special tokens that its text spells out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from dcpt.errors import InputError
from dcpt.text.prepare import open_shard, prepare
from dcpt.text.sources import ChannelSource
from dcpt.text.tokenizer import END_OF_TEXT, read_vocabulary, train_tokenizer

TEXTS = [f"the patient was seen {i} times" for i in range(200)]


@pytest.fixture(scope="module")
def adds_bos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that puts <bos> before a text."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, 300, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<bos>"])
    bos = tokenizer.token_to_id("<bos>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", bos)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": END_OF_TEXT, "bos_token": "<bos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def write_text_channel(path: Path, texts: list[str]) -> ChannelSource:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return ChannelSource("law", str(path), valid_fraction=0.1)


def starts_of_documents(folder: Path, eos_id: int) -> set[int]:
    ids = np.asarray(open_shard(folder, "law", "train")).astype(int)
    ends = np.flatnonzero(ids == eos_id)
    return {int(ids[0]), *ids[ends[:-1] + 1].tolist()}


@pytest.mark.parametrize(("add_bos", "starts"), [(None, True), (True, True), (False, False)])
def test_documents_start_as_the_tokenizer_starts_them(
    adds_bos: Path, tmp_path: Path, add_bos: bool | None, starts: bool
) -> None:
    source = write_text_channel(tmp_path / "law.jsonl", TEXTS)
    prepared = prepare([source], tmp_path / "prepared", str(adds_bos), add_bos=add_bos)
    bos_id = read_vocabulary(adds_bos).bos_id
    eos_id = prepared.channels["law"].eos_id
    assert (starts_of_documents(prepared.folder, eos_id) == {bos_id}) == starts
    said = [line for line in prepared.warnings if "starts with the beginning-of-sequence" in line]
    assert bool(said) == starts


def test_the_files_decide_where_the_template_does_not(adds_bos: Path, tmp_path: Path) -> None:
    for path in adds_bos.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "add_bos_token": False}))
    assert read_vocabulary(tmp_path).bos_id is None
    assert read_vocabulary(tmp_path, add_bos=True).bos_id == read_vocabulary(adds_bos).bos_id


def test_a_tokenizer_without_bos_cannot_add_one(tmp_path: Path) -> None:
    train_tokenizer(TEXTS, 300, tmp_path)
    assert read_vocabulary(tmp_path).bos_id is None
    with pytest.raises(InputError, match="names no bos_token, so none can be added"):
        read_vocabulary(tmp_path, add_bos=True)


def test_shards_of_an_earlier_version_stay_and_are_named(adds_bos: Path, tmp_path: Path) -> None:
    source = write_text_channel(tmp_path / "law.jsonl", TEXTS)
    before = prepare([source], tmp_path / "prepared", str(adds_bos))
    manifest = tmp_path / "prepared/law/manifest.json"
    record = tmp_path / "prepared/prepared.json"
    for path in (manifest, record):  # as a version wrote them that added no BOS
        path.write_text(re.sub(r',\s*"bos_id": \d+', "", path.read_text()))
    again = prepare([source], tmp_path / "prepared", str(adds_bos))
    assert again.did_nothing
    assert again.channels["law"].train.sha256 == before.channels["law"].train.sha256
    assert "prepared without the beginning-of-sequence token" in again.warnings[-1]


def test_special_tokens_in_the_text_are_counted(tmp_path: Path) -> None:
    text = tmp_path / "law.txt"
    text.write_text(f"\n{END_OF_TEXT}\n".join(TEXTS))
    valid = str(write_text_channel(tmp_path / "valid.jsonl", ["Another text."]).train)
    whole = ChannelSource("law", str(text), valid)
    prepared = prepare([whole], tmp_path / "whole", 300)
    assert prepared.channels["law"].train.documents == 1
    assert prepared.channels["law"].spelled_out == {END_OF_TEXT: 199}
    (said,) = [line for line in prepared.warnings if "spells out" in line]
    assert f"spells out {END_OF_TEXT} 199 times, which is read as characters" in said
    parted = ChannelSource("law", str(text), valid, text_separator=END_OF_TEXT)
    prepared = prepare([parted], tmp_path / "parted", 300)
    assert prepared.channels["law"].train.documents == 200
    assert prepared.channels["law"].spelled_out == {}


def test_a_text_file_that_is_one_document_is_named(tmp_path: Path) -> None:
    (tmp_path / "law.txt").write_text("\n".join(TEXTS))
    with pytest.raises(InputError, match=r"a \.txt file counts as one document: set text_sep"):
        prepare([ChannelSource("law", str(tmp_path / "law.txt"))], tmp_path / "prepared", 300)


def test_repeated_documents_count_once_in_the_unique_tokens(tmp_path: Path) -> None:
    source = write_text_channel(tmp_path / "law.jsonl", TEXTS * 6)
    once = write_text_channel(tmp_path / "once.jsonl", TEXTS)
    train_tokenizer(TEXTS, 300, tmp_path)
    repeated = prepare([source], tmp_path / "repeated", str(tmp_path)).channels["law"].train
    prepared = prepare([once], tmp_path / "prepared", str(tmp_path))
    distinct = prepared.channels["law"].train
    assert repeated.tokens == 6 * distinct.tokens
    assert repeated.unique_tokens == distinct.unique_tokens == distinct.tokens
    again = prepare([source], tmp_path / "repeated", str(tmp_path), near_duplicates=False)
    assert again.channels["law"].train == repeated
    assert any("training documents repeat others" in line for line in again.warnings)
    assert not any("repeat others" in line for line in prepared.warnings)
