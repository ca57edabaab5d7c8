from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dcpt.errors import InputError
from dcpt.text.documents import hash_document
from dcpt.text.manifest import Prepared, load_prepared
from dcpt.text.prepare import prepare
from dcpt.text.shard_files import open_shard
from dcpt.text.shards import SplitRule
from dcpt.text.sources import ChannelSource, find_channels, sample_texts
from dcpt.text.tokenizer import train_tokenizer

REPOSITORY = Path(__file__).parents[2]


def write(path: Path, texts: list[str], field: str = "text") -> str:
    path.write_text("".join(json.dumps({field: text}) + "\n" for text in texts))
    return str(path)


def speech(i: int) -> str:
    return f"My fellow citizens, this is the speech number {i * i}.\nGröße {i} 大小 🙂"


def code(i: int) -> str:
    return f"A{i:02} Disease of the {i * 7} kind\nExcludes: B{i}"


SPEECHES = [speech(i) for i in range(400)]
CODES = [code(i) for i in range(300)]


@pytest.fixture
def sources(tmp_path: Path) -> list[ChannelSource]:
    return [
        ChannelSource("general", write(tmp_path / "general.jsonl", SPEECHES)),
        ChannelSource("domain", write(tmp_path / "domain.jsonl", CODES), valid_fraction=0.1),
    ]


