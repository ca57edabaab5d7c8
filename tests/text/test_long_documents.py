"""Long documents: read and encoded in pieces, with the ids of the whole text."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from dcpt.errors import InputError
from dcpt.text import cuts, documents, json_files, long_documents, shards, text_files
from dcpt.text.cuts import Cutter
from dcpt.text.documents import Document, DocumentHash, beginnings, hash_document
from dcpt.text.long_records import read_long_record
from dcpt.text.prepare import open_shard, prepare
from dcpt.text.reading import find_source, read_documents
from dcpt.text.record_text import Fault
from dcpt.text.sources import ChannelSource
from dcpt.text.tokenizer import END_OF_TEXT, load_tokenizer

WORDS = [
    *("the", "of", "and", "court", "held", "that", "it's", "12,345", "(see)", "Größe", "naïve"),
    *("大小", "漢字", "don't", "x=f(y);", "e\u0301", "🙂", "-", "»ok«", "l'été", "WE'VE", "3.14"),
    *('"quoted', 'text"', "state"),
]

# The pattern of Llama 3, as it is published.
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make_text(n_words: int, seed: int) -> str:
    rng = random.Random(seed)
    gaps = [" "] * 20 + ["\n", "\n\n", "  ", "\t", " \n "]
    return "".join(rng.choice(WORDS) + rng.choice(gaps) for _ in range(n_words))


def train(tokenizer: Tokenizer, trainer: Any) -> Tokenizer:
    tokenizer.train_from_iterator([make_text(3000, seed) for seed in range(3)], trainer)
    return tokenizer


def byte_level(split: str | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    tokenizer.pre_tokenizer = (
        whole
        if split is None
        else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), whole])
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return train(
        tokenizer,
        trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False),
    )


def with_bos() -> Tokenizer:
    tokenizer = byte_level(LLAMA_3)
    tokenizer.add_special_tokens(["<bos>", END_OF_TEXT])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return tokenizer


def llama_2() -> Tokenizer:
    """A BPE over the whole text, with a space before it, as SentencePiece's is converted."""
    tokenizer = Tokenizer(models.BPE(fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"], show_progress=False)
    train(tokenizer, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    return train(tokenizer, trainer)


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[UNK]"], show_progress=False
    )
    return train(tokenizer, trainer)


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "GPT-2": byte_level,
    "Llama 3": lambda: byte_level(LLAMA_3),
    "with BOS": with_bos,
    "Llama 2": llama_2,
    "unigram": unigram,
    "BERT": word_piece,
}


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sizes a thousand times smaller."""
    monkeypatch.setattr(documents, "LONG_CHARACTERS", 1000)
    monkeypatch.setattr(shards, "LONG_CHARACTERS", 1000)
    monkeypatch.setattr(text_files, "LONG_CHARACTERS", 1000)
    monkeypatch.setattr(json_files, "LONG_LINE", 1000)
    monkeypatch.setattr(text_files, "BLOCK", 700)
    monkeypatch.setattr(json_files, "BLOCK", 700)
    monkeypatch.setattr(shards, "BATCH_CHARACTERS", 1000)
    monkeypatch.setattr(long_documents, "PART_CHARACTERS", 200)
    monkeypatch.setattr(cuts, "LONGEST_PART", 8000)


def encode_in_parts(tokenizer: Tokenizer, text: str) -> tuple[list[int], int]:
    """The ids of a text that arrives in pieces, and the number of its parts."""
    long = long_documents.LongDocument(Cutter(tokenizer), 1000)
    ids: list[int] = []
    n_parts = n_bytes = 0
    for start in range(0, len(text), 777):
        more = start + 777 < len(text)
        for batch in long.add(Document(text[start : start + 777], 0, "here", more=more)):
            n_parts += len(batch.parts)
            n_bytes += batch.left_out + sum(len(part.text.encode()) for part in batch.parts)
            for part in batch.parts:
                ids += tokenizer.encode(part.text, add_special_tokens=False).ids
    assert n_bytes == len(text.encode())
    return ids, n_parts


@pytest.mark.parametrize("name", TOKENIZERS)
def test_parts_have_the_ids_of_the_whole_text(name: str, short_parts: None) -> None:
    tokenizer = TOKENIZERS[name]()
    for seed in range(3):
        text = make_text(4000, 10 + seed)
        ids, n_parts = encode_in_parts(tokenizer, text)
        assert ids == tokenizer.encode(text, add_special_tokens=False).ids
        assert n_parts > 50


def test_text_is_cut_only_where_no_token_reaches_across(short_parts: None) -> None:
    """A pre-tokenizer that keeps lines together, and merges across spaces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False)
    tokenizer.train_from_iterator(["the court held that the law of the state"] * 9, trainer)
    text = "the court held that the law of the state\n" * 100
    ids, n_parts = encode_in_parts(tokenizer, text)
    assert ids == tokenizer.encode(text, add_special_tokens=False).ids
    assert n_parts > 10  # after line breaks
    with pytest.raises(InputError, match=r"here: 8,000 characters of a document have no place"):
        encode_in_parts(tokenizer, text.replace("\n", " ") * 3)


