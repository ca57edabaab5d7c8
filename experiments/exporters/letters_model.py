"""A model and a tokenizer of three tokens, for trainers that load both before they sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END, WEB, LAW = range(3)
"""Ids of the end of text, and of the letters of the two corpora."""


def write_model(folder: Path) -> None:
    """Save a Llama of 1,000 parameters and a tokenizer whose tokens are letters."""
    letters = Tokenizer(WordLevel({"<end>": END, "w": WEB, "l": LAW}, unk_token="<end>"))
    letters.pre_tokenizer = Split(Regex("."), "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters, eos_token="<end>", pad_token="<end>"
    )
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=3,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        eos_token_id=END,
        pad_token_id=END,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def print_history(package: str, version: str, checkpoint: Path) -> None:
    """Print the rates and losses in a checkpoint's ``trainer_state.json``, as the last line."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    logged = [entry for entry in state["log_history"] if "loss" in entry]
    found: dict[str, Any] = {"package": package, "version": version}
    found["rates"] = [entry["learning_rate"] for entry in logged]
    found["losses"] = [entry["loss"] for entry in logged]
    print(json.dumps(found))
