"""Recall, false pairs, time and memory of the screen for near-duplicates.

Question: does ``dcpt prepare`` find at least 95 % of the pairs at a Jaccard similarity of 0.5 or
more, flag no pair below 0.3, and screen 1M documents of 1,000 characters within 5 minutes and 4 GB
on 2 cores?

Three parts, each printed as a table:

- ``pairs``: pairs of a training and a validation document (words drawn by Zipf's law from 50,000).
  The second document of a pair has words of the first replaced, in a block or each on its own. The
  Jaccard similarity is that of the sets of 5 words, computed here without dcpt.
- ``scale``: documents of about 1,000 characters, a twentieth of them edited copies of others: time,
  CPU time and peak memory of the whole screen, from token shards to the list of near-copies.
- ``libraries``: CPU time to sign documents with rensa, datasketch and datatrove (those that are
  installed), 256 hashes of the same shingles.

Command (10 minutes on 2 cores; ``pip install datasketch datatrove`` for the last part)::

    python experiments/benchmarks/near_duplicates.py scale pairs libraries

Result: ``near_duplicates.md`` in this folder.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from dcpt.text.near_duplicates.candidates import NONE
from dcpt.text.near_duplicates.records import DEFAULT_THRESHOLD
from dcpt.text.near_duplicates.screen import Screened, screen
from dcpt.text.near_duplicates.shingles import hash_shingles
from dcpt.text.pool import start_pool
from dcpt.text.tokenizer import Vocabulary, read_vocabulary, train_tokenizer

N_WORDS = 50_000
WORDS = 160
"""Words in a document: about 1,000 characters."""

BANDS = (
    (0.0, 0.2),
    (0.2, 0.3),
    (0.3, 0.4),
    (0.4, 0.5),
    (0.5, 0.55),
    (0.55, 0.6),
    (0.6, 0.8),
    (0.8, 1.1),
    (0.0, 0.3),
    (0.5, 1.1),
)
"""The last two are those of the question."""

Ids = NDArray[np.int64]
Found = NDArray[np.bool_]


class Language:
    """Made-up words, a tokenizer for them, and the token ids of each word."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        self.words = ["".join(rng.choice(letters, n)) for n in rng.integers(2, 10, N_WORDS)]
        chances = 1 / np.arange(1, N_WORDS + 1)
        self.cumulative = np.cumsum(chances / chances.sum())
        train_tokenizer((" " + word for word in self.words), 8192, folder)
        self.vocabulary: Vocabulary = read_vocabulary(folder)
        encoded = self.vocabulary.load().encode_batch([f" {word}" for word in self.words])
        ids = [[*encoding.ids] for encoding in encoded] + [[self.vocabulary.eos_id]]
        self.lengths = np.array([len(word) for word in ids])
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.ids = np.concatenate([np.array(word, dtype=np.uint16) for word in ids])

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Ids:
        """Draw words by Zipf's law; the commonest is one in eleven."""
        return np.searchsorted(self.cumulative, rng.random(shape))

    def write(self, words: Ids, path: Path) -> None:
        """Append documents, one a row, to a shard."""
        ends = np.full((len(words), 1), N_WORDS)
        flat = np.hstack([words, ends]).ravel()
        lengths = self.lengths[flat]
        offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        with path.open("ab") as file:
            file.write(self.ids[np.repeat(self.starts[flat], lengths) + offsets].tobytes())


def edit(
    words: Ids, share: NDArray[np.float64], scattered: bool, new: Ids, rng: np.random.Generator
) -> Ids:
    """Replace a share of the words of each document, in a block or each on its own."""
    n = words.shape[1]
    if scattered:
        replaced = rng.random(words.shape) < share[:, None]
    else:
        count = np.round(share * n).astype(int)[:, None]
        first = (rng.random((len(words), 1)) * (n - count + 1)).astype(int)
        place = np.arange(n)[None]
        replaced = (place >= first) & (place < first + count)
    return np.where(replaced, new, words)


def jaccard(first: Ids, second: Ids) -> float:
    """Jaccard similarity of the sets of 5 words."""
    a, b = (
        {tuple(row[i : i + 5]) for i in range(len(row) - 4)}
        for row in (first.tolist(), second.tolist())
    )
    return len(a & b) / len(a | b)


@contextmanager
def written(part: str) -> Iterator[Path]:
    """A folder for shards."""
    with tempfile.TemporaryDirectory(prefix=f"near-duplicates-{part}-") as folder:
        for name in ("tokenizer", "text"):
            (Path(folder) / name).mkdir()
        yield Path(folder)


def run_screen(folder: Path, language: Language, workers: int) -> Screened:
    """Screen the shards of one channel."""
    with start_pool(workers) as pool:
        return screen(
            {"text": folder / "text"},
            {"text": "uint16"},
            language.vocabulary,
            DEFAULT_THRESHOLD,
            pool,
            workers,
            lambda done, total: None,
        )


def measure_kind(n: int, workers: int, scattered: bool) -> tuple[NDArray[np.float64], Found]:
    """The similarity of each pair, and whether it was found."""
    with written("pairs") as folder:
        language, rng = Language(folder / "tokenizer"), np.random.default_rng(1)
        words = language.draw((n, WORDS), rng)
        share = rng.random(n) * (0.5 if scattered else 1.0)
        copies = edit(words, share, scattered, language.draw((n, WORDS), rng), rng)
        language.write(words, folder / "text" / "train.bin")
        language.write(copies, folder / "text" / "valid.bin")
        screened = run_screen(folder, language, workers)
    near = screened.matches.near[screened.members("text", is_valid=True), 0]
    found = near != NONE
    if (found & (near != np.arange(n))).any():
        raise RuntimeError("a document was matched with another than the one it was made of")
    similarity = [jaccard(first, second) for first, second in zip(words, copies, strict=True)]
    return np.array(similarity), found


