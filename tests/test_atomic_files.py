from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dcpt.atomic_files import (
    PARTIAL,
    DamagedFileError,
    read_json,
    read_record,
    replace_file,
    set_aside,
    write_json,
    write_record,
)
from dcpt.file_hashes import file_sha256, hash_file


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def write_half() -> None:
        with replace_file(path) as partial:
            partial.write_text("{")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_processes_of_several_hosts_with_one_id_write_to_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)  # as the first process of any container
    path = tmp_path / "a.json"
    with replace_file(path) as first:
        first.write_text("first")
        with replace_file(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        assert PARTIAL.search(first.name)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: (calls.append("fsync"), fsync(f)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_json(tmp_path / "a.json", 1)
    assert calls == ["fsync", "replace", "fsync"]  # The file, its name, the folder.


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", b"[" * 100_000])
def test_a_torn_file_is_named_with_its_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"a\.json: the file is damaged .*; prepare again"):
        read_json(path, "prepare again")


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "a.json") is None


def test_what_was_set_aside_is_never_replaced(tmp_path: Path) -> None:
    names = []
    for content in ("first", "second", "third"):
        path = tmp_path / "result.json"
        path.write_text(content)
        names.append(set_aside(path).name)
    assert names == ["result.json.damaged", "result.json.damaged-2", "result.json.damaged-3"]
    assert [(tmp_path / name).read_text() for name in names] == ["first", "second", "third"]


def test_a_hash_is_computed_once_for_each_state_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reads = tmp_path / "shard.bin", []
    monkeypatch.setattr(
        "dcpt.file_hashes.hash_file", lambda file: (reads.append(file), hash_file(file))[1]
    )
    path.write_bytes(b"abc")
    assert file_sha256(path) == file_sha256(path) == hash_file(path)
    assert len(reads) == 1
    stat = path.stat()
    path.write_bytes(b"abd")  # The same length and modification time as before.
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file_sha256(path) == hash_file(path)
    assert len(reads) == 2


def test_a_torn_memory_of_hashes_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "shard.bin"
    path.write_bytes(b"abc")
    expected = file_sha256(path)
    for memory in Path(os.environ["XDG_CACHE_HOME"]).rglob("*.json"):
        memory.write_bytes(memory.read_bytes()[:20])
    assert file_sha256(path) == expected


def test_a_record_whose_content_changed_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    record = {"n_tokens": 512, "loss": {"en": 2.5}, "pair": (1, 2), "by_step": {3: "x"}}
    write_record(path, record)
    assert read_record(path) == {**record, "pair": [1, 2], "by_step": {"3": "x"}}
    path.write_text(path.read_text().replace("2.5", "2.6"))
    with pytest.raises(DamagedFileError, match="not what was written"):
        read_record(path)
    path.write_text('{"n_tokens": 512}')  # Written by an earlier version, or by hand.
    assert read_record(path) == {"n_tokens": 512}
    for content in ("[]", "null", "3"):
        path.write_text(content)
        with pytest.raises(DamagedFileError, match="no JSON object"):
            read_record(path)


def test_a_folder_in_the_place_of_a_record_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.mkdir()
    (path / "mine.txt").write_text("mine")
    with pytest.raises(DamagedFileError, match="Is a directory"):
        read_record(path)
    write_record(path, {"n": 1})
    assert read_record(path) == {"n": 1}
    assert (tmp_path / "result.json.damaged" / "mine.txt").read_text() == "mine"


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a.json").write_text("old")
    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(OSError, match="No space left") as caught:
        write_json(tmp_path / "a.json", {})
    assert caught.value.filename == str(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "old"
