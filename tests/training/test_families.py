"""Open families of causal LMs as bases, with tiny random models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_runs import Made
from transformers import AutoConfig, AutoModelForCausalLM

from dcpt.training.evaluate import evaluate_model
from dcpt.training.loop import train
from dcpt.training.models import count_parameters, save_model

SHAPE = {"vocab_size": 304, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt_neox": {**SHAPE, "intermediate_size": 32, "max_position_embeddings": 32},  # Pythia
    "qwen2": {**SHAPE, "intermediate_size": 32, "num_key_value_heads": 1},
    "qwen3": {**SHAPE, "intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8},
    "llama": {**SHAPE, "intermediate_size": 32, "tie_word_embeddings": True},  # SmolLM
    "gpt2": {"vocab_size": 304, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
}
TIED = {"llama", "gpt2"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_can_be_a_base(made: Made, tmp_path: Path, family: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **FAMILIES[family]))
    # Open checkpoints are published in bfloat16 and trained in float32.
    save_model(model.bfloat16(), made.study / "data/tokenizer", tmp_path / family)
    config = Made(made.study, tmp_path / family).trunk(20, save_model=True, learning_rate=1e-2)
    train(config, made.study, stop_at_step=9)
    train(config, made.study)
    start, end = made.folder(config).points()
    assert all(end["loss"][name] < start["loss"][name] - 0.2 for name in start["loss"])
    counts = count_parameters(model)
    assert (start["n_params"], start["n_params_non_embedding"]) == (
        counts.n_params,
        counts.n_params_non_embedding,
    )
    outer = 304 * 16 * (1 if family in TIED else 2) + (32 * 16 if family == "gpt2" else 0)
    assert counts.n_params - counts.n_params_non_embedding == outer
    again = evaluate_model(made.folder(config).model, made.study / "data", ["law"], 16, 160)
    assert again["loss"]["law"] == end["loss"]["law"]
