"""Read the exported file with ms-swift, which mixes and packs. Called by ``check.py``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from corpora import SEEDS, count_tokens, name_at_random, print_result, share_of_sequences
from letters_model import END, LAW, write_model
from swift.cli.main import parse_yaml_args
from swift.dataloader import BatchSamplerShard
from swift.pipelines.train.pretrain import SwiftPretrain

Encode = Callable[..., Any]


class Preparation(SwiftPretrain):  # type: ignore[misc]
    """The steps of ``swift pt`` up to its trainer; the model is not needed."""

    def _prepare_model_tokenizer(self) -> None:
        super()._prepare_model_tokenizer(load_model=False)

    def prepare(self) -> Any:
        """The packed dataset."""
        self.template.encode = _remember(self.template.encode)
        return self._prepare_dataset()[0]


def main() -> None:
    datasets.fingerprint.update_fingerprint = name_at_random
    datasets.disable_caching()
    write_model(Path("model"))
    words = ["ms-swift.yaml"]
    parse_yaml_args(words)
    own = "--model model --model_type llama --template dummy --output_dir out --tuner_type full"
    shares = []
    for seed in SEEDS:
        shares.append(
            _sample([*words, *own.split(), "--seed", str(seed), "--data_seed", str(seed)])
        )
        print(f"seed {seed}: {shares[-1]}", file=sys.stderr, flush=True)
    print_result("ms-swift", version("ms-swift"), shares)


def _sample(words: list[str]) -> float:
    preparation = Preparation(words)
    packed, asked = preparation.prepare(), preparation.args
    law, read = count_tokens(packed.dataset.data.column("input_ids"), law=LAW, end=END)
    rows = np.concatenate(packed.packed_idx)
    first = np.cumsum([0, *map(len, packed.packed_idx)])[:-1]
    order = BatchSamplerShard(
        len(packed), 1, asked.train_dataloader_shuffle, drop_last=False, data_seed=asked.data_seed
    )
    return share_of_sequences(
        np.add.reduceat(law[rows], first),
        np.add.reduceat(read[rows], first),
        (position for (position,) in order),
    )


def _remember(encode: Encode) -> Encode:
    """Encode each text once: law's documents are drawn 26 times each, which takes hours."""
    known: dict[str, Any] = {}

    def look_up(row: dict[str, Any], **how: Any) -> Any:
        text = row["messages"][0]["content"]
        if text not in known:
            known[text] = encode(row, **how)
        found = known[text]
        return [dict(part) for part in found] if isinstance(found, list) else dict(found)

    return look_up


if __name__ == "__main__":
    main()
