"""The memory of a step, estimated from a configuration."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_runs import Made
from run_configs import run_config
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config

from dcpt.errors import InputError
from dcpt.runs.identity import RunConfig
from dcpt.training.bases import load_base
from dcpt.training.memory import can_recompute, count_from_config, estimate_memory
from dcpt.training.passes import choose_passes, fewest_gpus, fitted_to


def qwen(**fields: Any) -> Qwen2Config:
    """Configure a model of the shape of Qwen2.5-0.5B, unless fields say otherwise."""
    shape = {
        "vocab_size": 151_936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    }
    return Qwen2Config(**{**shape, **fields})


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_counted_once(tied: bool) -> None:
    config = qwen(hidden_size=64, vocab_size=500, num_hidden_layers=2, tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(config)
    n_params = sum(p.numel() for p in model.parameters())
    assert count_from_config(config) == n_params
    memory = estimate_memory(config, 512, 2)
    assert memory.weights == memory.gradients == 4 * n_params
    assert memory.moments == 8 * n_params
    assert memory.copies == 2 * n_params


def test_the_estimate_grows_with_the_micro_batch_and_shrinks_with_checkpointing() -> None:
    config = qwen()
    whole, half = (estimate_memory(config, 4096, n) for n in (8, 4))
    assert whole.activations == 2 * half.activations
    assert whole.weights == half.weights
    saving = estimate_memory(config, 4096, 8, checkpointing=True)
    assert saving.activations < whole.activations / 5
    assert whole.n_bytes - saving.n_bytes == whole.activations - saving.activations


def test_gpus_share_weights_gradients_and_moments() -> None:
    config = qwen(hidden_size=3584, num_attention_heads=28, intermediate_size=18_944)
    alone, shared = (estimate_memory(config, 4096, 1, n_gpus=n) for n in (1, 4))
    for part in ("weights", "gradients", "moments"):
        assert getattr(shared, part) == pytest.approx(getattr(alone, part) / 4, rel=1e-6)
    assert shared.activations == alone.activations


def test_activations_are_what_a_layer_keeps_for_its_backward_pass() -> None:
    """Eager code keeps more than a compiled layer, which computes some of it again."""
    shape = {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 512}
    sizes = []
    for layers in (1, 3):
        config = qwen(**shape, num_hidden_layers=layers, vocab_size=100)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = model(input_ids=torch.zeros((2, 256), dtype=torch.int64), use_cache=False)
        sizes.append(sum(kept.values()) - 4 * sum(p.numel() for p in model.parameters()))
        del result
    estimates = [
        estimate_memory(
            qwen(**shape, num_hidden_layers=n, vocab_size=100), 256, 2, dtype="float32"
        ).activations
        for n in (1, 3)
    ]
    assert 0.5 < (estimates[1] - estimates[0]) / (sizes[1] - sizes[0]) < 1.0


def test_models_that_change_their_logits_store_all_of_them() -> None:
    sizes = {}
    for capping in (None, 30.0):
        config = AutoConfig.for_model("gemma2", final_logit_softcapping=capping)
        sizes[capping] = [estimate_memory(config, 4096, n).head for n in (4, 8)]
    assert sizes[None][0] == sizes[None][1]
    assert sizes[30.0][1] - sizes[30.0][0] == 4 * 4096 * 256_000 * 6
    assert sizes[30.0][0] > sizes[None][0]


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "mistral", "qwen2_moe", "mamba"])
def test_other_families_have_an_estimate(family: str) -> None:
    config = AutoConfig.for_model(family, vocab_size=300, num_hidden_layers=2)
    memory = estimate_memory(config, 64, 1)
    assert memory.weights == 4 * count_from_config(config)
    assert 0 < memory.activations < 2**30


def run_of(batch: int, tokens: int, **recorded: Any) -> RunConfig:
    """Configure a run of some batch."""
    config = run_config(batch_sequences=batch, sequence_tokens=tokens, dtype="bfloat16")
    return config.model_copy(update={"recorded": config.recorded.model_copy(update=recorded)})


def chosen(config: RunConfig, shape: Any, gib: float) -> tuple[int, bool]:
    """The micro-batch and checkpointing that are chosen on a GPU of some memory."""
    recorded = choose_passes(config, shape, int(gib * 2**30)).recorded
    assert recorded.micro_batch_sequences is not None
    assert recorded.activation_checkpointing is not None
    return recorded.micro_batch_sequences, recorded.activation_checkpointing


def test_a_batch_that_fits_is_passed_at_once() -> None:
    shape = qwen(hidden_size=128, num_hidden_layers=4, intermediate_size=352, vocab_size=8192)
    assert chosen(run_of(32, 512), shape, 80) == (32, False)


def test_a_larger_batch_is_passed_in_equal_parts() -> None:
    n, checkpointing = chosen(run_of(120, 4096), qwen(), 80)
    assert 120 % n == 0
    assert 4 <= n < 120
    assert not checkpointing
    smaller, _ = chosen(run_of(120, 4096), qwen(), 40)
    assert smaller < n


def test_layers_are_computed_again_where_little_fits_otherwise() -> None:
    large = qwen(hidden_size=1536, num_hidden_layers=28, num_attention_heads=12)
    assert chosen(run_of(16, 8192), large, 80) == (2, False)
    n, checkpointing = chosen(run_of(16, 8192), large, 40)
    assert checkpointing
    assert n >= 1
    assert chosen(run_of(16, 8192), large, 10) == (1, True)  # nothing fits: as little as possible


def test_what_a_study_sets_is_not_chosen() -> None:
    shape = qwen()
    assert chosen(run_of(128, 4096, micro_batch_sequences=3), shape, 80) == (3, False)
    assert chosen(run_of(128, 4096, micro_batch_sequences=64), shape, 80) == (64, True)
    n, checkpointing = chosen(run_of(128, 4096, activation_checkpointing=True), shape, 80)
    assert checkpointing
    assert n > chosen(run_of(128, 4096), shape, 80)[0]


def test_layers_that_are_not_marked_are_not_computed_again() -> None:
    shape = AutoConfig.for_model("ctrl", vocab_size=300, n_embd=512, n_layer=24, n_head=4)
    assert not can_recompute(shape)
    assert can_recompute(qwen())
    assert chosen(run_of(64, 4096), shape, 3) == (1, False)  # it would be True for Qwen
    asked = run_of(64, 4096, activation_checkpointing=True)
    with pytest.raises(InputError, match=r"marks no layers of the family ctrl .* remove it"):
        choose_passes(asked, shape, 80 * 2**30)


def test_a_study_that_asks_for_what_a_cpu_cannot_do_is_told(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = made.trunk(4, activation_checkpointing=True)
    assert fitted_to("cpu", config, made.study) is config
    monkeypatch.setattr("dcpt.training.passes.can_recompute", lambda _: False)
    with pytest.raises(InputError, match="of the family llama to be computed again"):
        fitted_to("cpu", config, made.study)


def test_runs_side_by_side_share_the_memory(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, n_params = [], []

    def noted(config: RunConfig, _: Any, n_bytes: int, n_gpus: int) -> RunConfig:
        seen.append((n_bytes, n_gpus))
        return config

    def lanes_for(n: float) -> int:
        n_params.append(n)
        return 3

    gpu = SimpleNamespace(total_memory=90)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    monkeypatch.setattr("dcpt.training.passes.choose_passes", noted)
    config = made.trunk(4)
    fitted_to("cuda:0", config, made.study, 2)
    fitted_to("cuda:0", config, made.study, 1, lanes_for)
    assert seen == [(90, 2), (30, 1)]
    assert n_params == [sum(p.numel() for p in load_base(config, made.study).parameters())]
    assert fitted_to("cpu", config, made.study) is config


def test_several_gpus_hold_the_whole_state_where_it_fits() -> None:
    run, medium = run_of(120, 4096), qwen(hidden_size=1536, num_hidden_layers=28)
    alone, shared = (
        choose_passes(run, medium, 80 * 2**30),
        choose_passes(run, medium, 80 * 2**30, 2),
    )
    n = alone.recorded.micro_batch_sequences
    assert n is not None
    assert 60 % n == 0
    assert shared.recorded.micro_batch_sequences == n
    # A larger state is shared: 7B parameters take 114 GiB.
    large = qwen(hidden_size=3584, num_hidden_layers=28, num_attention_heads=28)
    large.intermediate_size = 18_944
    assert not choose_passes(run, large, 80 * 2**30, 4).recorded.activation_checkpointing


SEVEN = {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28}


@pytest.mark.parametrize(("gib", "expected"), [(139, 2), (79, 3), (40, 8)])
def test_a_run_takes_as_few_gpus_as_hold_its_base(gib: int, expected: int) -> None:
    """A model of 7.6B takes 114 GiB for weights, gradients and moments alone."""
    shape = qwen(**SEVEN, intermediate_size=18_944, tie_word_embeddings=False)
    assert fewest_gpus(run_of(16, 4096), qwen(), gib * 2**30, 8) == 1
    assert fewest_gpus(run_of(16, 4096), shape, gib * 2**30, 8) == expected
    with pytest.raises(InputError, match=r"on 1 GPU, which has .* use more GPUs or"):
        fewest_gpus(run_of(16, 4096), shape, gib * 2**30, 1)


def test_each_gpu_passes_a_part_of_the_batch() -> None:
    passes = choose_passes(run_of(32, 512), qwen(hidden_size=128, vocab_size=8192), 2**36, 4)
    assert passes.recorded.micro_batch_sequences == 8
