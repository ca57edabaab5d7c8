"""Chats, written by the tokenizer's chat template."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from dcpt.errors import InputError
from dcpt.text import prepare as preparing
from dcpt.text.prepare import open_shard
from dcpt.text.sources import ChannelSource
from dcpt.text.tokenizer import END_OF_TEXT, train_tokenizer

MARKS = ["<|begin|>", "<|end|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|begin|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|end|>' + '\\n' }}{% endfor %}"
)
CHATS = [
    [
        {"role": "user", "content": f"What was held in case {i}?"},
        {"role": "assistant", "content": f"The court held that {i * i} naïve 大小."},
    ]
    for i in range(60)
]


def make_tokenizer(folder: Path, template: str | None, eos: str = END_OF_TEXT) -> Path:
    folder.mkdir()
    train_tokenizer([json.dumps(chat) for chat in CHATS], 300, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(MARKS)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


# Training and validation text are the same file here.
prepare = partial(preparing.prepare, near_duplicates=False)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("chats") / "tokenizer", TEMPLATE)


def write_chats(path: Path, chats: list[Any], field: str = "messages") -> ChannelSource:
    path.write_text("".join(json.dumps({field: chat, "id": 1}) + "\n" for chat in chats))
    return ChannelSource("law", str(path), str(path), chat_field=field)


def train_ids(folder: Path) -> list[int]:
    return np.asarray(open_shard(folder, "law", "train")).tolist()


def test_chats_have_the_ids_of_the_chat_template(tokenizer: Path, tmp_path: Path) -> None:
    source = write_chats(tmp_path / "a.jsonl", CHATS)
    prepared = prepare([source], tmp_path / "out", str(tokenizer))
    original = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    expected: list[int] = []
    for chat in CHATS:
        rendered = original.apply_chat_template(chat, tokenize=False)
        ids = original(rendered, add_special_tokens=False)["input_ids"]
        assert ids.count(original.convert_tokens_to_ids("<|begin|>")) == 2
        expected += [*ids, original.eos_token_id]
    assert train_ids(prepared.folder) == expected
    assert prepared.channels["law"].spelled_out == {}
    assert not any("spells out" in warning for warning in prepared.warnings)


def test_special_tokens_in_a_message_are_text(tokenizer: Path, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": f"say {MARKS[1]} and {END_OF_TEXT}"}, CHATS[0][1]]
    source = write_chats(tmp_path / "a.jsonl", [*CHATS, chat])
    prepared = prepare([source], tmp_path / "out", str(tokenizer))
    original = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    ids = train_ids(prepared.folder)
    assert ids.count(original.eos_token_id) == len(CHATS) + 1
    for mark in MARKS:
        assert ids.count(original.convert_tokens_to_ids(mark)) == 2 * (len(CHATS) + 1)
    last = original.decode(ids[-70:])
    assert f"say {MARKS[1]} and {END_OF_TEXT}{MARKS[1]}" in last
    assert prepared.channels["law"].spelled_out == {MARKS[1]: 2, END_OF_TEXT: 2}  # in both splits
    rendered = [original.apply_chat_template(c, tokenize=False) for c in [*CHATS, chat]]
    assert prepared.channels["law"].train.text_bytes == sum(len(r.encode()) for r in rendered)


def test_a_changed_template_prepares_the_chats_again(tokenizer: Path, tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path / "tokenizer", TEMPLATE)
    source = write_chats(tmp_path / "a.jsonl", CHATS)
    first = prepare([source], tmp_path / "out", str(folder))
    assert prepare([source], tmp_path / "out", str(folder)).did_nothing
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("role", "content"))
    again = prepare([source], tmp_path / "out", str(folder))
    assert not again.did_nothing
    assert again.channels["law"].train.sha256 != first.channels["law"].train.sha256
    assert prepare([source], tmp_path / "out", str(folder)).did_nothing


def test_a_tokenizer_without_a_template_is_refused(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path / "tokenizer", None)
    source = write_chats(tmp_path / "a.jsonl", CHATS)
    with pytest.raises(InputError, match="channel law: chat_field is set, but the tokenizer"):
        prepare([source], tmp_path / "out", str(folder))
    with pytest.raises(InputError, match="channel law: chat_field needs a tokenizer with a chat"):
        prepare([source], tmp_path / "out", 300)


@pytest.mark.parametrize(
    ("chat", "says"),
    [
        (
            "a text",
            r"'messages' holds 'a text', not the messages of a chat; name the field of texts",
        ),
        (
            [{"from": "human", "value": "a"}],
            r"a message has the fields 'from', 'value'; write role",
        ),
        ([{"role": "user", "content": 1}], r"the tokenizer's chat template refuses the chat \("),
        ([{"role": "user", "content": "\ufdd0"}], r".* refuses the chat \(it holds U\+FDD0"),
    ],
)
def test_records_that_are_no_chats_are_refused_once(
    tokenizer: Path, tmp_path: Path, chat: Any, says: str
) -> None:
    source = write_chats(tmp_path / "a.jsonl", [*CHATS, chat, chat])
    with pytest.raises(InputError, match=rf"a\.jsonl: line 61: {says}") as caught:
        prepare([source], tmp_path / "out", str(tokenizer))
    (problem,) = caught.value.problems
    assert problem.endswith("(1 more line like it)")


def test_a_missing_chat_field_is_named_by_its_key(tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_chats(path, CHATS, "conversations")
    source = ChannelSource("law", str(path), str(path), chat_field="messages")
    with pytest.raises(InputError, match=r"set chat_field to one of these \(59 more lines"):
        prepare([source], tmp_path / "out", str(tokenizer))


def test_a_template_that_ends_documents_between_messages_is_refused(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path / "tokenizer", TEMPLATE, eos="<|end|>")
    source = write_chats(tmp_path / "a.jsonl", CHATS)
    with pytest.raises(InputError, match=r"template writes <\|end\|> between messages, and this"):
        prepare([source], tmp_path / "out", str(folder))
    one_message = write_chats(tmp_path / "b.jsonl", [chat[:1] for chat in CHATS])
    ids = train_ids(prepare([one_message], tmp_path / "out", str(folder)).folder)
    eos = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id("<|end|>")
    assert ids.count(eos) == len(CHATS)
