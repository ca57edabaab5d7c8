"""Two corpora of 100,000 documents whose lengths differ 60-fold, and counts of what is sampled.

A token is a letter: ``w`` in the general text (``web``), ``l`` in the domain text (``law``). The
scripts that run in a trainer's environment import this module; it needs numpy and pyarrow alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

DOCUMENTS = 100_000
MEANS = {"web": 600, "law": 10}
SPREAD = 0.5
"""Standard deviation of the lengths over their mean, in both corpora."""

SHARE, STEPS, BATCH_SEQUENCES, SEQUENCE_TOKENS = 0.3, 1000, 256, 256
TOKENS = STEPS * BATCH_SEQUENCES * SEQUENCE_TOKENS
SEEDS = range(5)


def draw_lengths(name: str) -> NDArray[np.int64]:
    """Tokens of every document of a corpus, at least 2, shape (100,000,)."""
    rng = np.random.default_rng(sorted(MEANS).index(name))
    shape = SPREAD**-2
    drawn = rng.gamma(shape, MEANS[name] / shape, DOCUMENTS)
    return np.maximum(np.rint(drawn), 2).astype(np.int64)


def write_corpora(folder: Path) -> None:
    """Write ``web.jsonl`` and ``law.jsonl``; files that are there stay."""
    for name in MEANS:
        file = folder / f"{name}.jsonl"
        if file.exists():
            continue
        with file.open("w", encoding="utf-8") as out:
            for length in draw_lengths(name):
                out.write(json.dumps({"text": name[0] * int(length)}) + "\n")


def share_of_documents(mixed: Any, texts: pa.ChunkedArray) -> float:
    """Share of law's tokens in the first ``TOKENS`` of the documents of a mixed dataset.

    Args:
        mixed: A dataset whose rows were interleaved, and so are given by indices.
        texts: The texts of its table, in the table's order.
    """
    lengths = pc.utf8_length(texts).to_numpy().astype(np.int64)
    is_law = pc.starts_with(texts, "l").to_numpy()
    # Reading the rows themselves takes a hundred times longer: there are up to 2.7 million.
    order = mixed._indices.column(0).to_numpy()
    drawn = lengths[order]
    read = drawn.cumsum()
    if read[-1] < TOKENS:
        raise SystemExit(f"the sampler ended after {read[-1]:,} of {TOKENS:,} tokens")
    inside = read - drawn < TOKENS
    return float(drawn[inside & is_law[order]].sum() / drawn[inside].sum())


def print_result(package: str, version: str, shares: Iterable[float]) -> None:
    """Print what ``check.py`` reads: the last line of the output."""
    print(json.dumps({"package": package, "version": version, "shares": list(shares)}))
