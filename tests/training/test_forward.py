"""Forward passes of every kind of model are compared with the models' own losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from made_runs import ARCHITECTURE
from torch import nn
from torch.nn import functional

from dcpt.errors import InputError
from dcpt.training.forward import document_positions, forward_of, weights_of
from dcpt.training.llama import MOST_LAYERS, fused_hidden, is_fusible, rotary_tables
from dcpt.training.models import build_llama

SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def make(kind: str, **fields: Any) -> Any:
    """A model of a kind with random weights, biases and norms included."""
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **fields})
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


MODELS = {
    "llama": lambda: make("Llama"),
    "llama, one head for all, tied": lambda: make("Llama", tie_word_embeddings=True),
    "qwen2": lambda: make("Qwen2"),
    "qwen3": lambda: make("Qwen3", head_dim=8),
    "gpt-neox": lambda: make("GPTNeoX", hidden_dropout=0.0, attention_dropout=0.0),
    "logits are scaled": lambda: make("Cohere", logit_scale=0.3),
    "logits are capped": lambda: make("Gemma2", head_dim=8, final_logit_softcapping=2.0),
    "the head has a bias": lambda: make("Phi"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_losses_and_gradients_are_the_models_own(kind: str) -> None:
    model = MODELS[kind]()
    tokens = torch.randint(97, (3, 17))
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    expected = functional.cross_entropy(
        logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
    )
    expected.mean().backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    mean, losses = forward_of(model, "float32").losses(weights_of(model), tokens)
    torch.testing.assert_close(losses.flatten(), expected.detach())
    mean.backward()
    assert grads
    for name, parameter in model.named_parameters():
        if name in grads:
            torch.testing.assert_close(parameter.grad, grads[name], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", [*MODELS, "dropout"])
def test_layers_that_are_computed_again_have_the_same_losses_and_gradients(kind: str) -> None:
    make_model = {**MODELS, "dropout": lambda: make("GPTNeoX", hidden_dropout=0.3)}[kind]
    model = make_model()
    forward, weights = forward_of(model, "float32"), weights_of(model)
    assert forward.can_checkpoint
    tokens = torch.randint(97, (3, 17))
    found, kept = [], []
    for checkpointing in (False, True):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: (sizes.append(tensor.nbytes), tensor)[1], lambda t: t
        ):
            torch.manual_seed(3)
            mean, losses = forward.losses(
                weights, tokens, training=True, checkpointing=checkpointing
            )
        mean.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([losses, *grads])
        kept.append(sum(sizes))
        model.zero_grad(set_to_none=True)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Mistral", "GPTNeoX", "Olmo2", "SmolLM3"])
def test_concatenated_text_is_attended_without_a_mask(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast kernels of a GPU take none, and a mask of 8,192 tokens has 67 million entries."""
    attend, masks = functional.scaled_dot_product_attention, []

    def watched(*tensors: torch.Tensor, attn_mask: Any = None, **how: Any) -> torch.Tensor:
        masks.append(attn_mask)
        assert how["is_causal"]
        return attend(*tensors, attn_mask=attn_mask, **how)

    model = make(kind)
    forward = forward_of(model, "float32")
    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    forward.losses(weights_of(model), torch.randint(97, (2, 33)), training=True)
    assert masks == [None] * 2


def test_stored_logits_are_few_in_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["logits are capped"]()
    forward, weights = forward_of(model, "float32"), weights_of(model)
    tokens = torch.randint(97, (5, 17))
    expected = forward.losses(weights, tokens)
    calls, call = [], forward._call
    monkeypatch.setattr(
        forward, "_call", lambda weights, ids: (calls.append(len(ids)), call(weights, ids))[1]
    )
    monkeypatch.setattr("dcpt.training.forward.STORED_LOGITS", 2 * 16 * 97)
    with torch.no_grad():
        found = forward.losses(weights, tokens)
    assert calls == [2, 2, 1]
    torch.testing.assert_close(found, tuple(x.detach() for x in expected))


