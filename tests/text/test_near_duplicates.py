"""The screen is compared with sets of words in plain Python, on pairs of known similarity."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_text import make_old

from dcpt.errors import InputError
from dcpt.text.manifest import Prepared, load_prepared
from dcpt.text.near_duplicates.candidates import NONE, estimate, match, pair_up
from dcpt.text.near_duplicates.documents import Shard, find_documents
from dcpt.text.near_duplicates.records import format_share
from dcpt.text.near_duplicates.shingles import distinct_shingles, measure_similarity, sign
from dcpt.text.prepare import prepare
from dcpt.text.shard_files import open_evaluated, open_shard
from dcpt.text.sources import ChannelSource
from dcpt.text.tokenizer import train_tokenizer

REPOSITORY = Path(__file__).parents[2]
WORDS = [f"w{i}" for i in range(2000)]


def draw(n: int, seed: int, words: int = 160) -> list[list[str]]:
    """Documents of random words."""
    rng = np.random.default_rng(seed)
    return [[WORDS[i] for i in row] for row in rng.integers(0, len(WORDS), (n, words))]


def replace_words(words: list[str], count: int, scattered: bool, seed: int) -> list[str]:
    """Replace words by new ones, in a block or each on its own."""
    rng = np.random.default_rng(seed)
    begin = rng.integers(0, len(words) - count + 1)
    where = rng.permutation(len(words))[:count] if scattered else range(begin, begin + count)
    return [f"new{seed}x{i}" if i in set(where) else word for i, word in enumerate(words)]


def jaccard(first: str, second: str) -> float:
    """Jaccard similarity of the sets of 5 words, by the definition."""
    sets = []
    for text in (first, second):
        words = text.lower().split()
        sets.append({" ".join(words[i : i + 5]) for i in range(len(words) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def similarity(first: str, second: str) -> float:
    return measure_similarity(*distinct_shingles([first, second]))


def test_the_similarity_is_that_of_sets_of_five_words() -> None:
    for seed, words in enumerate(draw(20, seed=1)):
        first, second = " ".join(words), " ".join(replace_words(words, 3 * seed, True, seed))
        assert similarity(first, second) == pytest.approx(jaccard(first, second), abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("The court held, in 1987: no.", "the  COURT held\nin 1987 no", 1.0),
        ("a b c d e f", "a b c d e g", 1 / 3),
        ("two words", "two words", 1.0),
        ("two words", "two other", 0.0),
        ("-----", "-----", 1.0),
        ("-----", "=====", 0.0),
        ("法院在一九八七年裁定", "法院在一九八七年裁決", 5 / 7),  # six runs of five characters each
    ],
)
def test_case_and_punctuation_do_not_count(first: str, second: str, expected: float) -> None:
    assert similarity(first, second) == pytest.approx(expected)


def test_no_shingle_spans_two_texts() -> None:
    alone = distinct_shingles(["a b c d e f"])[0]
    assert distinct_shingles(["x y", "a b c d e f", "z"])[1].tolist() == alone.tolist()


def test_the_estimate_is_near_the_similarity() -> None:
    texts = [" ".join(words) for words in draw(200, seed=2)]
    edited = [" ".join(replace_words(text.split(), 30, False, i)) for i, text in enumerate(texts)]
    estimated = estimate(sign([*texts, *edited]), np.arange(200), np.arange(200) + 200)
    measured = np.array([jaccard(a, b) for a, b in zip(texts, edited, strict=True)])
    assert abs((estimated - measured).mean()) < 0.01
    assert (estimated - measured).std() < 0.04


def test_a_document_is_paired_with_the_last_training_document_before_it() -> None:
    keys = np.array([7, 5, 7, 7, 5, 9, 7], dtype=np.uint32)
    trained = np.array([0, 0, 0, 1, NONE, NONE, NONE], dtype=np.int8)
    found = [
        (channel, later.tolist(), earlier.tolist())
        for channel, later, earlier in pair_up(keys, trained, 2)
    ]
    assert found == [(0, [4, 2, 3, 6], [1, 0, 2, 2]), (1, [6], [3])]
    assert [len(later) for _, later, _ in pair_up(keys[:2], trained[:2], 2)] == [0, 0]


@pytest.mark.parametrize("scattered", [False, True])
def test_pairs_from_a_half_are_found_and_none_below_three_tenths(scattered: bool) -> None:
    most = 60 if scattered else 110
    texts = [" ".join(words) for words in draw(600, seed=3)]
    edited = [
        " ".join(replace_words(text.split(), i % most, scattered, i))
        for i, text in enumerate(texts)
    ]
    sets = distinct_shingles([*texts, *edited])
    matches = match(
        sign([*texts, *edited]),
        np.repeat(np.array([0, NONE], dtype=np.int8), 600),
        1,
        0.4,
        lambda first, second: np.array(
            [measure_similarity(sets[a], sets[b]) for a, b in zip(first, second, strict=True)]
        ),
        lambda bands: None,
    )
    near = matches.near[600:, 0]
    assert set(near.tolist()) <= {NONE, *range(600)}
    assert (near[near != NONE] == np.flatnonzero(near != NONE)).all()
    known = np.array([jaccard(a, b) for a, b in zip(texts, edited, strict=True)])
    assert (known >= 0.5).sum() > 100
    assert (near != NONE)[known >= 0.5].mean() >= 0.98
    assert (known < 0.3).sum() > 50
    assert not (near != NONE)[known < 0.3].any()
    assert not (near != NONE)[known < 0.4 - 1e-9].any()
    assert (matches.near[:600] == NONE).all()


def test_long_documents_are_parted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcpt.text.near_duplicates.documents.LONGEST_TOKENS", 4)
    np.array([1, 2, 0, *range(1, 10), 0, 5], dtype="<u2").tofile(tmp_path / "train.bin")
    (tmp_path / "valid.bin").touch()
    shards = tuple(Shard(tmp_path / f"{split}.bin", "uint16") for split in ("train", "valid"))
    found = find_documents(shards, eos_id=0)
    assert found.start.tolist() == [0, 3, 7, 11, 13]
    assert found.end.tolist() == [3, 7, 11, 13, 14]
    assert found.number.tolist() == [0, 1, 1, 1, 2]
    assert found.shard.tolist() == [0] * 5


def test_a_small_share_is_not_shown_as_none() -> None:
    assert format_share(17, 100) == "17 of 100 (17 %)"
    assert format_share(3, 200) == "3 of 200 (1.5 %)"
    assert format_share(3, 1_000_000) == "3 of 1,000,000 (0.0003 %)"


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


class Corpus:
    """Two channels with near-copies, whose tokenizer is trained once.

    ``law``: 60 training documents, of which the last 10 are near-copies of the first 10, and 20
    validation documents, of which the first 4 have near-copies in it and the next 3 in ``en``.
    ``en``: 50 training documents, of which the last 5 are near-copies of training documents of
    ``law``, and 10 validation documents.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        law, en, held = (
            [" ".join(words) for words in draw(n, seed)] for n, seed in ((50, 4), (45, 5), (23, 6))
        )
        self.law = [*law, *(self.edit(text, 7) for text in law[:10])]
        self.en = [*en, *(self.edit(text, 8) for text in law[20:25])]
        self.held = [
            *(self.edit(text, 9) for text in law[30:34]),
            *(self.edit(text, 9) for text in en[:3]),
            *held[:13],
        ]
        (folder / "tokenizer").mkdir()
        train_tokenizer([*self.law, *self.en, *self.held], 400, folder / "tokenizer")
        texts = {"en": self.en, "v": held[13:], "law": self.law, "held": self.held}
        path = {name: write(folder / f"{name}.jsonl", texts[name]) for name in texts}
        self.sources = [
            ChannelSource("en", path["en"], path["v"]),
            ChannelSource("law", path["law"], path["held"]),
        ]

    @staticmethod
    def edit(text: str, seed: int) -> str:
        """A near-copy at a Jaccard similarity of 0.7, in capitals."""
        return " ".join(replace_words(text.split(), 20, False, seed)).upper()

    def prepare(self, name: str = "prepared", **how: object) -> Prepared:
        tokenizer = str(self.folder / "tokenizer")
        return prepare(self.sources, self.folder / name, tokenizer, **how)  # type: ignore[arg-type]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