def decode(prepared: Prepared, channel: str, split: str) -> list[str]:
    """The documents of a shard, read back."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(prepared.tokenizer_path / "tokenizer.json"))
    ids = np.asarray(open_shard(prepared.folder, channel, split))
    ends = np.flatnonzero(ids == prepared.channels[channel].eos_id)
    assert ends[-1] == len(ids) - 1
    return [tokenizer.decode(part[:-1].tolist()) for part in np.split(ids, ends[:-1] + 1)]


def no_trace_of(folder: Path) -> bool:
    return not (folder / "prepared.json").exists() and not (folder / "general").exists()


def test_shards_hold_the_documents(sources: list[ChannelSource], tmp_path: Path) -> None:
    output: list[tuple[str, int, int]] = []
    prepared = prepare(
        sources,
        tmp_path / "prepared",
        300,
        progress=lambda *a: output.append(a),
        sequence_tokens=64,
    )
    for channel, texts, fraction in (("general", SPEECHES, 0.02), ("domain", CODES, 0.1)):
        train, valid = decode(prepared, channel, "train"), decode(prepared, channel, "valid")
        assert [text for text in texts if text not in valid] == train
        assert [text for text in texts if text not in train] == valid
        assert 0.3 * fraction < len(valid) / len(texts) < 2 * fraction
        manifest = prepared.channels[channel]
        for split, documents in ((manifest.train, train), (manifest.valid, valid)):
            assert split.documents == len(documents)
            assert split.text_bytes == sum(len(text.encode()) for text in documents)
        assert manifest.train.tokens == len(open_shard(prepared.folder, channel, "train"))
        assert manifest.dtype == "uint16"
        assert manifest.vocab_size == 300
        assert (
            prepared.bytes_per_token(channel) == manifest.valid.text_bytes / manifest.valid.tokens
        )
        shard = prepared.folder / channel / "train.bin"
        sha256sum = subprocess.run(["sha256sum", shard], capture_output=True, check=True).stdout
        assert sha256sum.split()[0].decode() == manifest.train.sha256
    assert prepared.warnings == ()
    assert not prepared.did_nothing
    assert load_prepared(tmp_path / "prepared") == prepared
    sizes = {source.name: Path(source.train).stat().st_size for source in sources}
    assert {name: (done, total) for name, done, total in output if name in sizes} == {
        name: (size, size) for name, size in sizes.items()
    }


def test_several_processes_give_the_same_shards(
    sources: list[ChannelSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = prepare(sources, tmp_path / "one", 300)
    monkeypatch.setattr("dcpt.text.shards.BATCH_CHARACTERS", 500)
    parallel = prepare(sources, tmp_path / "two", 300, workers=2)
    assert {n: m.train.sha256 for n, m in alone.channels.items()} == {
        n: m.train.sha256 for n, m in parallel.channels.items()
    }
    assert alone.channels == parallel.channels


def test_a_second_call_does_nothing(sources: list[ChannelSource], tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    first = prepare(sources, folder, 300)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert prepare(sources, folder, 300).did_nothing
    # Another path and another time of change are no other text.
    moved = Path(sources[0].train).rename(tmp_path / "moved.jsonl")
    os.utime(moved, (1, 1))
    assert prepare([replace(sources[0], train=str(moved)), sources[1]], folder, 300).did_nothing
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert load_prepared(folder).channels == first.channels
    with pytest.raises(InputError, match=r"validation split has .* one sequence takes 1000001"):
        prepare(
            [replace(sources[0], train=str(moved)), sources[1]],
            folder,
            300,
            sequence_tokens=1_000_000,
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda source: replace(source, valid_fraction=0.05),
        lambda source: replace(source, max_tokens=900),
        lambda source: replace(source, valid=write(Path(source.train).with_name("v.jsonl"), CODES)),
        lambda source: replace(source, text_field="body"),
        lambda source: replace(source, train=write(Path(source.train), SPEECHES[1:])),
    ],
)
def test_a_change_is_noticed(
    sources: list[ChannelSource],
    tmp_path: Path,
    change: Callable[[ChannelSource], ChannelSource],
) -> None:
    texts = [json.dumps({"text": speech(i), "body": speech(-i - 1)}) for i in range(400)]
    Path(sources[0].train).write_text("\n".join(texts))
    folder = tmp_path / "prepared"
    first = prepare(sources, folder, 300)
    second = prepare([change(sources[0]), sources[1]], folder, 300)
    assert not second.did_nothing
    assert second.channels["general"].train.sha256 != first.channels["general"].train.sha256
    assert load_prepared(folder) == second


def test_only_the_changed_channel_is_made_again(
    sources: list[ChannelSource], tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    train_tokenizer(SPEECHES + CODES, 300, tmp_path / "own")
    folder, tokenizer = tmp_path / "prepared", str(tmp_path / "own")
    prepare(sources, folder, tokenizer)
    kept = (folder / "domain" / "train.bin").stat().st_ino
    made: list[str] = []
    prepare(
        [replace(sources[0], max_tokens=900), sources[1]],
        folder,
        tokenizer,
        progress=lambda name, done, total: made.append(name),
    )
    assert set(made) == {"general", "near-duplicates"}
    assert (folder / "domain" / "train.bin").stat().st_ino == kept


def test_a_cap_in_tokens_ends_at_a_document(sources: list[ChannelSource], tmp_path: Path) -> None:
    capped = [replace(sources[0], max_tokens=900), sources[1]]
    prepared = prepare(capped, tmp_path / "prepared", 300)
    manifest = prepared.channels["general"]
    documents = decode(prepared, "general", "train")
    assert 900 <= manifest.train.tokens < 900 + 40
    assert manifest.train.documents == len(documents)
    assert documents == [text for text in SPEECHES if text in documents]


def test_text_behind_a_cap_is_not_read(
    sources: list[ChannelSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcpt.text.shards.BATCH_CHARACTERS", 500)
    with Path(sources[0].train).open("a") as file:
        file.write("a broken line\n")
    valid = write(tmp_path / "valid.jsonl", CODES)
    held_out = replace(sources[0], valid_fraction=0.2)
    for source in (held_out, replace(held_out, valid=valid)):
        capped = replace(source, max_tokens=900)
        prepared = prepare([capped], tmp_path / "prepared", 300)
        assert prepared.channels["general"].train.tokens < 900 + 40
    # Validation text from a source of its own is read to its end all the same.
    assert prepared.channels["general"].valid.documents == len(CODES)


def test_copies_are_on_one_side_and_counted(tmp_path: Path) -> None:
    spaced = [text.replace(" ", "  ") + "\n" for text in SPEECHES]
    twice = ChannelSource("twice", write(tmp_path / "twice.jsonl", SPEECHES + spaced))
    prepared = prepare([twice], tmp_path / "prepared", 300)
    manifest = prepared.channels["twice"]
    assert manifest.documents_in_both_splits == 0
    assert manifest.train.repeated_documents == manifest.train.documents / 2
    assert manifest.valid.repeated_documents == manifest.valid.documents / 2


def test_shared_documents_are_counted_and_told(tmp_path: Path) -> None:
    general = write(tmp_path / "general.jsonl", [*SPEECHES, "  ", ""])
    valid = write(tmp_path / "valid.jsonl", [*SPEECHES[:5], *CODES[100:120]])
    domain = write(tmp_path / "domain.jsonl", [*CODES[:100], *SPEECHES[300:]])
    sources = [
        ChannelSource("general", general, valid_fraction=0.3),
        ChannelSource("domain", domain, valid=valid),
        ChannelSource("other", write(tmp_path / "other.jsonl", CODES[200:]), valid_fraction=0.2),
    ]
    prepared = prepare(sources, tmp_path / "prepared", 300, near_duplicates=False)
    assert prepared.channels["domain"].documents_in_both_splits == 0
    assert prepared.channels["domain"].valid_source == valid
    (overlap,) = prepared.overlaps
    assert (overlap.channels, overlap.documents) == (("general", "domain"), 105)
    held_out = set(decode(prepared, "general", "valid"))
    leaked = sum(text in held_out for text in SPEECHES[300:])
    leaked += sum(text not in held_out for text in SPEECHES[:5])
    assert overlap.trained_and_validated == leaked > 5
    assert prepared.warnings == (
        "channel general: 2 empty documents; left out",
        f"channels general and domain: 105 documents are in both, {leaked} of them trained on in "
        "one and validated on in the other",
    )

    leaking = write(tmp_path / "leaking.jsonl", CODES[90:120])
    leaky = [replace(sources[1], valid=leaking)]
    prepared = prepare(leaky, tmp_path / "leaking", 300, near_duplicates=False)
    assert prepared.channels["domain"].documents_in_both_splits == 10
    assert "10 documents are in training and in validation" in prepared.warnings[0]


def test_what_is_left_out_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    write(tmp_path / "texts" / "a.jsonl", SPEECHES)
    (tmp_path / "texts" / "README.md").write_text("about")
    prepared = prepare(
        [ChannelSource("general", str(tmp_path / "texts"))], tmp_path / "out", 100_000
    )
    assert prepared.warnings[0] == (
        "channel general: 1 files hold no readable text (README.md); left out"
    )
    assert "not of 100000; there is too little of it" in prepared.warnings[1]


def test_the_tokenizer_learns_from_an_even_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcpt.text.sources.SAMPLE_BYTES", 5_000)
    source = ChannelSource("c", write(tmp_path / "c.jsonl", SPEECHES), valid_fraction=0.5)
    channels = find_channels([source])
    sample = list(sample_texts(channels, lambda *a: None))
    assert 1_500 < sum(len(text.encode()) for text in sample) <= 5_000
    assert sample == list(sample_texts(channels, lambda *a: None))
    # Even: all the training documents whose hash lies below some limit, and no others.
    ranked = sorted(map(hash_document, SPEECHES))
    first = ranked.index(min(h for h in ranked if SplitRule(0.5).side(h) == "train"))
    assert [hash_document(text) for text in sample] == ranked[first : first + len(sample)]
    prepared = prepare([source], tmp_path / "prepared", 300)
    assert not set(sample) & set(decode(prepared, "c", "valid"))


def test_a_large_vocabulary_takes_wider_shards(tmp_path: Path) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    train_tokenizer(SPEECHES, 300, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    last = next(token for token, number in vocabulary.items() if number == 299)
    vocabulary |= {f"<filler {i}>": i for i in range(299, 70_000)} | {last: 70_000}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    source = ChannelSource("general", write(tmp_path / "general.jsonl", SPEECHES))
    prepared = prepare([source], tmp_path / "prepared", str(folder))
    manifest = prepared.channels["general"]
    assert (manifest.dtype, manifest.vocab_size) == ("uint32", 70_001)
    assert open_shard(prepared.folder, "general", "train").max() == 70_000
    assert set(decode(prepared, "general", "train")) < set(SPEECHES)


def test_what_a_failed_call_left_is_not_taken_for_what_is_asked_for(
    sources: list[ChannelSource], tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    train_tokenizer(SPEECHES + CODES, 300, tmp_path / "own")
    folder, tokenizer = tmp_path / "prepared", str(tmp_path / "own")
    first = prepare(sources, folder, tokenizer)
    broken = replace(sources[1], text_field="body")
    with pytest.raises(InputError, match="no field 'body'"):
        prepare([replace(sources[0], valid_fraction=0.3), broken], folder, tokenizer)
    assert (folder / ".unfinished" / "general" / "manifest.json").exists()
    second = prepare([sources[0], replace(sources[1], valid_fraction=0.3)], folder, tokenizer)
    assert second.channels["general"] == first.channels["general"]
    assert load_prepared(folder) == second


PREPARE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from dcpt.text.prepare import prepare
from dcpt.text.sources import ChannelSource
folder, general, domain, fraction, where = sys.argv[1:]
def die(name, done, total):
    if name == where:
        os.kill(os.getpid(), signal.SIGKILL)
if where == "move":  # between the first and the second folder that is moved into place
    replace, moved = os.replace, []
    def replace_one(source, target):
        if moved and ".unfinished" in str(source) and not str(source).endswith(".partial"):
            os.kill(os.getpid(), signal.SIGKILL)
        if Path(target).parent == Path(folder):
            moved.append(target)
        replace(source, target)
    os.replace = replace_one
prepare(
    [ChannelSource("general", general, valid_fraction=float(fraction)),
     ChannelSource("domain", domain, valid_fraction=0.1)],
    Path(folder), 300, progress=die)
"""


