"""How much memory and time does it take to prepare one document of 2 GB?

The document is synthetic: words with Zipf-like frequencies and lines of 12 words. It is a text
file, a record of JSON Lines, or the same compressed. A process of its own prepares it, with a
byte-level BPE of 8,000 tokens that is trained before.

    python experiments/benchmarks/long_documents.py --megabytes 2000

The result is in ``long_documents.md``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np

from dcpt.text.prepare import prepare
from dcpt.text.sources import ChannelSource
from dcpt.text.tokenizer import train_tokenizer

KINDS = ("txt", "jsonl", "jsonl.gz")
N_BLOCKS = 32


def make_blocks(n_blocks: int) -> list[str]:
    """Blocks of text of about a megabyte each."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    lengths = rng.integers(2, 12, size=50_000)
    chances = 1 / np.arange(1, len(letters) + 1)
    words = ["".join(rng.choice(letters, size=n, p=chances / chances.sum())) for n in lengths]
    frequencies = 1 / np.arange(1, len(words) + 1)
    blocks = []
    for _ in range(n_blocks):
        drawn = rng.choice(len(words), size=150_000, p=frequencies / frequencies.sum())
        lines = [" ".join(words[i] for i in drawn[at : at + 12]) for at in range(0, len(drawn), 12)]
        blocks.append("\n".join(lines) + "\n")
    return blocks


def write_document(path: Path, blocks: list[str], megabytes: int) -> None:
    """Write one document of so many megabytes."""
    is_json = ".jsonl" in path.name
    with cast(
        "IO[bytes]", gzip.open(path, "wb", 1) if path.suffix == ".gz" else path.open("wb")
    ) as file:
        file.write(b'{"id": 1, "text": "' if is_json else b"")
        for block in _repeat(blocks, megabytes * 10**6):
            file.write((json.dumps(block)[1:-1] if is_json else block).encode())
        file.write(b'"}\n' if is_json else b"")


def _repeat(blocks: list[str], n_bytes: int) -> Iterator[str]:
    rng, written = np.random.default_rng(1), 0
    while written < n_bytes:
        block = blocks[rng.integers(len(blocks))]
        written += len(block)
        yield block


def measure(path: Path, valid: Path, tokenizer: Path, workers: int) -> None:
    """Prepare a document in this process, and print time, tokens and largest memory."""
    before = time.perf_counter()
    source = ChannelSource("law", str(path), str(valid))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        prepared = prepare([source], Path(folder) / "prepared", str(tokenizer), workers=workers)
    wall_s = time.perf_counter() - before
    counts = prepared.channels["law"].train
    kilobytes = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print(
        f"{path.name:12} {workers} workers: {wall_s:6.0f} s, {counts.documents} document of "
        f"{counts.text_bytes / 1e6:,.0f} MB, {counts.tokens / 1e6:,.0f}M tokens, largest memory "
        f"{kilobytes[0] / 1e6:.2f} GB, of a worker {kilobytes[1] / 1e6:.2f} GB",
        flush=True,
    )


def main() -> None:
    """Write the documents and measure each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[2000])
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=["txt", "jsonl"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    options = parser.parse_args()
    blocks = make_blocks(N_BLOCKS)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        tokenizer, valid = folder / "tokenizer", folder / "valid.txt"
        tokenizer.mkdir()
        train_tokenizer(blocks[:8], 8000, tokenizer)
        valid.write_text(blocks[0][:10_000])
        for megabytes in options.megabytes:
            for kind in options.kinds:
                path = folder / f"{megabytes}.{kind}"
                write_document(path, blocks, megabytes)
                arguments = (path, valid, tokenizer, options.workers)
                process = context.Process(target=measure, args=arguments)
                process.start()
                process.join()
                path.unlink()


if __name__ == "__main__":
    main()
