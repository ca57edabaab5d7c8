from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from dcpt.errors import InputError
from dcpt.text.tokenizer import (
    END_OF_TEXT,
    read_vocabulary,
    shard_dtype,
    train_tokenizer,
)
from dcpt.text.tokenizer_files import copy_tokenizer, name_tokenizer

TEXTS = [f"The patient was seen {i} times; größe 大小 🙂." for i in range(200)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, 300, folder)
    return folder


def edited(folder: Path, to: Path, name: str, **changes: object) -> Path:
    """A copy of a tokenizer folder with some keys of one of its files changed."""
    to.mkdir()
    for path in folder.iterdir():
        content = json.loads(path.read_text())
        (to / path.name).write_text(json.dumps(content | (changes if path.name == name else {})))
    return to


def test_a_trained_tokenizer_is_an_ordinary_one(folder: Path) -> None:
    vocabulary = read_vocabulary(folder)
    ordinary = AutoTokenizer.from_pretrained(folder)
    assert vocabulary.size == len(ordinary) == 300
    assert vocabulary.eos_id == ordinary.eos_token_id
    assert ordinary.eos_token == END_OF_TEXT
    text = "Any text: größe 大小 🙂\n\ttabs  and spaces "
    ids = vocabulary.load().encode(text).ids
    assert ids == ordinary(text)["input_ids"]
    assert ordinary.decode(ids) == text


def test_training_is_repeatable(folder: Path, tmp_path: Path) -> None:
    train_tokenizer(TEXTS, 300, tmp_path)
    assert read_vocabulary(tmp_path).sha256 == read_vocabulary(folder).sha256


def test_a_model_s_tokenizer_is_copied(folder: Path, tmp_path: Path) -> None:
    copy_tokenizer(str(folder), tmp_path)
    copied, original = read_vocabulary(tmp_path), read_vocabulary(folder)
    assert (copied.size, copied.eos_id) == (original.size, original.eos_id)
    assert copied.load().encode(TEXTS[0]).ids == original.load().encode(TEXTS[0]).ids


def test_text_is_neither_cut_nor_padded_nor_read_as_special(folder: Path, tmp_path: Path) -> None:
    truncation = {"max_length": 3, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    padding = {
        "strategy": {"Fixed": 99},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "x",
    }
    cutting = edited(
        folder, tmp_path / "cut", "tokenizer.json", truncation=truncation, padding=padding
    )
    vocabulary = read_vocabulary(cutting)
    ids = vocabulary.load().encode(f"a{END_OF_TEXT}b").ids
    assert 3 < len(ids) < 99
    assert vocabulary.eos_id not in ids


def test_types_of_shards() -> None:
    assert shard_dtype(2**16) == np.uint16
    assert shard_dtype(2**16 + 1) == np.uint32
    assert shard_dtype(2**32) == np.uint32
    with pytest.raises(InputError, match="largest id is 4294967296; shards hold ids up to"):
        shard_dtype(2**32 + 1)


def test_unusable_tokenizers_are_refused(folder: Path, tmp_path: Path) -> None:
    endless = edited(folder, tmp_path / "endless", "tokenizer_config.json", eos_token=None)
    with pytest.raises(InputError, match="endless: has no end-of-sequence token"):
        copy_tokenizer(str(endless), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: cannot be loaded"):
        copy_tokenizer(str(tmp_path / "empty"), tmp_path)
    with pytest.raises(InputError, match="holds no readable tokenizer"):
        read_vocabulary(tmp_path / "empty")
    strange = edited(folder, tmp_path / "strange", "tokenizer_config.json", eos_token="<none>")
    with pytest.raises(InputError, match="'<none>' has no id"):
        read_vocabulary(strange)
    with pytest.raises(InputError, match="a vocabulary of 256 is too small"):
        name_tokenizer(256)
    with pytest.raises(InputError, match=r"tokenizer \./absent: no such folder"):
        name_tokenizer("./absent")


def test_a_changed_folder_has_another_name(folder: Path, tmp_path: Path) -> None:
    same = edited(folder, tmp_path / "same", "tokenizer_config.json")
    other = edited(folder, tmp_path / "other", "tokenizer_config.json", eos_token="a")
    assert name_tokenizer(str(same)) != name_tokenizer(str(other))
    assert name_tokenizer("owner/name") == "hub owner/name"
    assert name_tokenizer(300) != name_tokenizer(301)