def test_near_copies_are_left_out_counted_and_named(corpus: Corpus) -> None:
    prepared = corpus.prepare()
    found = prepared.near_duplicates
    assert found is not None
    counts = {(f.channel, f.split, f.trained): (f.documents, f.of) for f in found.found}
    assert counts == {
        ("law", "train", "en"): (5, 60),
        ("law", "train", "law"): (10, 60),
        ("law", "valid", "law"): (4, 20),
        ("law", "valid", "en"): (3, 20),
    }
    assert (found.clean["law"].left_out, found.clean["law"].documents) == (7, 13)
    example = next(f for f in found.found if f.split == "valid" and f.trained == "law").examples[0]
    assert example.document.endswith("held.jsonl: line 1")
    assert example.near_copy.endswith("law.jsonl: line 31")
    assert example.similarity == pytest.approx(
        jaccard(corpus.held[0].lower(), corpus.law[30]), abs=0.1
    )
    said = next(line for line in prepared.warnings if "4 of 20" in line)
    assert re.match(
        r"channel law: 4 of 20 \(20 %\) validation documents have a near-copy in its training "
        r"text and are left out of its losses \(such as .*held\.jsonl: line 1 and "
        r".*law\.jsonl: line 31, Jaccard 0\.\d+\)",
        said,
    )