def prepare_and_die(
    sources: list[ChannelSource], folder: Path, fraction: float, where: str
) -> None:
    arguments = [str(folder), sources[0].train, sources[1].train, str(fraction), where]
    done = subprocess.run(
        [sys.executable, "-c", PREPARE_AND_DIE, *arguments], cwd=REPOSITORY, check=False
    )
    assert done.returncode == -signal.SIGKILL


def test_a_kill_leaves_nothing_and_finished_channels_are_not_made_again(
    sources: list[ChannelSource], tmp_path: Path
) -> None:
    folder = tmp_path / "prepared"
    prepare_and_die(sources, folder, 0.02, "domain")
    assert no_trace_of(folder)
    with pytest.raises(InputError, match="no prepared text here"):
        load_prepared(folder)
    finished = (folder / ".unfinished" / "general" / "train.bin").stat().st_ino
    prepared = prepare(sources, folder, 300)
    assert (folder / "general" / "train.bin").stat().st_ino == finished
    assert prepared.channels == prepare(sources, tmp_path / "uninterrupted", 300).channels
    assert not (folder / ".unfinished").exists()


def test_a_kill_loses_nothing_that_was_prepared(
    sources: list[ChannelSource], tmp_path: Path
) -> None:
    folder = tmp_path / "prepared"
    first = prepare(sources, folder, 300)
    prepare_and_die(sources, folder, 0.3, "domain")
    assert load_prepared(folder) == first
    assert prepare(sources, folder, 300).did_nothing