def measure_pairs(n: int, workers: int) -> None:
    """Print which share of pairs is found, by Jaccard similarity and kind of edit."""
    kinds = [measure_kind(n, workers, scattered) for scattered in (False, True)]
    print(f"\n## Pairs: {n:,} of each kind, threshold {DEFAULT_THRESHOLD}\n")
    print("| Jaccard | replaced in a block: pairs | found | each on its own: pairs | found |")
    print("|---|---|---|---|---|")
    for low, high in BANDS:
        cells = []
        for similarity, found in kinds:
            inside = (similarity >= low) & (similarity < high)
            hits = int((found & inside).sum())
            cells.append(f"{inside.sum():,} | {100 * hits / max(inside.sum(), 1):.2f} % ({hits:,})")
        print(f"| {low} to {min(high, 1.0)} | " + " | ".join(cells) + " |")


class PeakMemory:
    """The largest memory of this process and its children, sampled twice a second."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            own = str(os.getpid())
            children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
            self.peak_bytes = max(self.peak_bytes, sum(map(resident, [own, *children])))


def resident(process: str) -> int:
    """Memory of a process in bytes; 0 if it has just ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def write_corpus(folder: Path, language: Language, n: int) -> int:
    """Write shards of n documents; returns their size in bytes."""
    rng, step = np.random.default_rng(2), 20_000
    for _ in range(0, n, step):
        words = language.draw((step, WORDS), rng)
        copies, held_out = step // 20, step // 50
        new = language.draw((copies, WORDS), rng)
        words[-copies:] = edit(words[:copies], rng.random(copies) / 2, False, new, rng)
        language.write(words[:held_out], folder / "text" / "valid.bin")
        language.write(words[held_out:], folder / "text" / "train.bin")
    return sum(path.stat().st_size for path in (folder / "text").iterdir())


def measure_scale(n: int, workers: int) -> None:
    """Print time and memory for many documents."""
    with written("scale") as folder:
        language = Language(folder / "tokenizer")
        size = write_corpus(folder, language, n)
        before = os.times()
        with PeakMemory() as memory:
            screened = run_screen(folder, language, workers)
        after = os.times()
    found = int((screened.matches.near[:, 0] != NONE).sum())
    user = (after.user - before.user) + (after.children_user - before.children_user)
    system = (after.system - before.system) + (after.children_system - before.children_system)
    print(
        f"\n## Scale\n\n{n:,} documents of {screened.text_bytes.mean():.0f} bytes, "
        f"{size / 1e6:.0f} MB of shards, {workers} workers; load {os.getloadavg()[1]:.1f}\n"
    )
    print("| wall s | user CPU s | system CPU s | peak GB | near-copies found |")
    print("|---|---|---|---|---|")
    print(
        f"| {after.elapsed - before.elapsed:.0f} | {user:.0f} | {system:.0f} | "
        f"{memory.peak_bytes / 1e9:.2f} | {found:,} |"
    )


def measure_libraries(n: int) -> None:
    """Print the CPU time that each library takes to sign documents, from hashes of shingles."""
    with written("libraries") as folder:
        language, rng = Language(folder / "tokenizer"), np.random.default_rng(3)
        texts = [" ".join(language.words[i] for i in row) for row in language.draw((n, WORDS), rng)]
        shingles, starts = hash_shingles(texts)
        parts = np.split(shingles, starts[1:-1])
        signers: dict[str, Callable[[], object]] = {
            "rensa": lambda: RMinHash.digest_matrix_from_flat_token_hashes(
                shingles, starts.astype(np.uint64), 256, 1
            ).to_rows()
        }
        with suppress(ImportError):
            from datasketch import MinHash

            empty = MinHash(256, hashfunc=int)
            signers["datasketch"] = lambda: [
                empty.copy().update_batch((part >> np.uint64(32)).tolist()) for part in parts
            ]
        with suppress(ImportError):
            from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

            config = MinhashConfig(num_buckets=64, hashes_per_bucket=4)
            # Its tokenizer of words needs spaCy; the shingles are given here.
            with mock.patch("datatrove.pipeline.dedup.minhash.load_word_tokenizer"):
                signer = MinhashDedupSignature(str(folder / "signatures"), config)
            signers["datatrove"] = lambda: [signer.get_signature(part[:, None]) for part in parts]
        print(f"\n## Libraries: {n:,} documents, one process\n")
        print("| library | CPU microseconds a document |\n|---|---|")
        for name, sign in signers.items():
            begin = time.process_time()
            sign()
            print(f"| {name} | {(time.process_time() - begin) / n * 1e6:.0f} |")
        begin = time.process_time()
        hash_shingles(texts)
        spent = (time.process_time() - begin) / n * 1e6
        print(f"| (words and their shingles, before any of them) | {spent:.0f} |")


def main() -> None:
    """Run the parts that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("parts", nargs="+", choices=["pairs", "scale", "libraries"])
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}")
    if "scale" in asked.parts:
        measure_scale(asked.documents, asked.workers)
    if "pairs" in asked.parts:
        measure_pairs(asked.pairs, asked.workers)
    if "libraries" in asked.parts:
        measure_libraries(10_000)


if __name__ == "__main__":
    main()
