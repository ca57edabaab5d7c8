from __future__ import annotations

import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from dcpt import file_hashes
from dcpt.errors import InputError
from dcpt.text import text_files
from dcpt.text.documents import Document
from dcpt.text.input_files import identify
from dcpt.text.reading import find_source, read_documents

TEXTS = ["one", "two\nlines", "Größe 大小 🙂", ""]


def json_lines(texts: list[str], field: str = "text") -> bytes:
    return b"".join(
        json.dumps({field: text, "id": i}, ensure_ascii=False).encode() + b"\n"
        for i, text in enumerate(texts)
    )


def read(written: str | Path, field: str = "text") -> list[str]:
    source = find_source(str(written), "channel c")
    documents = list(read_documents(source, field))
    positions = [document.position for document in documents]
    assert positions == sorted(positions)
    if source.kind == "files" and positions:
        assert source.size - 1 <= positions[-1] <= source.size  # an empty line may follow
    return [document.text for document in documents]


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("a.jsonl", bytes),
        ("a.ndjson", bytes),
        ("a.json", bytes),
        ("a.jsonl.gz", gzip.compress),
        ("a.jsonl.xz", lzma.compress),
        ("a.jsonl.zst", zstandard.compress),
    ],
)
def test_json_lines(tmp_path: Path, name: str, compress: Callable[[bytes], bytes]) -> None:
    # Two streams in one file, a byte-order mark and an empty line, as other tools leave them.
    half = compress(json_lines(TEXTS) + b"\n")
    (tmp_path / name).write_bytes(compress(b"\xef\xbb\xbf") + half + half)
    assert read(tmp_path / name) == TEXTS * 2


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = TEXTS * 1000
    parquet.write_table(pa.table({"id": range(4000), "body": texts}), path, row_group_size=900)
    assert read(path, "body") == texts


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("Größe\n大小".encode())
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"first"))
    assert read(tmp_path) == ["first", "Größe\n大小"]


def test_folders_and_patterns_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl", "deep/.hidden.jsonl", "deep/notes.pdf"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(json_lines([name]))
    assert read(tmp_path) == ["a.jsonl", "b.jsonl", "deep/c.jsonl"]
    assert read(tmp_path / "*.jsonl") == ["a.jsonl", "b.jsonl"]
    left_out = find_source(str(tmp_path), "channel c").left_out
    assert [path.name for path in left_out] == ["notes.pdf"]


def test_a_saved_dataset(tmp_path: Path) -> None:
    train = datasets.Dataset.from_dict({"body": TEXTS})
    train.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": train}).save_to_disk(tmp_path / "splits")
    datasets.DatasetDict({"test": train}).save_to_disk(tmp_path / "test_only")
    assert read(tmp_path / "one", "body") == TEXTS
    assert read(tmp_path / "splits", "body") == TEXTS
    assert read(tmp_path / "splits" / "train", "body") == TEXTS
    with pytest.raises(InputError, match=r"no field 'text' .fields there: 'body'"):
        read(tmp_path / "one")
    with pytest.raises(InputError, match=r"no split 'train' .splits there: test"):
        read(tmp_path / "test_only", "body")