def test_a_kill_between_two_moves_is_noticed_and_mended(
    sources: list[ChannelSource], tmp_path: Path
) -> None:
    folder = tmp_path / "prepared"
    prepare(sources, folder, 300)
    prepare_and_die(sources, folder, 0.3, "move")
    with pytest.raises(InputError, match="channel general is not the one that was recorded"):
        load_prepared(folder)
    changed = [replace(sources[0], valid_fraction=0.3), sources[1]]
    expected = prepare(changed, tmp_path / "uninterrupted", 300)
    assert prepare(changed, folder, 300).channels == expected.channels
    assert load_prepared(folder).channels == expected.channels


def test_a_damaged_shard_is_noticed_and_made_again(
    sources: list[ChannelSource], tmp_path: Path
) -> None:
    folder = tmp_path / "prepared"
    first = prepare(sources, folder, 300)
    shard = folder / "general" / "train.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"train\.bin: .* \(\d+ bytes where \d+ were written\)"):
        open_shard(folder, "general", "train")
    assert prepare(sources, folder, 300).channels == first.channels
    assert len(open_shard(folder, "general", "train")) == first.channels["general"].train.tokens
    with pytest.raises(InputError, match="channel absent is not prepared here"):
        open_shard(folder, "absent", "train")


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([], "channel general: .* holds no text; name another source"),
        ([" ", "\n"], "channel general: .* holds no text"),
        (["one document"], "general: its validation split has 0 tokens in 0 of 1 documents"),
        (SPEECHES[:100], "its validation split has .* and one sequence takes 257"),
    ],
)
def test_too_little_text_is_refused(tmp_path: Path, texts: list[str], says: str) -> None:
    source = ChannelSource("general", write(tmp_path / "general.jsonl", texts))
    with pytest.raises(InputError, match=says):
        prepare([source], tmp_path / "prepared", 300, sequence_tokens=256)
    assert no_trace_of(tmp_path / "prepared")


