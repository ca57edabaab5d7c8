"""Load and merge the exported datasets with axolotl, and count tokens. Called by ``check.py``."""

from __future__ import annotations

from importlib.metadata import version

import datasets
import numpy as np
import pyarrow.compute as pc
import yaml
from axolotl.utils.data.shared import (
    datasets_with_name_generator,
    load_dataset_with_config,
    merge_datasets,
)
from axolotl.utils.dict import DictDefault
from axolotl.utils.schemas.config import AxolotlInputConfig
from corpora import BATCH_SEQUENCES, SEEDS, SEQUENCE_TOKENS, STEPS, name_at_random, print_result


def main() -> None:
    datasets.fingerprint.update_fingerprint = name_at_random
    with open("axolotl.yaml", encoding="utf-8") as file:
        content = yaml.safe_load(file)
    AxolotlInputConfig(**content, base_model="none")
    print_result("axolotl", version("axolotl"), [_merge({**content, "seed": s}) for s in SEEDS])


def _merge(content: dict[str, object]) -> float:
    """Share of law's tokens in the text of the run, or in its steps if there is more text."""
    config = DictDefault(content)
    parts = [
        load_dataset_with_config(entry, use_auth_token=False, streaming=False)
        for entry in datasets_with_name_generator(config.datasets)
    ]
    mixed = merge_datasets(parts, config)
    texts = mixed.data.column("text")
    order = mixed._indices.column(0).to_numpy()
    read = pc.utf8_length(texts).to_numpy().astype(np.int64)[order] + 1
    is_law = pc.starts_with(texts, "l").to_numpy()[order]
    inside = read.cumsum() <= STEPS * BATCH_SEQUENCES * SEQUENCE_TOKENS
    return float(read[inside & is_law].sum() / read[inside].sum())


if __name__ == "__main__":
    main()
