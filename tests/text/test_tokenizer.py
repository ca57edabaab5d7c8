from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from dcpt.errors import InputError
from dcpt.text.tokenizer import (
    END_OF_TEXT,
    check_same_tokenizer,
    read_vocabulary,
    shard_dtype,
    train_tokenizer,
)
from dcpt.text.tokenizer_files import copy_tokenizer, encodes_as_files, name_tokenizer

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


QWEN = {"model_type": "qwen2"}


def model_folder(folder: Path, to: Path, **config: object) -> Path:
    """A model folder with the tokenizer, in which no file of the tokenizer names its end."""
    edited(folder, to, "tokenizer_config.json", eos_token=None, tokenizer_class="Qwen2Tokenizer")
    (to / "config.json").write_text(json.dumps(QWEN | config))
    return to


def test_a_tokenizer_is_copied_as_its_files_say(folder: Path, tmp_path: Path) -> None:
    """transformers 5 gives a folder of type qwen2 a pre-tokenizer other than that of its file."""
    model = edited(
        folder, tmp_path / "m", "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer"
    )
    (model / "config.json").write_text(json.dumps(QWEN))
    ids = read_vocabulary(folder).load().encode("in 1987,  12345\n\n times").ids
    assert AutoTokenizer.from_pretrained(model)("in 1987,  12345\n\n times")["input_ids"] != ids
    (tmp_path / "copy").mkdir()
    copy_tokenizer(str(model), tmp_path / "copy")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "copy" / name).read_bytes() == (model / name).read_bytes()
    assert not (tmp_path / "copy" / "config.json").exists()
    check_same_tokenizer(model, tmp_path / "copy", "base", "m")
    AutoTokenizer.from_pretrained(model).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match=r"base: its tokenizer splits words .* `tokenizer: m` in"):
        check_same_tokenizer(model, tmp_path / "other", "base", "m")
    assert encodes_as_files(tmp_path / "copy", str(model))
    assert not encodes_as_files(tmp_path / "other", str(model))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("special_tokens_map.json", {"eos_token": {"content": END_OF_TEXT}}),
        ("config.json", QWEN | {"eos_token_id": 0}),
        ("config.json", QWEN | {"eos_token_id": [0]}),
        ("generation_config.json", {"eos_token_id": 0}),
    ],
)
def test_the_end_of_text_is_named_by_another_file(
    folder: Path, tmp_path: Path, name: str, content: dict[str, object]
) -> None:
    model, copied = model_folder(folder, tmp_path / "model"), tmp_path / "copied"
    before = name_tokenizer(str(model))
    (model / name).write_text(json.dumps(content))
    assert name_tokenizer(str(model)) != before
    copied.mkdir()
    copy_tokenizer(str(model), copied)
    assert read_vocabulary(copied).eos_id == 0
    assert AutoTokenizer.from_pretrained(copied).eos_token == END_OF_TEXT
    assert (copied / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


def test_an_end_of_text_that_is_not_known_is_refused(folder: Path, tmp_path: Path) -> None:
    for number, (content, says) in enumerate(
        [
            ({}, "has no end-of-sequence token"),
            ({"eos_token_id": [0, 1]}, "names 2 end-of-sequence tokens"),
            ({"eos_token_id": 300}, "has no end-of-sequence token"),
        ]
    ):
        model = model_folder(folder, tmp_path / str(number), **content)
        with pytest.raises(InputError, match=f"{number}: .*{says}|config.json {says}"):
            copy_tokenizer(str(model), tmp_path)


def test_a_tokenizer_without_its_json_is_converted(folder: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (slow / "vocab.json").write_text(json.dumps(model["vocab"]))
    (slow / "merges.txt").write_text("\n".join(" ".join(merge) for merge in model["merges"]))
    (slow / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (tmp_path / "copied").mkdir()
    copy_tokenizer(str(slow), tmp_path / "copied")
    copied = read_vocabulary(tmp_path / "copied")
    assert copied.load().encode(TEXTS[0]).ids == read_vocabulary(folder).load().encode(TEXTS[0]).ids


def test_a_torn_tokenizer_of_a_model_is_named(folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        model = edited(folder, tmp_path / f"torn-{name}", name)
        (model / name).write_bytes((model / name).read_bytes()[:40])
        with pytest.raises(InputError, match=rf"{name}: .*(restore|put) the original file"):
            copy_tokenizer(str(model), tmp_path)
        if name == "tokenizer.json":
            with pytest.raises(InputError, match=rf"{name}: .*(restore|put) the original file"):
                check_same_tokenizer(model, folder, "base", "m")


@pytest.mark.parametrize(
    "text", ["   ", "1234", "'t", "\n\n", "\t\t", "e\u0301", "漢字", "🙂", "!="]
)
def test_the_probes_tell_tokenizers_apart(folder: Path, tmp_path: Path, text: str) -> None:
    """The probes contain everything that pre-tokenizers may treat differently."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    rule = {"type": "Split", "pattern": {"String": text}, "behavior": "Removed", "invert": False}
    tokenizer["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [rule, tokenizer["pre_tokenizer"]],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match="splits words differently"):
        check_same_tokenizer(tmp_path, folder, "base", "m")


def test_a_missing_folder_is_no_hub_id(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for spec in ("models/typo", "a/b/c", "../x", "~/nothing-here", str(tmp_path / "x")):
        with pytest.raises(InputError, match=f"tokenizer {spec}: no such folder; check the path"):
            name_tokenizer(spec)
    with pytest.raises(InputError, match="this is a file; name the folder that holds it"):
        name_tokenizer(str(folder / "tokenizer.json"))


def test_a_hub_id_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def snapshot(name: str, local_files_only: bool, **how: object) -> str:
        asked.append(local_files_only)
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(
        InputError, match=r"tokenizer owner/name: no such folder, and it cannot be downloaded"
    ):
        copy_tokenizer("owner/name", tmp_path)
    assert asked == [False]
    assert encodes_as_files(tmp_path, "owner/name")  # nothing is known of it
    assert asked == [False, True]