def test_a_hub_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def load(name: str, config: str | None, **options: object) -> list[dict[str, str]]:
        asked.append((name, config, options))
        return [{"text": text} for text in TEXTS]

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read("hf:owner/name") == TEXTS
    assert read("hf:owner/name:20231101.en@refs/pr/1#test") == TEXTS
    assert asked == [
        ("owner/name", None, {"split": "train", "revision": None, "streaming": True}),
        (
            "owner/name",
            "20231101.en",
            {"split": "test", "revision": "refs/pr/1", "streaming": True},
        ),
    ]
    with pytest.raises(InputError, match="hf:owner/name: row 1: no field 'body'"):
        read("hf:owner/name", "body")
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # our own mistakes are not dressed up as bad input
        read("hf:owner/name")


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InputError, match=r"hf:owner/name: cannot be loaded .*\(no route\)"):
        read("hf:owner/name")
    with pytest.raises(InputError, match="channel c: 'hf:' is not a hub dataset"):
        read("hf:")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"text": "a"}\n{"text": \n', ["line 2: not JSON"]),
        (b'{"text": "a"}\n\n["a"]\n', ["line 3: a list, not an object"]),
        (b'{"text": "a"}\n{"body": "b", "id": 1}\n', ["line 2: no field 'text'", "'body', 'id'"]),
        (b'{"text": "\xff"}\n', ["line 1: not UTF-8 at byte 10", "0xff"]),
        (b'{"text": "\\ud800"}\n', ["line 1: 'text' holds half of a surrogate pair"]),
        (
            b'{"text": 1}\n{"text": 2}\n',
            ["line 1:", "not text; write a text", "(1 more line like it)"],
        ),
        (b"x\n" * 25, ["line 1: not JSON", "(24 more lines like it)"]),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, content: bytes, says: list[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    for part in (str(path), *says):
        assert part in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl.gz", gzip.compress(json_lines(TEXTS * 99))[:-20], "broken or cut off"),
        ("a.jsonl.xz", lzma.compress(json_lines(TEXTS * 99))[:-20], "broken or cut off"),
        ("a.jsonl.zst", zstandard.compress(json_lines(TEXTS * 99))[:-20], "broken or cut off"),
        ("a.jsonl.gz", json_lines(TEXTS), "broken or cut off"),
        ("a.jsonl.zst", json_lines(TEXTS), "broken or cut off"),
        ("a.parquet", json_lines(TEXTS), "not a parquet file"),
        ("a.txt", "Gr\nöße".encode("latin-1"), "line 2, byte 3: not UTF-8 .0xf6"),
        ("a.pdf", b"%PDF", "a.pdf cannot be read; readable are .jsonl"),
        ("a.parquet.gz", b"", "cannot be read; readable are .jsonl"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_bad_parquet_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    raw = pa.array([b"fine", b"\xff"]).cast(pa.binary())
    not_utf8 = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    parquet.write_table(pa.table({"n": [1, 2], "gap": ["a", None], "latin": not_utf8}), path)
    with pytest.raises(InputError, match=r"no field 'text' .fields there: 'n', 'gap', 'latin'"):
        read(path)
    with pytest.raises(InputError, match="row 1: 'n' holds 1, not text"):
        read(path, "n")
    assert read(path, "gap") == ["a", ""]
    with pytest.raises(InputError, match="not UTF-8"):
        read(path, "latin")


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"channel c: no file at .*absent\.jsonl; check the path"):
        read(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="channel c: no file at"):
        read(tmp_path / "*.jsonl")
    with pytest.raises(InputError, match=r"no text inside; readable are .jsonl"):
        read(tmp_path)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    path.write_bytes(json_lines(TEXTS))
    with pytest.raises(InputError, match=r"caf\\udce9\.jsonl' is not plain UTF-8 text; rename it"):
        read(tmp_path)
    path.unlink()  # other tests read the folders around their own


def test_a_file_is_hashed_again_only_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("text")
    known = identify(path)
    monkeypatch.setattr(file_hashes, "hash_file", lambda path: "0" * 64)
    assert identify(path) == known
    before = path.stat()
    path.write_text("taxt")  # of the same size and time, as `cp -p` or `rsync -t` leave it
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert identify(path).sha256 == "0" * 64


def test_documents_are_read_one_by_one(tmp_path: Path) -> None:
    # The second line is broken; a reader that reads ahead would not come to the first.
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{')
    documents = read_documents(find_source(str(path), "channel c"), "text")
    assert next(documents) == Document("a", 14, f"{path}: line 1")
    with pytest.raises(InputError, match="line 2"):
        next(documents)


def write_lines(path: Path, records: list[object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_one_array_is_read_like_json_lines(tmp_path: Path) -> None:
    records = [{"text": "one"}, {"text": "two\nlines"}]
    for name, indent in (("pretty.json", 2), ("line.json", None)):
        (tmp_path / name).write_text(json.dumps(records, indent=indent))
        assert read(tmp_path / name) == ["one", "two\nlines"]
    assert read(write_lines(tmp_path / "lines.json", list(records))) == ["one", "two\nlines"]
    (tmp_path / "cut.json").write_text(json.dumps(records, indent=2)[:-9])
    with pytest.raises(InputError, match=r"cut\.json: line \d+: not JSON .* one array of objects"):
        read(tmp_path / "cut.json")


def test_nested_fields_paragraphs_and_nulls_are_read(tmp_path: Path) -> None:
    records = [{"doc": {"text": text}} for text in (["a", "b"], None, "c")]
    path = write_lines(tmp_path / "a.jsonl", list(records))
    assert read(path, "doc.text") == ["a\n\nb", "", "c"]
    parquet.write_table(pa.table({"doc": [{"text": "a"}, {"text": None}]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", "doc.text") == ["a", ""]
    with pytest.raises(InputError, match=r"fields there: 'doc\.text'\); set text_field to one of"):
        read(path)


@pytest.mark.parametrize("text_field", ["text", "messages"])
def test_chats_are_refused_in_one_sentence(tmp_path: Path, text_field: str) -> None:
    chat = {"messages": [{"role": "user", "content": "hello"}]}
    path = write_lines(tmp_path / "chat.jsonl", [chat] * 150)
    with pytest.raises(InputError) as caught:
        read(path, text_field)
    (problem,) = caught.value.problems
    assert "set chat_field: messages to write them with the tokenizer's chat template" in problem
    assert problem.endswith("(149 more lines like it)")


def test_the_problems_of_all_files_are_named_at_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_lines(tmp_path / f"{name}.jsonl", [{"text": "fine"}, {"body": 1}, [1]])
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    places = [problem.split(": ")[:2] for problem in caught.value.problems]
    assert [(Path(file).name, line) for file, line in places] == [
        ("a.jsonl", "line 2"),
        ("a.jsonl", "line 3"),
        ("b.jsonl", "line 2"),
        ("b.jsonl", "line 3"),
    ]


@pytest.mark.parametrize("block", [1 << 20, 7])
def test_a_separator_parts_the_documents_of_a_text_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(text_files, "BLOCK", block)
    path = tmp_path / "a.txt"
    path.write_text("\ufefföne\n<|end|>\ntwo\nlines\n<|end|>three", encoding="utf-8")
    source = find_source(str(path), "channel c")
    documents = read_documents(source, "text", "<|end|>")
    assert [document.text for document in documents] == ["öne", "two\nlines", "three"]
    assert [document.text for document in read_documents(source, "text", "\n")][:2] == [
        "öne",
        "<|end|>",
    ]
    path.write_bytes(b"fine<|end|>\ncaf\xe9")
    with pytest.raises(InputError, match=r"a\.txt: line 2, byte 15: not UTF-8 \(0xe9\)"):
        list(read_documents(source, "text", "<|end|>"))