def test_models_of_one_shape_share_a_forward_pass() -> None:
    first_model, second_model = build_llama(ARCHITECTURE, seed=1), build_llama(ARCHITECTURE, seed=2)
    forward = forward_of(first_model, "float32")
    assert forward_of(second_model, "float32") is forward
    assert forward_of(first_model, "bfloat16") is not forward
    wider = ARCHITECTURE.model_copy(update={"width": 32})
    assert forward_of(build_llama(wider), "float32") is not forward
    tokens = torch.arange(34).reshape(2, 17)
    loss_before = forward.losses(weights_of(first_model), tokens)[1]
    assert not torch.equal(forward.losses(weights_of(second_model), tokens)[1], loss_before)
    assert torch.equal(forward.losses(weights_of(first_model), tokens)[1], loss_before)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("Qwen2", {}),
        ("Qwen3", {"head_dim": 8}),
        ("Qwen3", {"head_dim": 16}),
        ("Mistral", {"sliding_window": None}),
        ("Llama", {"num_key_value_heads": 4}),
        ("Llama", {"num_key_value_heads": 2}),
        ("Llama", {"pad_token_id": 5}),
        ("Llama", {"head_dim": 16, "tie_word_embeddings": True}),
        ("Llama", {"num_hidden_layers": MOST_LAYERS + 1}),  # pieces of two lengths
        (
            "Llama",
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 10_000.0,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 16,
                }
            },
        ),
    ],
)
def test_fused_products_are_those_of_transformers(
    kind: str, fields: dict[str, Any], checkpointing: bool
) -> None:
    model = make(kind, **fields)
    assert is_fusible(model)
    ids, weights = torch.randint(97, (2, 24)), weights_of(model)
    tables = rotary_tables(weights["model.rotary_emb.inv_freq"], 24)
    found = fused_hidden(
        model.config, weights, ids, tables, torch.float32, checkpointing=checkpointing
    )
    expected = model.model(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    weight = torch.randn_like(found)
    (found * weight).sum().backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    (expected * weight).sum().backward()
    assert len(grads) >= 2 + 2 * 9
    for name, parameter in model.named_parameters():
        if name in grads:
            torch.testing.assert_close(grads[name], parameter.grad, atol=1e-3, rtol=1e-3)


def test_what_the_fused_products_leave_out_is_left_to_transformers() -> None:
    yarn = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    for fields in (
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"attention_dropout": 0.1},
        {"rope_parameters": yarn},
    ):
        assert not is_fusible(make("Llama", **fields))
    windows = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    assert not is_fusible(make("Qwen2", **windows))
    assert not is_fusible(make("Mistral", sliding_window=8))
    assert not is_fusible(make("Gemma2", head_dim=8))


def test_only_what_is_the_same_every_time_is_recorded() -> None:
    assert forward_of(make("Llama"), "float32").is_static
    noisy = forward_of(make("GPTNeoX", hidden_dropout=0.1), "float32")
    assert noisy.draws
    assert not noisy.is_static
    # No separate module shows these.
    assert forward_of(make("Qwen2", attention_dropout=0.1), "float32").draws
    experts = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
    routed = make("Qwen2Moe", num_experts=4, num_experts_per_tok=2, **experts)
    assert not forward_of(routed, "float32").is_static
    dynamic = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    assert not forward_of(make("Llama", rope_parameters=dynamic), "float32").is_static


def test_dropout_is_on_in_training_alone() -> None:
    model = make("GPTNeoX", hidden_dropout=0.5)
    forward, weights = forward_of(model, "float32"), weights_of(model)
    tokens = torch.arange(34).reshape(2, 17)
    _, sober = forward.losses(weights, tokens)
    _, drawn = forward.losses(weights, tokens, training=True)
    assert (drawn - sober).abs().max() > 0.01
    assert torch.equal(forward.losses(weights, tokens)[1], sober)