def test_the_evaluated_text_is_what_is_left(corpus: Corpus) -> None:
    prepared = corpus.prepare()
    complete = np.asarray(open_shard(prepared.folder, "law", "valid"))
    clean = np.asarray(open_evaluated(prepared, "law"))
    ends = np.flatnonzero(complete == prepared.channels["law"].eos_id) + 1
    assert clean.tolist() == complete[ends[6] :].tolist()
    counts = prepared.evaluated("law")
    assert counts.text_bytes == sum(len(text.encode()) for text in corpus.held[7:])
    assert counts.tokens == len(clean)
    untouched = prepared.channels["en"].valid
    assert prepared.evaluated("en") is untouched
    assert (
        open_evaluated(prepared, "en").tolist()
        == open_shard(prepared.folder, "en", "valid").tolist()
    )


def test_near_copies_in_training_text_count_once(corpus: Corpus) -> None:
    prepared = corpus.prepare()
    ids = np.asarray(open_shard(prepared.folder, "law", "train"))
    ends = np.flatnonzero(ids == prepared.channels["law"].eos_id) + 1
    assert prepared.unique_tokens("law") == ends[49]
    assert prepared.unique_tokens("en") == prepared.channels["en"].train.tokens
    off = corpus.prepare("off", near_duplicates=False)
    assert off.unique_tokens("law") == len(ids)


def test_repeated_documents_are_near_copies_too(corpus: Corpus) -> None:
    write(corpus.folder / "law.jsonl", corpus.law[:20] * 6)
    prepared = corpus.prepare()
    manifest = prepared.channels["law"]
    assert prepared.unique_tokens("law") == manifest.train.unique_tokens
    assert prepared.unique_tokens("law") * 6 == manifest.train.tokens
    (said,) = [line for line in prepared.warnings if "training documents" in line]
    assert "100 of 120 (83 %) training documents repeat earlier ones or nearly so (100 word" in said