def test_a_text_that_is_never_cut_is_refused_in_one_sentence(short_parts: None) -> None:
    tokenizer = byte_level()
    assert encode_in_parts(tokenizer, "=" * 7000)[1] == 1
    with pytest.raises(InputError) as caught:
        encode_in_parts(tokenizer, "=" * 10_000)
    (problem,) = caught.value.problems
    assert "before a space between letters" in problem
    assert problem.endswith("write several documents")


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> str:
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": END_OF_TEXT, "bos_token": "<bos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz", "a.json"])
@pytest.mark.parametrize("valid_fraction", [0.001, 0.999])
def test_a_long_document_is_prepared_as_a_whole(
    tmp_path: Path, short_parts: None, name: str, valid_fraction: float
) -> None:
    text = make_text(3000, 1)
    content = text if name == "a.txt" else json.dumps({"id": 1, "text": text})
    short = json.dumps({"text": "a short one"}) + "\n"
    data = content.encode()
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / name).write_bytes(gzip.compress(data) if ".gz" in name else data)
    (tmp_path / "train" / "b.jsonl").write_text(short * 2)
    tokenizer = with_bos()
    place = write_tokenizer(tmp_path / "tokenizer", tokenizer)
    source = ChannelSource("law", str(tmp_path / "train"), valid_fraction=valid_fraction)
    with pytest.raises(InputError, match="split has 0 tokens"):  # all text is on one side
        prepare([source], tmp_path / "refused", place)
    source = ChannelSource("law", str(tmp_path / "train"), str(tmp_path / "train"))
    prepared = prepare([source], tmp_path / "prepared", place, near_duplicates=False)
    counts = prepared.channels["law"].train
    assert (counts.documents, counts.repeated_documents) == (3, 1)
    assert counts.text_bytes == len(text.encode()) + 2 * len("a short one")
    ids = np.asarray(open_shard(prepared.folder, "law", "train")).tolist()
    whole = [*tokenizer.encode(text).ids, tokenizer.token_to_id(END_OF_TEXT)]
    assert ids[: len(whole)] == whole
    assert len(ids) == counts.tokens
    assert not list((tmp_path / "prepared").rglob("*.partial"))


def test_a_long_document_ends_the_text_of_a_capped_channel(
    tmp_path: Path, short_parts: None
) -> None:
    (tmp_path / "a.txt").write_text(make_text(3000, 1))
    (tmp_path / "b.txt").write_text(make_text(3000, 2))
    valid = tmp_path / "valid.jsonl"
    valid.write_text(json.dumps({"text": make_text(10, 3)}))
    place = write_tokenizer(tmp_path / "tokenizer", with_bos())
    source = ChannelSource("law", str(tmp_path / "*.txt"), str(valid), max_tokens=100)
    prepared = prepare([source], tmp_path / "prepared", place)
    assert prepared.channels["law"].train.documents == 1


def test_the_separator_of_a_long_text_file_is_found(tmp_path: Path, short_parts: None) -> None:
    texts = [make_text(1000, seed).strip("\n") for seed in range(4)]
    path = tmp_path / "a.txt"
    path.write_text("\n<|end|>\n\n".join(["", *texts, ""]))
    pieces = list(read_documents(find_source(str(path), "here"), "text", "<|end|>"))
    assert len(pieces) > 20
    found = [document.text for document, _ in beginnings(pieces, 10**9)]
    assert found == ["", *texts, ""]


