"""Build the exported blend with Megatron Core, and count its samples. Called by ``check.py``."""

from __future__ import annotations

import subprocess
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from corpora import BATCH_SEQUENCES, MEANS, SEEDS, STEPS, draw_lengths, print_result
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder
from megatron.core.datasets.utils import get_blend_from_list


def main() -> None:
    torch.distributed.init_process_group(
        "gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1
    )
    for name in MEANS:
        _write_tokens(name)
    words = _read_arguments()
    start = words.index("--data-path") + 1
    end = next(i for i, word in enumerate(words) if i > start and word.startswith("--"))
    blend = get_blend_from_list(words[start:end])
    sequence = int(words[words.index("--seq-length") + 1])
    shares = [_sample(blend, sequence, seed) for seed in SEEDS]
    print_result("megatron-core", version("megatron-core"), shares)


def _read_arguments() -> list[str]:
    code = 'source ./megatron.sh; printf "%s\\0" "${DCPT_ARGS[@]}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def _write_tokens(name: str) -> None:
    """Write ``<name>.bin`` and ``<name>.idx``; a token is the letter's code."""
    if Path(f"{name}.idx").exists():
        return
    builder = IndexedDatasetBuilder(f"{name}.bin", dtype=np.uint16)
    for length in draw_lengths(name):
        builder.add_document(torch.full((int(length),), ord(name[0])), [int(length)])
    builder.finalize(f"{name}.idx")


def _sample(blend: tuple[list[str], list[float]], sequence: int, seed: int) -> float:
    samples = STEPS * BATCH_SEQUENCES
    config = GPTDatasetConfig(
        random_seed=seed,
        sequence_length=sequence,
        blend=blend,
        split="1,0,0",
        path_to_cache=f"cache-{seed}",
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        tokenizer=SimpleNamespace(
            eod=0, pad=0, vocab_size=128, unique_identifiers={"class": "letters"}
        ),
    )
    build = BlendedMegatronDatasetBuilder(GPTDataset, [samples, 0, 0], lambda: True, config).build
    dataset = build()[0]
    letters: Counter[int] = Counter()
    for index in range(samples):
        of = int(dataset.dataset_index[index])
        letters[of] += sequence
    first = dataset[0]["tokens"]  # a sample holds tokens of one source
    assert len(set(first.tolist())) == 1
    law = next(i for i, of in enumerate(dataset.datasets) if "law" in of.dataset.path_prefix)
    return letters[law] / sum(letters.values())


if __name__ == "__main__":
    main()
