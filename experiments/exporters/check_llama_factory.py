"""Read the exported files with LLaMA-Factory, and merge their datasets. Called by ``check.py``."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from types import ModuleType

import pyarrow.compute as pc
import yaml
from corpora import SEEDS, print_result, share_of_documents

# No release of torchaudio is for torch 2.13. Text does not need it.
sys.modules["torchaudio"] = ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)

from llamafactory.data.loader import _get_merged_dataset  # noqa: E402
from llamafactory.hparams import get_train_args  # noqa: E402


def main() -> None:
    with open("llama-factory.yaml", encoding="utf-8") as file:
        content = yaml.safe_load(file)
    shares = []
    for seed in SEEDS:
        own = {"model_name_or_path": "none", "output_dir": "out", "seed": seed}
        model, data, training, finetuning, _ = get_train_args({**content, **own})
        merged = _get_merged_dataset(data.dataset, model, data, training, finetuning.stage)
        texts = pc.struct_field(pc.list_flatten(merged.data.column("_prompt")), "content")
        shares.append(share_of_documents(merged, texts))
    print_result("llamafactory", version("llamafactory"), shares)


if __name__ == "__main__":
    main()
