"""One test for each public report of text that was misread; each makes its own input.

Bases with weights that are not finite, or too few ids, are in ``tests/pipeline/test_bases.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from tokenizers import Tokenizer, processors

from dcpt.errors import InputError
from dcpt.text.manifest import Manifest
from dcpt.text.prepare import prepare
from dcpt.text.shard_files import open_shard
from dcpt.text.sources import ChannelSource
from dcpt.text.tokenizer import END_OF_TEXT, train_tokenizer

WORDS = ["fever", "bone", "tooth", "lung", "acute", "left"]
TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, 40)) for i in range(100)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, 300, folder)
    return folder


def write_lines(path: Path, records: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def prepare_law(
    path: Path, tokenizer: Path, **asked: Any
) -> tuple[Manifest, tuple[str, ...], list[int]]:
    """The manifest of the channel, all warnings, and the ids of its training text."""
    source = ChannelSource("law", str(path), **{"valid_fraction": 0.1, **asked})
    out = path.with_name(f"{path.name}-prepared")
    prepared = prepare([source], out, str(tokenizer), near_duplicates=False)
    ids = np.asarray(open_shard(out, "law", "train")).tolist()
    return prepared.channels["law"], prepared.warnings, ids


def count_documents(manifest: Manifest) -> int:
    return manifest.train.documents + manifest.valid.documents


@pytest.mark.parametrize("indent", [None, 2])
def test_02_an_array_of_objects_is_read(
    tokenizer: Path, tmp_path: Path, indent: int | None
) -> None:
    path = tmp_path / "law.json"
    path.write_text(json.dumps([{"text": text} for text in TEXTS], indent=indent))
    as_array = prepare_law(path, tokenizer)
    lines = write_lines(tmp_path / "law.jsonl", [{"text": text} for text in TEXTS])
    assert as_array[2] == prepare_law(lines, tokenizer)[2]


def test_03_nested_texts_paragraphs_and_chats(tokenizer: Path, tmp_path: Path) -> None:
    nested = write_lines(tmp_path / "nested.jsonl", [{"doc": {"text": t}} for t in TEXTS])
    assert count_documents(prepare_law(nested, tokenizer, text_field="doc.text")[0]) == 100
    parts = write_lines(tmp_path / "parts.jsonl", [{"text": [t[:50], t[50:]]} for t in TEXTS])
    whole = write_lines(
        tmp_path / "whole.jsonl", [{"text": f"{t[:50]}\n\n{t[50:]}"} for t in TEXTS]
    )
    assert prepare_law(parts, tokenizer)[2] == prepare_law(whole, tokenizer)[2]
    chats = write_lines(
        tmp_path / "chats.jsonl", [{"messages": [{"role": "user", "content": t}]} for t in TEXTS]
    )
    with pytest.raises(InputError) as caught:
        prepare_law(chats, tokenizer)
    (problem,) = caught.value.problems
    assert "set chat_field: messages" in problem
    with pytest.raises(InputError, match="the tokenizer has no chat template"):
        prepare_law(chats, tokenizer, chat_field="messages")


def test_04_null_and_empty_texts_are_left_out_and_counted(tokenizer: Path, tmp_path: Path) -> None:
    texts = [None, *TEXTS[:50], None, "", *TEXTS[50:]]
    lines = write_lines(tmp_path / "law.jsonl", [{"text": text} for text in texts])
    parquet.write_table(pa.table({"text": texts}), tmp_path / "law.parquet")
    of_lines, of_parquet = (
        prepare_law(path, tokenizer) for path in (lines, tmp_path / "law.parquet")
    )
    assert of_lines[2] == of_parquet[2]
    assert of_lines[0].empty_documents == of_parquet[0].empty_documents == 3
    assert any("3 empty documents; left out" in warning for warning in of_lines[1])


def test_07_a_text_file_is_one_document(tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / "law.txt"
    path.write_text("\n".join(TEXTS))
    with pytest.raises(InputError, match=r"a \.txt file counts as one document: set text_sepa"):
        prepare_law(path, tokenizer)
    assert count_documents(prepare_law(path, tokenizer, text_separator="\n")[0]) == 100


def test_09_repeated_documents_are_named_and_count_once(tokenizer: Path, tmp_path: Path) -> None:
    once = write_lines(tmp_path / "once.jsonl", [{"text": t} for t in TEXTS])
    path = write_lines(tmp_path / "law.jsonl", [{"text": t} for t in TEXTS * 6])
    manifest, warnings, _ = prepare_law(path, tokenizer)
    assert manifest.train.unique_tokens == prepare_law(once, tokenizer)[0].train.tokens
    n = manifest.train.documents
    said = f"{n * 5 // 6} of {n} training documents repeat others"
    assert any(said in warning for warning in warnings)


def test_30_documents_start_as_the_base_knows_them(tokenizer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    with_bos = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    with_bos.add_special_tokens(["<bos>"])
    bos = with_bos.token_to_id("<bos>")
    with_bos.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", bos)]
    )
    with_bos.save(str(folder / "tokenizer.json"))
    config = {"eos_token": END_OF_TEXT, "bos_token": "<bos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    path = write_lines(tmp_path / "law.jsonl", [{"text": t} for t in TEXTS])
    manifest, warnings, ids = prepare_law(path, folder)
    assert ids.count(bos) == manifest.train.documents
    assert any("starts with the beginning-of-sequence token" in warning for warning in warnings)


def test_31_a_tokenizer_without_an_end_of_sequence_token_is_refused(
    tokenizer: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    (folder / "tokenizer_config.json").write_text("{}")
    path = write_lines(tmp_path / "law.jsonl", [{"text": t} for t in TEXTS])
    with pytest.raises(InputError, match=r"no end-of-sequence token .*; set eos_token in its"):
        prepare_law(path, folder)


def test_49_special_tokens_between_documents(tokenizer: Path, tmp_path: Path) -> None:
    path, valid = tmp_path / "law.txt", tmp_path / "valid.txt"
    path.write_text(f"\n{END_OF_TEXT}\n".join(TEXTS))
    valid.write_text(f"\n{END_OF_TEXT}\n".join(TEXTS[:9]))
    manifest, warnings, _ = prepare_law(path, tokenizer, valid=str(valid))
    assert manifest.train.documents == 1
    assert any("set text_separator to it" in warning for warning in warnings)
    parted = prepare_law(path, tokenizer, valid=str(valid), text_separator=END_OF_TEXT)
    assert parted[0].train.documents == 100
    assert parted[2].count(parted[0].eos_id) == 100
