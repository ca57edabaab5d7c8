"""The user's files are never written to, replaced or removed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_text import TEXTS, hashes, make_old, write_json_lines

from dcpt.errors import InputError
from dcpt.text.manifest import load_prepared
from dcpt.text.prepare import prepare
from dcpt.text.sources import ChannelSource


@pytest.fixture
def sources(tmp_path: Path) -> list[ChannelSource]:
    return [
        ChannelSource(
            name, str(write_json_lines(tmp_path / f"{name}.jsonl", texts)), valid_fraction=0.1
        )
        for name, texts in TEXTS.items()
    ]


@pytest.mark.parametrize(
    "place",
    ["general/a.txt", "tokenizer/tokenizer.json", "notes.txt", ".unfinished/x", "prepared.json"],
)
def test_a_folder_of_the_user_s_is_not_written_to(
    sources: list[ChannelSource], tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "prepared"
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text("mine")
    before = hashes(tmp_path)
    with pytest.raises(InputError) as caught:
        prepare(sources, folder, 300)
    assert caught.value.problems == [
        f"{folder}: holds {place.split('/')[0]}, which `dcpt prepare` did not write, but prepared "
        "text needs a folder of its own; move your files to another folder"
    ]
    assert hashes(tmp_path) == before


def test_a_file_in_place_of_the_folder_stays(sources: list[ChannelSource], tmp_path: Path) -> None:
    (tmp_path / "prepared").write_text("mine")
    with pytest.raises(InputError, match="prepared: this is not a folder"):
        prepare(sources, tmp_path / "prepared", 300)
    assert (tmp_path / "prepared").read_text() == "mine"


@pytest.mark.parametrize(
    "place", ["general/notes.txt", "law/a.txt", "law", "tokenizer/my.txt", ".unfinished/x/a.txt"]
)
def test_a_file_of_the_user_s_among_ours_is_not_replaced(
    sources: list[ChannelSource], tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "prepared"
    prepare(sources, folder, 300)
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text("mine")
    before = hashes(tmp_path)
    changed = [replace(sources[0], valid_fraction=0.3), replace(sources[1], name="law")]
    with pytest.raises(InputError, match="`dcpt prepare` did not write this") as caught:
        prepare(changed, folder, 300)
    assert caught.value.problems[0].startswith(f"{folder / place}: ")
    assert hashes(tmp_path) == before
    prepare(sources, folder, 300)  # what is prepared can be used all the same
    (folder / place).unlink()
    prepare(changed, folder, 300)


def test_a_shard_of_the_user_s_in_a_folder_of_a_channel_s_name_stays(
    sources: list[ChannelSource], tmp_path: Path
) -> None:
    folder = tmp_path / "prepared"
    prepare(sources, folder, 300)
    make_old(folder)
    (folder / "law").mkdir()
    (folder / "law" / "train.bin").write_bytes(b"tokens of another tool")
    with pytest.raises(InputError, match=r"law: `dcpt prepare` did not write this"):
        prepare([*sources, replace(sources[1], name="law")], folder, 300)
    assert (folder / "law" / "train.bin").read_bytes() == b"tokens of another tool"


def test_a_file_that_comes_in_while_text_is_encoded_stays(
    sources: list[ChannelSource], tmp_path: Path
) -> None:
    folder = tmp_path / "prepared"
    first = prepare(sources, folder, 300)

    def come_in(name: str, done: int, total: int) -> None:
        (folder / "general" / "notes.txt").write_text("mine")

    changed = [replace(sources[0], valid_fraction=0.3), sources[1]]
    with pytest.raises(InputError, match=r"notes\.txt: `dcpt prepare` did not write this"):
        prepare(changed, folder, 300, progress=come_in)
    assert (folder / "general" / "notes.txt").read_text() == "mine"
    assert load_prepared(folder) == first


def test_a_link_is_not_replaced(sources: list[ChannelSource], tmp_path: Path) -> None:
    folder, other = tmp_path / "prepared", tmp_path / "other"
    prepare(sources, folder, 300)
    prepare(sources, other, 300)
    before = hashes(other)
    (folder / "law").symlink_to(other / "domain")
    with pytest.raises(InputError, match="law: `dcpt prepare` did not write this"):
        prepare([*sources, replace(sources[1], name="law")], folder, 300)
    assert (folder / "law").is_symlink()
    assert hashes(other) == before


def test_text_in_the_output_is_refused(sources: list[ChannelSource], tmp_path: Path) -> None:
    folder = tmp_path / "work" / "prepared"
    prepare(sources, folder, 300)
    before = hashes(tmp_path)
    write_json_lines(folder / "own.jsonl", TEXTS["general"])
    (tmp_path / "link.json").symlink_to(folder / "own.jsonl")
    (tmp_path / "linked").symlink_to(folder)
    for train, says in {
        "work/prepared/own.jsonl": "which dcpt writes to",
        "work/prepared/general/*.json": r"manifest\.json lies in .*prepared, which",
        "**/*.json": "json lies in",
        "link.json": "lies in",
        "linked/own.jsonl": "lies in",
        "linked": "lies in",
        "work": "lies in",
    }.items():
        for changed in ({"train": str(tmp_path / train)}, {"valid": str(tmp_path / train)}):
            with pytest.raises(InputError, match=f"channel domain.*{says}"):
                prepare([sources[0], replace(sources[1], **changed)], folder, 300)
    (folder / "own.jsonl").unlink()
    (tmp_path / "link.json").unlink()
    (tmp_path / "linked").unlink()
    assert hashes(tmp_path) == before


def test_a_folder_of_text_that_will_hold_the_output_is_refused(
    sources: list[ChannelSource], tmp_path: Path
) -> None:
    write_json_lines(tmp_path / "work" / "own.jsonl", TEXTS["general"])
    with pytest.raises(InputError, match=r"work: this folder holds .*prepared, which dcpt writes"):
        prepare(
            [replace(sources[0], train=str(tmp_path / "work"))],
            tmp_path / "work" / "prepared",
            300,
        )
    assert not (tmp_path / "work" / "prepared").exists()


def test_text_among_other_files_of_ours_is_refused(
    sources: list[ChannelSource], tmp_path: Path
) -> None:
    metrics = write_json_lines(tmp_path / "runs" / "a" / "metrics.jsonl", TEXTS["domain"])
    for train in (metrics, tmp_path / "runs", tmp_path / "*" / "*" / "*.jsonl"):
        with pytest.raises(InputError, match=r"metrics\.jsonl lies in .*runs, which dcpt writes"):
            prepare(
                [replace(sources[0], train=str(train))],
                tmp_path / "prepared",
                300,
                own_folders=[tmp_path / "runs"],
            )


def test_a_folder_of_an_older_version_is_used(sources: list[ChannelSource], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    # The text lay in the same folder, under other names than those of the channels.
    first = prepare(sources, folder, 300)
    make_old(folder)
    raw = Path(sources[0].train).rename(folder / "raw.jsonl")
    sources[0] = replace(sources[0], train=str(raw))
    assert load_prepared(folder).channels == first.channels
    assert prepare(sources, folder, 300).did_nothing
    changed = prepare([replace(sources[0], valid_fraction=0.3), sources[1]], folder, 300)
    assert load_prepared(folder) == changed
    assert raw.exists()
    with pytest.raises(InputError, match="lies in"):
        prepare([replace(sources[0], train=str(folder / "general" / "*.json"))], folder, 300)
