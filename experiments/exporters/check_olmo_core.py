"""Build the exported mixture with OLMo-core, and read its instances. Called by ``check.py``."""

from __future__ import annotations

import runpy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from corpora import MEANS, SEEDS, draw_lengths, print_result
from olmo_core.data import NumpyFSLDatasetConfig, TokenizerConfig


def main() -> None:
    for name in MEANS:
        _write_tokens(name)
    module = runpy.run_path("olmo-core.py")
    shares = []
    for seed in SEEDS:
        config = NumpyFSLDatasetConfig.from_src_mix(
            replace(module["mixture"], seed=seed),
            tokenizer=TokenizerConfig(vocab_size=128, eos_token_id=0, pad_token_id=0),
            sequence_length=module["SEQUENCE_TOKENS"],
            work_dir=f"work-{seed}",
        )
        dataset = config.build()
        dataset.prepare()
        sizes = np.array([end - start for start, end in dataset.offsets])
        is_law = np.array([Path(path).stem == "law" for path in dataset.paths])
        for start, _ in dataset.offsets[::5]:  # an instance is cut from one source
            letter = ord("l" if is_law[[s for s, _ in dataset.offsets].index(start)] else "w")
            assert set(dataset[start]["input_ids"].tolist()) <= {0, letter}
        shares.append(float(sizes[is_law].sum() / sizes.sum()))
    print_result("ai2-olmo-core", version("ai2-olmo-core"), shares)


def _write_tokens(name: str) -> None:
    """Write ``<name>.npy`` as OLMo-core reads it: ids alone, 0 behind each document."""
    file, lengths = Path(f"{name}.npy"), draw_lengths(name)
    if not file.exists():
        ids = np.full(int(lengths.sum()), ord(name[0]), dtype=np.uint8)
        ids[np.cumsum(lengths) - 1] = 0
        ids.tofile(file)


if __name__ == "__main__":
    main()