def test_a_cap_that_leaves_no_validation_text_is_named(tmp_path: Path) -> None:
    text = write(tmp_path / "general.jsonl", SPEECHES[:100])
    source = ChannelSource("general", text, valid_fraction=1e-4, max_tokens=300)
    with pytest.raises(InputError, match=r"validation split has .* had max_tokens = 300"):
        prepare([source], tmp_path / "prepared", 300, sequence_tokens=16)


def test_too_little_training_text_is_refused(tmp_path: Path) -> None:
    train, valid = write(tmp_path / "t.jsonl", SPEECHES[:2]), write(tmp_path / "v.jsonl", CODES)
    with pytest.raises(InputError, match=r"its training split has .* or shorten sequences"):
        prepare(
            [ChannelSource("general", train, valid=valid)], tmp_path / "p", 300, sequence_tokens=256
        )


def test_bad_settings_are_named_together(tmp_path: Path) -> None:
    sources = [
        ChannelSource("general", "a.jsonl"),
        ChannelSource("general", "b.jsonl", valid_fraction=2.0),
        ChannelSource("tokenizer", "c.jsonl", max_tokens=0),
        ChannelSource("../up", "d.jsonl"),
        ChannelSource("prepared.json", "e.jsonl"),
    ]
    with pytest.raises(InputError) as caught:
        prepare(sources, tmp_path, 300, workers=0)
    assert [problem.split(";")[0] for problem in caught.value.problems] == [
        "channel general: named 2 times",
        "0 workers",
        "channel general: valid_fraction is 2.0",
        "channel 'tokenizer': this name cannot be used",
        "channel tokenizer: max_tokens is 0",
        "channel '../up': this name cannot be used",
        "channel 'prepared.json': this name cannot be used",
    ]
    with pytest.raises(InputError, match="no channels to prepare"):
        prepare([], tmp_path, 300)


def test_missing_files_are_named_together(tmp_path: Path) -> None:
    sources = [
        ChannelSource("general", str(tmp_path / "a.jsonl")),
        ChannelSource("domain", write(tmp_path / "b.jsonl", CODES), valid=str(tmp_path / "c")),
    ]
    with pytest.raises(InputError) as caught:
        prepare(sources, tmp_path / "prepared", 300)
    assert [problem.split(" at ")[0] for problem in caught.value.problems] == [
        "channel general: no file",
        "channel domain, validation: no file",
    ]
    assert not (tmp_path / "prepared").exists()


def test_a_broken_file_leaves_what_was_there(sources: list[ChannelSource], tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    first = prepare(sources, folder, 300)
    Path(sources[1].train).write_bytes(b'{"text": "fine"}\n{"text": "\xff"}\n')
    with pytest.raises(InputError, match=r"domain\.jsonl: line 2: not UTF-8"):
        prepare(sources, folder, 300)
    assert load_prepared(folder) == first


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte; root may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_loses_nothing(
    sources: list[ChannelSource], small_disk: Path, tmp_path: Path
) -> None:
    folder = small_disk / "prepared"
    first = prepare(sources, folder, 300)
    larger = write(tmp_path / "larger.jsonl", [speech(i) for i in range(20_000)])
    grown = [replace(sources[0], train=larger), sources[1]]
    says = r"train\.bin: cannot be written .No space left on device.; make room"
    with pytest.raises(InputError, match=says):
        prepare(grown, folder, 300)
    assert load_prepared(folder) == first
    assert prepare(sources, folder, 300).did_nothing
    free = os.statvfs(small_disk)
    assert free.f_bavail * free.f_frsize > 200_000  # the half-written channel was removed


def test_a_read_only_disk(sources: list[ChannelSource], small_disk: Path) -> None:
    folder = small_disk / "prepared"
    prepare(sources, folder, 300)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert prepare(sources, folder, 300).did_nothing
    with pytest.raises(InputError, match=r"cannot be written .Read-only file system.; choose"):
        prepare(sources[:1], folder, 300)
    with pytest.raises(InputError, match=r"cannot be written .Read-only file system.; choose"):
        prepare(sources, small_disk / "other", 300)
