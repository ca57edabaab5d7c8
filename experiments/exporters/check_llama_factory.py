"""Read the exported files with LLaMA-Factory, which mixes and packs. Called by ``check.py``."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import yaml
from corpora import SEEDS, count_tokens, name_at_random, print_result, share_of_sequences
from letters_model import END, LAW, write_model
from torch import nn
from without_torchaudio import allow_missing_torchaudio

allow_missing_torchaudio()

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.hparams import get_train_args  # noqa: E402
from llamafactory.model import load_tokenizer  # noqa: E402
from llamafactory.train.pt.trainer import CustomTrainer  # noqa: E402


class Remembered:
    """A tokenizer that encodes each text once: law's documents are drawn 26 times each."""

    def __init__(self, tokenizer: Any) -> None:
        self.eos_token, self.decode, self.tokenizer = "<end>", tokenizer.decode, tokenizer
        self.known: dict[str, list[int]] = {}

    def __call__(self, texts: list[str], **how: Any) -> dict[str, list[list[int]]]:
        """Ids of the texts."""
        new = [text for text in set(texts) if text not in self.known]
        if new:
            self.known.update(zip(new, self.tokenizer(new, **how)["input_ids"], strict=True))
        return {"input_ids": [self.known[text] for text in texts]}


def main() -> None:
    datasets.fingerprint.update_fingerprint = name_at_random
    datasets.disable_caching()
    write_model(Path("model"))
    with open("llama-factory.yaml", encoding="utf-8") as file:
        content = yaml.safe_load(file)
    shares = []
    for seed in SEEDS:
        shares.append(_sample({**content, "seed": seed}))
        print(f"seed {seed}: {shares[-1]}", file=sys.stderr, flush=True)
    print_result("llamafactory", version("llamafactory"), shares)


def _sample(content: dict[str, Any]) -> float:
    """The steps of ``run_pt`` up to its trainer; the model is not needed."""
    content |= {"model_name_or_path": "model", "output_dir": "out"}
    model, data, training, finetuning, _ = get_train_args(content)
    loaded = load_tokenizer(model)
    template = get_template_and_fix_tokenizer(loaded["tokenizer"], data)
    loaded["tokenizer"] = Remembered(loaded["tokenizer"])
    found = get_dataset(template, model, data, training, stage=finetuning.stage, **loaded)
    trainer = CustomTrainer(
        finetuning, None, model=nn.Linear(1, 1), args=training, tokenizer=None, **found
    )
    law, read = count_tokens(found["train_dataset"].data.column("input_ids"), law=LAW, end=END)
    return share_of_sequences(law, read, trainer._get_train_sampler())


if __name__ == "__main__":
    main()
