"""Two corpora of 100,000 documents whose lengths differ 60-fold, and counts of what is sampled.

A token is a letter: ``w`` in the general text (``web``), ``l`` in the domain text (``law``). The
last token of a document is the end of text, which its trainer appends. The scripts that run in a
trainer's environment import this module; it needs numpy and pyarrow alone.
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

Counts = NDArray[np.int64]


def draw_lengths(name: str, documents: int = DOCUMENTS) -> NDArray[np.int64]:
    """Tokens of every document of a corpus, at least 2, shape (documents,)."""
    rng = np.random.default_rng(sorted(MEANS).index(name))
    shape = SPREAD**-2
    drawn = rng.gamma(shape, MEANS[name] / shape, documents)
    return np.maximum(np.rint(drawn), 2).astype(np.int64)


def write_corpora(folder: Path, documents: int = DOCUMENTS) -> None:
    """Write ``web.jsonl`` and ``law.jsonl``; files that are there stay."""
    for name in MEANS:
        file = folder / f"{name}.jsonl"
        if file.exists():
            continue
        with file.open("w", encoding="utf-8") as out:
            for length in draw_lengths(name, documents):
                out.write(json.dumps({"text": name[0] * int(length - 1)}) + "\n")


def share_of_documents(mixed: Any, texts: pa.ChunkedArray) -> float:
    """Share of law's tokens in the first ``TOKENS`` of the documents of a mixed dataset.

    Args:
        mixed: A dataset whose rows were interleaved, and so are given by indices.
        texts: The texts of its table, in the table's order.
    """
    lengths = pc.utf8_length(texts).to_numpy().astype(np.int64) + 1
    is_law = pc.starts_with(texts, "l").to_numpy()
    # Reading the rows themselves takes a hundred times longer: there are up to 2.7 million.
    order = mixed._indices.column(0).to_numpy()
    drawn = lengths[order]
    read = drawn.cumsum()
    if read[-1] < TOKENS:
        raise SystemExit(f"the sampler ended after {read[-1]:,} of {TOKENS:,} tokens")
    inside = read - drawn < TOKENS
    return float(drawn[inside & is_law[order]].sum() / drawn[inside].sum())


def count_tokens(rows: pa.ChunkedArray, *, law: int, end: int) -> tuple[Counts, Counts]:
    """Tokens of law, and all tokens, of every row of ids.

    Args:
        rows: Lists of ids, in the order in which the documents were concatenated.
        law: Id of law's letter.
        end: Id of the end of text; it belongs to the source of the letter before it.
    """
    ids = pc.list_flatten(rows).to_numpy()
    is_law = np.where(ids == end, np.roll(ids, 1), ids) == law
    read = pc.list_value_length(rows).to_numpy().astype(np.int64)
    return np.add.reduceat(is_law, read.cumsum() - read, dtype=np.int64), read


def share_of_sequences(law: Counts, read: Counts, order: Iterable[int]) -> float:
    """Share of law's tokens in the sequences of the steps, in the order in which they are read.

    Args:
        law: Tokens of law in every sequence.
        read: Tokens of every sequence, padding left out.
        order: Positions of the sequences, as the trainer's sampler gives them.
    """
    order = np.fromiter(order, dtype=np.int64)[: STEPS * BATCH_SEQUENCES]
    if len(order) < STEPS * BATCH_SEQUENCES:
        raise SystemExit(f"the sampler ended after {len(order):,} sequences")
    return float(law[order].sum() / read[order].sum())


def name_at_random(*_: Any) -> str:
    """A name for a dataset of ``datasets``, at random.

    By default it is a hash of all drawn indices. That takes minutes for the 2.7 million of a seed.
    """
    return f"{np.random.default_rng().integers(2**63):016x}"


def print_result(package: str, version: str, shares: Iterable[float]) -> None:
    """Print what ``check.py`` reads: the last line of the output."""
    print(json.dumps({"package": package, "version": version, "shares": list(shares)}))
