"""A study that trains in seconds, on synthetic text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def write_text(path: Path, words: str, documents: int, seed: int) -> None:
    """Write documents of random sentences over a few words, as JSON Lines."""
    rng, vocabulary = np.random.default_rng(seed), words.split()
    # Zipf-like probabilities, so that there is something to learn.
    chances = 1 / np.arange(1, len(vocabulary) + 1)
    with path.open("w", encoding="utf-8") as out:
        for _ in range(documents):
            drawn = rng.choice(vocabulary, size=120, p=chances / chances.sum())
            out.write(json.dumps({"text": " ".join(drawn)}) + "\n")


STUDY = """
name: tiny
channels:
  - {name: en, side: general, train: general.jsonl, valid_fraction: 10%}
  - {name: law, side: domain, train: domain.jsonl, valid_fraction: 10%}
tokenizer: 300
bases:
  ladder:
    tokens: 8192
    learning_rate: 1e-2
    sizes:
      a: {width: 16, layers: 1, heads: 1}
      b: {width: 32, layers: 1, heads: 2}
      big: {width: 48, layers: 1, heads: 2}
grid:
  - {bases: [a, b], ratios: [0.25, 0.5, 0.75], learning_rates: [3e-3]}
tokens: 5120
branches: {decay: 20%}
training: {batch_sequences: 8, sequence_tokens: 32, warmup: 5%}
evaluation: {tokens: 1024, points_per_doubling: 1, first_tokens: 1024}
target: {base: big, tokens: 6144, limit: +20%}
"""


def write_tiny_study(folder: Path) -> Path:
    """Write the study file and its two texts; returns the file."""
    general = "the of and to a in house river people law state union year work peace war man"
    domain = "fever bone tooth lung other unspecified initial encounter left right acute chronic"
    write_text(folder / "general.jsonl", general, 150, seed=1)
    write_text(folder / "domain.jsonl", domain, 150, seed=2)
    study = folder / "study.yaml"
    study.write_text(STUDY, encoding="utf-8")
    return study