def test_several_processes_find_the_same(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = corpus.prepare("one")
    monkeypatch.setattr("dcpt.text.near_duplicates.documents.BATCH_TOKENS", 1000)
    assert corpus.prepare("two", workers=2).near_duplicates == alone.near_duplicates


def test_a_second_call_does_not_screen_again(corpus: Corpus) -> None:
    first = corpus.prepare()
    worked: list[str] = []
    again = corpus.prepare(progress=lambda name, done, total: worked.append(name))
    assert again.did_nothing
    assert not worked
    assert again.near_duplicates == first.near_duplicates
    other = corpus.prepare(near_duplicates=0.9, progress=lambda name, *_: worked.append(name))
    assert set(worked) == {"near-duplicates"}
    assert other.near_duplicates is not None
    assert not other.near_duplicates.clean
    assert not list((other.folder / "_clean").rglob("*.bin"))
    assert corpus.prepare(near_duplicates=0.9).did_nothing


def test_the_screen_can_be_switched_off(corpus: Corpus) -> None:
    prepared = corpus.prepare(near_duplicates=False)
    assert prepared.evaluated("law") == prepared.channels["law"].valid
    assert prepared.warnings == ()
    assert corpus.prepare(near_duplicates=False).did_nothing
    assert not corpus.prepare().did_nothing


def test_what_an_earlier_version_prepared_is_kept(corpus: Corpus) -> None:
    folder = corpus.prepare(near_duplicates=False).folder
    make_old(folder)
    kept = corpus.prepare()
    assert kept.did_nothing
    assert kept.evaluated("law") == kept.channels["law"].valid
    assert any("set near_duplicates: 0.4 to screen" in line for line in kept.warnings)
    shards = {name: m.model_dump() for name, m in kept.channels.items()}
    (folder / "law" / "train.bin").write_bytes(b"damaged")
    mended = corpus.prepare()
    assert not mended.did_nothing
    assert mended.near_duplicates is None
    assert mended.evaluated("law") == kept.evaluated("law")
    screened = corpus.prepare(near_duplicates=0.4)
    assert {name: m.model_dump() for name, m in screened.channels.items()} == shards
    assert screened.evaluated("law") != screened.channels["law"].valid


def test_a_damaged_clean_text_is_noticed_and_written_again(corpus: Corpus) -> None:
    prepared = corpus.prepare()
    shard = prepared.folder / "_clean" / "law" / "valid.bin"
    content = shard.read_bytes()
    shard.write_bytes(content[:-2] + b"\1\0")
    with pytest.raises(InputError, match=r"_clean/law/valid\.bin: .*not the one in prepared\.json"):
        open_evaluated(load_prepared(prepared.folder), "law")
    assert not corpus.prepare().did_nothing
    assert shard.read_bytes() == content


def test_validation_text_of_near_copies_alone_is_refused(corpus: Corpus) -> None:
    write(corpus.folder / "held.jsonl", corpus.held[:4])
    with pytest.raises(InputError, match="channel law: 4 of 4 validation documents have near-cop"):
        corpus.prepare()
    assert corpus.prepare(near_duplicates=False).channels["law"].valid.documents == 4


def test_a_kill_during_the_screen_loses_nothing(corpus: Corpus) -> None:
    first = corpus.prepare()
    write(corpus.folder / "law.jsonl", corpus.law[:40])
    code = f"""
import os, signal
from pathlib import Path
from dcpt.text.prepare import prepare
from dcpt.text.sources import ChannelSource
def die(name, done, total):
    if name == "near-duplicates":
        os.kill(os.getpid(), signal.SIGKILL)
folder = Path({str(corpus.folder)!r})
prepare({corpus.sources!r}, folder / "prepared", str(folder / "tokenizer"), progress=die)
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert load_prepared(first.folder) == first
    made: list[str] = []
    corpus.prepare(progress=lambda name, *_: made.append(name))
    assert set(made) == {"near-duplicates"}