STRINGS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from('"\\\n\u0000🙂')), max_size=60
)
RECORDS = st.dictionaries(
    st.one_of(STRINGS, st.sampled_from(["text", "doc"])),
    st.recursive(
        st.one_of(STRINGS, st.none(), st.integers(), st.booleans()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.just("text"), inner)),
        max_leaves=5,
    ),
)


def in_blocks(line: str, size: int) -> Iterator[str]:
    return (line[start : start + size] for start in range(0, len(line), size))


@given(
    record=RECORDS,
    text=st.one_of(STRINGS, st.lists(STRINGS), st.none()),
    ascii_only=st.booleans(),
    size=st.integers(1, 30),
    nested=st.booleans(),
)
def test_a_record_in_pieces_has_the_text_of_the_whole(
    record: dict[str, Any], text: str | list[str] | None, ascii_only: bool, size: int, nested: bool
) -> None:
    record = {**record, "doc": {"text": text}} if nested else {**record, "text": text}
    line = json.dumps(record, ensure_ascii=ascii_only)
    found = list(read_long_record(in_blocks(line, size), "doc.text" if nested else "text"))
    assert not any(isinstance(piece, Fault) for piece in found)
    whole = "\n\n".join(text) if isinstance(text, list) else text or ""
    assert "".join(map(str, found)) == whole
    if not isinstance(text, list):
        assert all(len(str(piece)) <= size + 12 for piece in found)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('{"text": "a', "json"),
        ('{"text": "a"', "json"),
        ('{"text": "a"}}', "json"),
        ('{"text": "a" "b"}', "json"),
        (r'{"text": "\q"}', "json"),
        (r'{"text": "\u12xz and much more"}', "json"),
        ('{"text": "a\nb"}', "json"),
        ('{"text": "a", "text": "b"}', "json"),
        (r'{"text": "\ud83d"}', "surrogate"),
        ('{"body": "a"}', "field"),
        ('{"text": 1}', "type"),
        ('{"text": ["a", 1]}', "type"),
        ('["text", "a"]', "object"),
        ("", "json"),
    ],
)
def test_what_is_wrong_with_a_long_record_is_said(line: str, kind: str) -> None:
    for size in (1, 5, 100):
        last = list(read_long_record(in_blocks(line, size), "text"))[-1]
        assert isinstance(last, Fault)
        assert last.kind == kind


def test_broken_long_lines_are_named_with_the_others(tmp_path: Path, short_parts: None) -> None:
    path = tmp_path / "a.jsonl"
    long = json.dumps({"text": make_text(500, 1)}, ensure_ascii=False).encode()
    broken = long[:1500] + b"\xff" + long[1500:]
    path.write_bytes(b"\n".join([long, b'{"body": 1}', long[:-1], broken, long]) + b"\n")
    with pytest.raises(InputError) as caught:
        list(read_documents(find_source(str(path), "here"), "text"))
    kinds = [problem.split(": ")[1:3] for problem in caught.value.problems]
    assert [line for line, _ in kinds] == ["line 2", "line 3", "line 4"]
    assert "not UTF-8 (0xff)" in caught.value.problems[2]


@given(st.lists(st.text(st.sampled_from("ab \n\u3000é"), max_size=5)))
def test_the_hash_of_pieces_is_that_of_the_whole(pieces: list[str]) -> None:
    whole = DocumentHash()
    for piece in pieces:
        whole.update(piece)
    assert whole.value() == hash_document("".join(pieces))
    assert whole.empty == (not "".join(pieces).split())


def test_a_cut_is_checked_where_it_is_made(tmp_path: Path) -> None:
    """An added token that holds a space is not cut, although most spaces can be."""
    tokenizer = byte_level()
    tokenizer.add_tokens(["court held"])
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    cutter = Cutter(load_tokenizer(path))
    text = "that the court held"
    found = cutter.find(text, 0, len(text))
    assert found is not None
    assert text[: found.place] == "that the"
