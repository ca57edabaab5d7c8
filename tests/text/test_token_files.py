"""Files of token ids that Megatron and datatrove write."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from dcpt.errors import InputError
from dcpt.text import prepare as preparing
from dcpt.text import token_files
from dcpt.text.prepare import open_shard
from dcpt.text.sources import ChannelSource
from dcpt.text.tokenizer import END_OF_TEXT, load_tokenizer, train_tokenizer

TEXTS = [f"the court held in case {i} that naïve 大小 {i * i}" for i in range(40)]
# Training and validation text are the same file here.
prepare = partial(preparing.prepare, near_duplicates=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, 400, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<other>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def join(lists: Iterable[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(lists))


def encode(folder: Path, end: str | None = END_OF_TEXT) -> list[list[int]]:
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    mark = [] if end is None else [tokenizer.token_to_id(end)]
    return [[*tokenizer.encode(text).ids, *mark] for text in TEXTS]


def write_megatron(
    path: Path, documents: list[list[int]], code: int = 8, dtype: str = "<u2"
) -> Path:
    """As the format is published; a document is one sequence, or two if it is long."""
    parts = [[ids[:9], ids[9:]] if len(ids) > 9 else [ids] for ids in documents]
    sequences = join(parts)
    ends = np.cumsum([0, *map(len, parts)])
    path.write_bytes(b"".join(np.array(ids, dtype).tobytes() for ids in sequences))
    lengths = [len(ids) for ids in sequences]
    pointers = (np.cumsum([0, *lengths])[:-1] * np.dtype(dtype).itemsize).astype("<i8")
    path.with_suffix(".idx").write_bytes(
        struct.pack("<9sQBQQ", b"MMIDIDX\x00\x00", 1, code, len(sequences), len(ends))
        + np.array(lengths, "<i4").tobytes()
        + pointers.tobytes()
        + ends.astype("<i8").tobytes()
    )
    return path


def write_datatrove(path: Path, documents: list[list[int]], dtype: str = "<u2") -> Path:
    path.write_bytes(np.array(join(documents), dtype).tobytes())
    ends = np.cumsum([len(ids) for ids in documents])
    path.with_name(f"{path.name}.index").write_bytes(ends.astype("<u8").tobytes())
    path.with_name(f"{path.name}.metadata").write_text(
        f"tokenizer|{np.dtype(dtype).itemsize}\n{ends[-1]}\n{ends[-1]} T"
    )
    return path


WRITERS: dict[str, Callable[[Path, list[list[int]]], Path]] = {
    "a.bin": write_megatron,
    "b.bin": lambda path, documents: write_megatron(path, documents, 4, "<i4"),
    "a.ds": write_datatrove,
    "b.ds": lambda path, documents: write_datatrove(path, documents, "<u4"),
}


def prepare_law(path: Path, out: Path, tokenizer: str | int) -> list[int]:
    source = ChannelSource("law", str(path), str(path))
    prepared = prepare([source], out, tokenizer)
    assert prepared.channels["law"].spelled_out == {}
    assert prepared.channels["law"].train.documents == len(TEXTS)
    assert prepared.channels["law"].train.text_bytes == sum(len(text.encode()) for text in TEXTS)
    return np.asarray(open_shard(out, "law", "train")).tolist()


@pytest.mark.parametrize("end", [END_OF_TEXT, None])
@pytest.mark.parametrize("name", WRITERS)
def test_ids_are_taken_as_they_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, end: str | None
) -> None:
    (tmp_path / "ids").mkdir()
    path = WRITERS[name](tmp_path / "ids" / name, encode(folder, end))
    expected = join(encode(folder))
    assert prepare_law(path, tmp_path / "file", str(folder)) == expected
    assert prepare_law(tmp_path / "ids", tmp_path / "folder", str(folder)) == expected
    monkeypatch.setattr(token_files, "_PIECE", 7)  # documents in pieces
    lengths = np.asarray(open_shard(tmp_path / "file", "law", "train"))
    source = ChannelSource("law", str(path), str(path))
    prepare([source], tmp_path / "pieces", str(folder))
    assert (np.asarray(open_shard(tmp_path / "pieces", "law", "train")) == lengths).all()


def test_a_prefix_names_the_files_of_megatron(folder: Path, tmp_path: Path) -> None:
    write_megatron(tmp_path / "law_text_document.bin", encode(folder))
    path = tmp_path / "law_text_document"
    assert prepare_law(path, tmp_path / "out", str(folder)) == join(encode(folder))


def test_a_bin_file_without_an_index_is_left_out_of_a_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    write_megatron(tmp_path / "text" / "a.bin", encode(folder))
    (tmp_path / "text" / "pytorch_model.bin").write_bytes(b"\0" * 100)
    prepared = prepare(
        [ChannelSource("law", str(tmp_path / "text"), str(tmp_path / "text" / "a.bin"))],
        tmp_path / "out",
        str(folder),
    )
    assert any("1 files hold no readable text (pytorch_model.bin)" in w for w in prepared.warnings)


def test_a_changed_index_is_a_changed_source(folder: Path, tmp_path: Path) -> None:
    path = write_datatrove(tmp_path / "a.ds", encode(folder))
    source = ChannelSource("law", str(path), str(path))
    prepare([source], tmp_path / "out", str(folder))
    assert prepare([source], tmp_path / "out", str(folder)).did_nothing
    ends = np.fromfile(tmp_path / "a.ds.index", "<u8")
    ends[1:-1].tofile(tmp_path / "a.ds.index")
    with pytest.raises(InputError, match=r"a\.ds\.metadata: \d+ tokens, and the index has"):
        prepare([source], tmp_path / "out", str(folder))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def overwrite(position: int, content: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[position : position + len(content)] = content
        path.write_bytes(data)

    return change


@pytest.mark.parametrize(
    ("name", "damaged", "damage", "says"),
    [
        ("a.bin", "a.bin", cut, r"a\.bin: \d+ bytes, and a\.idx tells of \d+ ids of 2 bytes"),
        ("a.bin", "a.idx", cut, r"a\.idx: \d+ bytes, and \d+ sequences with 40 documents take"),
        ("a.bin", "a.idx", Path.unlink, r"a\.bin: its index a\.idx is missing"),
        ("a.bin", "a.idx", overwrite(0, b"x"), r"a\.idx: no index of Megatron"),
        ("a.bin", "a.idx", overwrite(17, b"\6"), r"a\.idx: its ids have the type of number 6"),
        ("a.bin", "a.idx", overwrite(17, b"\4"), r"a\.idx: its sequences do not follow each other"),
        ("a.bin", "a.idx", overwrite(-8, b"\1"), r"a\.idx: its documents do not end with its"),
        ("a.bin", "a.idx", lambda path: path.write_bytes(b"short"), r"a\.idx: cut off \(5 bytes\)"),
        ("a.ds", "a.ds", cut, r"a\.ds: \d+ bytes, and a\.ds\.index tells of \d+ ids of 2 bytes"),
        ("a.ds", "a.ds.index", cut, r"a\.ds\.index: \d+ bytes, no whole number of ends"),
        ("a.ds", "a.ds.index", Path.unlink, r"a\.ds: its index a\.ds\.index is missing"),
        ("a.ds", "a.ds.index", overwrite(8, b"\xff" * 2), r"a\.ds\.index: its documents do not"),
        (
            "a.ds",
            "a.ds.metadata",
            overwrite(0, b"\n"),
            r"a\.ds\.metadata: no metadata of data",
        ),
        ("b.ds", "b.ds.metadata", overwrite(10, b"2"), r"b\.ds: \d+ bytes, and .* ids of 2 bytes"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(
    folder: Path,
    tmp_path: Path,
    name: str,
    damaged: str,
    damage: Callable[[Path], object],
    says: str,
) -> None:
    path = WRITERS[name](tmp_path / name, encode(folder))
    damage(tmp_path / damaged)
    with pytest.raises(InputError, match=says) as caught:
        prepare_law(path, tmp_path / "out", str(folder))
    assert len(caught.value.problems) == 1


def test_ids_of_another_tokenizer_are_refused(folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    train_tokenizer(TEXTS, 300, small)
    path = write_megatron(tmp_path / "a.bin", encode(folder, None))
    says = r"a\.bin: document 1: holds the id \d+, and the study's tokenizer has the ids 0 to 299"
    with pytest.raises(InputError, match=says + r".*\(\d+ more documents like it\)"):
        prepare_law(path, tmp_path / "out", str(small))
    negative = write_megatron(tmp_path / "b.bin", [[1, 2, -1]] * 40, 4, "<i4")
    with pytest.raises(InputError, match=r"b\.bin: document 1: holds the id -1"):
        prepare_law(negative, tmp_path / "out", str(folder))
    other = write_datatrove(tmp_path / "c.ds", encode(folder, "<other>"))
    with pytest.raises(InputError, match=r"c\.ds: every document ends with <other> \(id \d+\)"):
        prepare_law(other, tmp_path / "out", str(folder))
    with pytest.raises(InputError, match=r"channel law: .*c\.ds holds token ids, and the study tr"):
        prepare_law(other, tmp_path / "out", 300)


def test_files_of_datatrove_itself(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("datatrove", reason="datatrove is not installed")
    from datatrove.data import Document
    from datatrove.pipeline.tokens import DocumentTokenizer

    step = DocumentTokenizer(
        str(tmp_path / "ds"),
        tokenizer_name_or_path=str(folder / "tokenizer.json"),
        eos_token=END_OF_TEXT,
        shuffle_documents=False,
    )
    documents = (Document(text=text, id=str(i)) for i, text in enumerate(TEXTS))
    step(documents, rank=0, world_size=1)
    expected = join(encode(folder))
    assert prepare_law(tmp_path / "ds", tmp_path / "out", str(folder)) == expected


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_files_of_megatron_itself(folder: Path, tmp_path: Path, dtype: type[np.integer]) -> None:
    indexed = pytest.importorskip(
        "megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed"
    )
    import torch

    builder = indexed.IndexedDatasetBuilder(str(tmp_path / "a.bin"), dtype=dtype)
    for ids in encode(folder):
        builder.add_item(torch.tensor(ids[:5]))  # a document of two sequences
        builder.add_item(torch.tensor(ids[5:]))
        builder.end_document()
    builder.finalize(str(tmp_path / "a.idx"))
    expected = join(encode(folder))
    assert prepare_law(tmp_path / "a.bin", tmp_path / "out", str(folder)) == expected


def test_a_study_of_both_kinds_of_source(folder: Path, tmp_path: Path) -> None:
    """Documents that two channels share are found, in whichever form they come."""
    path = write_datatrove(tmp_path / "a.ds", encode(folder))
    lines = tmp_path / "b.jsonl"
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    prepared = prepare(
        [ChannelSource("law", str(path), str(path)), ChannelSource("en", str(lines), str(lines))],
        tmp_path / "out",
        str(folder),
    )
    assert prepared.channels["law"].train.sha256 == prepared.channels["en"].train.sha256
    assert prepared.overlaps[0].documents == len(TEXTS)