def test_a_head_that_is_not_tied_after_all_is_its_own() -> None:
    tied = make("Llama", tie_word_embeddings=True)
    apart = make("Llama", tie_word_embeddings=True)
    apart.lm_head.weight = nn.Parameter(torch.randn_like(apart.lm_head.weight))
    tokens = torch.arange(34).reshape(2, 17)
    for model in (tied, apart):
        _, losses = forward_of(model, "float32").losses(weights_of(model), tokens)
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        expected = functional.cross_entropy(
            logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
        )
        torch.testing.assert_close(losses.flatten(), expected.detach(), atol=1e-4, rtol=1e-4)


def test_a_model_that_cannot_keep_documents_apart_is_refused() -> None:
    from transformers import OPTConfig, OPTForCausalLM

    shape = OPTConfig(
        vocab_size=97,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        word_embed_proj_dim=16,
        max_position_embeddings=64,
        dropout=0.0,
    )
    torch.manual_seed(0)
    model = OPTForCausalLM(shape)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    with pytest.raises(InputError, match="documents: a OPTForCausalLM lets tokens attend"):
        forward_of(model, "float32", border_id=3)
    forward_of(model, "float32")


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gpt-neox", "logits are scaled"])
def test_documents_are_read_as_if_each_stood_alone(kind: str) -> None:
    model, border = MODELS[kind](), 96
    lengths = [9, 1, 5, 9]
    documents = [torch.randint(96, (n,)) for n in lengths]
    packed = torch.cat([torch.cat([d, torch.tensor([border])]) for d in documents])
    tokens = packed[None, :25]  # the last document is cut off
    mean, losses = forward_of(model, "float32", border).losses(weights_of(model), tokens)
    mean.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    alone, start = [], 0
    for n in lengths:
        stop = min(start + n + 1, 24)
        logits = model(input_ids=tokens[:, start:stop], use_cache=False).logits[0]
        targets = tokens[0, start + 1 : stop + 1]
        alone.append(functional.cross_entropy(logits, targets, reduction="none"))
        start = stop
    expected = torch.cat(alone)
    torch.testing.assert_close(losses[0], expected.detach(), atol=1e-5, rtol=1e-5)
    expected.mean().backward()
    for name, parameter in model.named_parameters():
        if name in grads:
            torch.testing.assert_close(parameter.grad, grads[name], atol=1e-5, rtol=1e-3)
    _, mixed = forward_of(model, "float32").losses(weights_of(model), tokens)
    torch.testing.assert_close(mixed[0, :10], losses[0, :10], atol=1e-4, rtol=1e-4)
    assert (mixed[0, 12:] - losses[0, 12:]).abs().max() > 1e-2


@pytest.mark.parametrize("heads", [4, 2])
def test_fused_products_keep_documents_apart(heads: int) -> None:
    model, border = make("Llama", num_key_value_heads=heads), 96
    weights, ids = weights_of(model), torch.randint(96, (2, 24))
    ids[0, [5, 6, 17]] = border
    ids[1, 23] = border
    tables = rotary_tables(weights["model.rotary_emb.inv_freq"], 24)
    positions = document_positions(ids, border)
    found = fused_hidden(model.config, weights, ids, tables, torch.float32, positions)
    expected = model.model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    joined = fused_hidden(model.config, weights, ids, tables, torch.float32)
    torch.testing.assert_close(found[0, :6], joined[0, :6], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], joined[1], atol=1e-5, rtol=1e-4)
    assert (found[0, 7:] - joined[0, 7:]).abs().max() > 1e-2


def test_positions_begin_behind_each_border() -> None:
    ids = torch.tensor([[3, 9, 9, 4, 5, 9, 1], [9, 1, 2, 3, 4, 5, 6]])
    assert document_positions(ids, 9).tolist() == [
        [0, 1, 0, 0, 1, 2, 0],
        [0, 0, 1, 2, 3, 4, 5],
    ]
