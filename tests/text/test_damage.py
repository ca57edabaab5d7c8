"""Damaged files of prepared text: named by every reader, and made again by ``prepare``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_text import TEXTS, hashes, make_old, write_json_lines

from dcpt.atomic_files import DamagedFileError
from dcpt.errors import InputError
from dcpt.text.manifest import load_prepared
from dcpt.text.prepare import prepare
from dcpt.text.shard_files import open_shard
from dcpt.text.sources import ChannelSource


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name, texts in TEXTS.items():
        write_json_lines(folder / f"{name}.jsonl", texts)
    prepare(find_sources(folder), folder / "prepared", 300)
    return folder


def find_sources(folder: Path) -> list[ChannelSource]:
    return [
        ChannelSource(name, str(folder / f"{name}.jsonl"), valid_fraction=0.1) for name in TEXTS
    ]


def flip_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "zeroed": lambda content: bytes(len(content)),
    "flipped": flip_bit,
    "list": lambda content: b"[1]",
    "object": lambda content: b"{}",
    "deep": lambda content: b"[" * 100_000,
}
FILES = [
    "prepared.json",
    "general/manifest.json",
    "general/train.bin",
    "general/valid.bin",
    "general/documents.npz",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
]


def read_all(folder: Path) -> None:
    """What training reads."""
    load_prepared(folder)
    for name in TEXTS:
        for split in ("train", "valid"):
            open_shard(folder, name, split)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named_and_made_again(
    made: Path, tmp_path: Path, file: str, damage: str
) -> None:
    folder = tmp_path / "prepared"
    shutil.copytree(made / "prepared", folder)
    before = hashes(folder)
    (folder / file).write_bytes(DAMAGES[damage]((folder / file).read_bytes()))
    if file != "general/documents.npz":  # it is read by `prepare` alone
        with pytest.raises(InputError, match="run `dcpt prepare` again") as caught:
            read_all(folder)
        named = file if isinstance(caught.value, DamagedFileError) else "channel general"
        assert named in str(caught.value)
        assert len(caught.value.problems) == 1
    again = prepare(find_sources(made), folder, 300)
    assert not again.did_nothing
    assert hashes(folder) == before
    read_all(folder)
    assert prepare(find_sources(made), folder, 300).did_nothing


@pytest.mark.parametrize("file", [file for file in FILES if file != "prepared.json"])
def test_a_missing_file_is_named_and_made_again(made: Path, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "prepared"
    shutil.copytree(made / "prepared", folder)
    before = hashes(folder)
    (folder / file).unlink()
    if file != "general/documents.npz":
        with pytest.raises(InputError, match="run `dcpt prepare`"):
            read_all(folder)
    prepare(find_sources(made), folder, 300)
    assert hashes(folder) == before


def test_damage_in_the_folder_of_an_older_version(made: Path, tmp_path: Path) -> None:
    for number, file in enumerate(file for file in FILES if file != "prepared.json"):
        folder = tmp_path / str(number)
        shutil.copytree(made / "prepared", folder)
        make_old(folder)
        shards = {name: sha for name, sha in hashes(folder).items() if name.endswith(".bin")}
        (folder / file).write_bytes(b"\0")
        prepare(find_sources(made), folder, 300)
        read_all(folder)
        assert shards.items() <= hashes(folder).items()


def test_a_zeroed_shard_of_the_right_length_is_not_trained_on(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    shutil.copytree(made / "prepared", folder)
    shard = folder / "domain" / "train.bin"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(DamagedFileError) as caught:
        open_shard(folder, "domain", "train")
    assert str(caught.value) == (
        f"{shard}: the file is damaged (its SHA-256 is not the one in manifest.json); "
        "run `dcpt prepare` again"
    )
    open_shard(folder, "domain", "valid")


def test_a_shard_is_hashed_once(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "prepared"
    prepare(find_sources(made), folder, 300)
    read: list[Path] = []
    monkeypatch.setattr("dcpt.file_hashes.hash_file", lambda path: read.append(path))
    read_all(folder)
    assert read == []  # `prepare` hashed them
    shard = folder / "general" / "train.bin"
    shard.write_bytes(shard.read_bytes())
    with pytest.raises(DamagedFileError, match=r"train\.bin"):  # None is no hash
        open_shard(folder, "general", "train")
    assert read == [shard]


def test_a_changed_number_in_a_manifest_is_not_believed(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    shutil.copytree(made / "prepared", folder)
    before = hashes(folder)
    manifest = folder / "general" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"empty_documents": 0', '"empty_documents": 7'))
    assert manifest.read_text() != text
    prepare(find_sources(made), folder, 300)
    assert hashes(folder) == before


def test_shards_hold_what_they_held(made: Path) -> None:
    assert np.asarray(open_shard(made / "prepared", "general", "train")).any()


def test_prepare_says_that_a_damaged_shard_is_made_again(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    shutil.copytree(made / "prepared", folder)
    shard = folder / "general" / "train.bin"
    shard.write_bytes(flip_bit(shard.read_bytes()))
    again = prepare(find_sources(made), folder, 300)
    said = f"channel general: files in {folder / 'general'} were damaged, and are prepared again"
    assert [line for line in again.warnings if "damaged" in line] == [said]
    assert not any("damaged" in line for line in load_prepared(folder).warnings)
    assert not any("damaged" in line for line in prepare(find_sources(made), folder, 300).warnings)
