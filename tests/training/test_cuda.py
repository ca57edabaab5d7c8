"""The same runs on an accelerator."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from made_runs import BATCH_TOKENS, Made
from test_families import FAMILIES
from test_resume import elsewhere
from transformers import AutoConfig, AutoModelForCausalLM

from dcpt.runs.identity import RunConfig
from dcpt.training.bases import load_base
from dcpt.training.forward import forward_of, weights_of
from dcpt.training.lanes import Lanes
from dcpt.training.loop import own_stream, train
from dcpt.training.losses import mean_loss
from dcpt.training.memory import estimate_memory
from dcpt.training.models import save_model
from dcpt.training.state import start_state
from dcpt.training.step import FIRST_STEPS, Step
from dcpt.training.timing import time_steps

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),  # torch's compiler has its own
]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 3e-2)])
def test_losses_are_those_of_the_cpu(made: Made, dtype: str, tolerance: float) -> None:
    on_gpu = made.trunk(12, points=(6,), keep=(8,), save_model=True, dtype=dtype)
    on_cpu = made.trunk(12, points=(6,), keep=(8,))
    train(on_gpu, made.study, device="cuda:0", stop_at_step=7)
    train(on_gpu, made.study, device="cuda:0")
    branch = made.branch(on_gpu, 8, 3)
    train(branch, made.study, device="cuda:0")
    found = made.folder(on_gpu).points() + made.folder(branch).points()

    if dtype == "float32":  # The identity is the same, so move the first run away.
        made.folder(on_gpu).path.rename(made.runs / "put-away")
        made.folder(branch).path.rename(made.runs / "put-away-too")
    train(on_cpu, made.study)
    decayed = made.branch(on_cpu, 8, 3)
    train(decayed, made.study)
    expected = made.folder(on_cpu).points() + made.folder(decayed).points()
    assert [p["n_tokens"] for p in found] == [n * BATCH_TOKENS for n in (0, 6, 12, 11)]
    for point, reference in zip(found, expected, strict=True):
        assert point["loss"] == pytest.approx(reference["loss"], abs=tolerance)
        assert point["train_loss"] == pytest.approx(reference["train_loss"], abs=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_alone_together_and_resumed_agree(made: Made, tmp_path: Path, dtype: str) -> None:
    """On a GPU the sums in the gradients of embedding and attention have no fixed order."""
    sound = [made.trunk(40, points=(20,), ratio=r, dtype=dtype) for r in (0.2, 0.4)]
    poisoned = made.trunk(40, learning_rate=1e30, warmup_tokens=0, dtype=dtype)
    lanes, ended = Lanes(made.study, ["cuda:0"]), {}
    for config in (sound[0], poisoned, sound[1]):
        lanes.add(config)
    while len(lanes):
        ended |= {end.run: end.state for end in lanes.advance()}
    assert ended == {
        sound[0].name: "finished",
        poisoned.name: "failed",
        sound[1].name: "finished",
    }
    alone, resumed = elsewhere(made, tmp_path / "alone"), elsewhere(made, tmp_path / "resumed")
    for config in sound:
        train(config, alone.study, device="cuda:0")
        train(config, resumed.study, device="cuda:0", stop_at_step=13)
        train(config, resumed.study, device="cuda:0")
        expected = losses_of(alone, config)
        bound = 1e-5 if dtype == "float32" else 1e-3
        assert losses_of(made, config) == pytest.approx(expected, abs=bound)
        assert losses_of(resumed, config) == pytest.approx(expected, abs=bound)


def losses_of(made: Made, config: RunConfig) -> list[float]:
    points = made.folder(config).points()
    assert len(points) == 3
    return [loss for point in points for loss in point["loss"].values()]


def steps_of(made: Made, config: RunConfig, n: int) -> tuple[Step, list[float]]:
    """Take steps on the same batch; returns the step and the losses."""
    from dcpt.training.data import open_data

    batch = open_data(config, made.study).mixture.batch(0)
    with own_stream("cuda:0"):
        state = start_state(load_base(config, made.study, "cuda:0").train(), config.identity)
        step = Step(
            state,
            config.identity,
            config.micro_batch_sequences,
            checkpointing=bool(config.recorded.activation_checkpointing),
        )
        return step, [float(step(batch)[0]) for _ in range(n)]


def test_a_step_is_recorded_once_and_goes_on_learning(made: Made) -> None:
    config = made.trunk(40, warmup_tokens=0)
    step, losses = steps_of(made, config, 12)
    assert step._graph is not None
    assert all(later < sooner for sooner, later in itertools.pairwise(losses))
    step, few = steps_of(made, config, FIRST_STEPS)
    assert step._graph is None
    assert few == pytest.approx(losses[:FIRST_STEPS], abs=1e-5)


def test_a_recorded_step_computes_layers_again(made: Made) -> None:
    kept = made.trunk(40, warmup_tokens=0)
    again = made.trunk(40, warmup_tokens=0, activation_checkpointing=True)
    _, expected = steps_of(made, kept, 12)
    step, losses = steps_of(made, again, 12)
    assert step._graph is not None
    assert losses == pytest.approx(expected, abs=1e-5)


def test_a_step_of_many_micro_batches_is_not_recorded(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = made.trunk(40, warmup_tokens=0, micro_batch_sequences=1)
    step, recorded = steps_of(made, config, 12)
    assert step._graph is not None
    monkeypatch.setattr("dcpt.training.step.MOST_PASSES", 2)
    step, losses = steps_of(made, config, 12)
    assert step._graph is None
    assert losses == pytest.approx(recorded, abs=1e-5)


def long_model(family: str) -> Any:
    """A model with heads of a common size, which fast kernels support."""
    shape = {
        "vocab_size": 512,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 8192,
    }
    shared = {} if family == "gpt_neox" else {"num_key_value_heads": 2}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **shape, **shared)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def gradient_of(
    model: Any, tokens: torch.Tensor, dtype: str, *, checkpointing: bool = False
) -> tuple[float, float, int]:
    """Loss, norm of its gradient, and the bytes that were allocated at most."""
    forward = forward_of(model, dtype)  # type: ignore[arg-type]
    model.zero_grad(set_to_none=True)
    if tokens.is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    loss, _ = forward.losses(weights_of(model), tokens, training=True, checkpointing=checkpointing)
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    return float(loss.detach()), float(norm), torch.cuda.max_memory_allocated()


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "gpt_neox"])
def test_long_sequences_have_the_losses_of_the_cpu(family: str) -> None:
    model = long_model(family)
    tokens = torch.randint(512, (1, 8193))
    loss, norm, _ = gradient_of(model, tokens, "float32")
    model.cuda()
    for checkpointing in (False, True):
        found = gradient_of(model, tokens.cuda(), "bfloat16", checkpointing=checkpointing)
        assert found[0] == pytest.approx(loss, abs=2e-2)
        assert found[1] == pytest.approx(norm, rel=6e-2)


@pytest.mark.parametrize("family", ["qwen2", "gpt_neox"])
def test_layers_that_are_computed_again_need_less_memory(family: str) -> None:
    model = long_model(family).cuda()
    tokens = torch.randint(512, (8, 2049), device="cuda")
    for _ in range(2):  # the first call compiles
        kept = gradient_of(model, tokens, "bfloat16")
        again = gradient_of(model, tokens, "bfloat16", checkpointing=True)
    assert again[:2] == pytest.approx(kept[:2], rel=1e-4)
    assert again[2] < 0.7 * kept[2]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_needs_about_the_memory_of_its_estimate(checkpointing: bool) -> None:
    shape = {
        "vocab_size": 50_000,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
    }
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **shape))
    model = model.float()
    tokens = torch.randint(50_000, (8, 2049), device="cuda")
    moments = [torch.empty_like(p) for p in model.parameters() for _ in range(2)]
    for _ in range(2):
        *_, used = gradient_of(model, tokens, "bfloat16", checkpointing=checkpointing)
    del moments
    memory = estimate_memory(model.config, 2048, 8, checkpointing=checkpointing)
    assert 0.6 * memory.n_bytes < used + memory.context < 1.05 * memory.n_bytes


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_models_of_transformers_own_code(made: Made, tmp_path: Path, dropout: float) -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    shape = GPTNeoXConfig(
        vocab_size=300,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout=dropout,
    )
    torch.manual_seed(0)
    save_model(GPTNeoXForCausalLM(shape), made.study / "data/tokenizer", tmp_path / "base")
    from_base = Made(made.study, tmp_path / "base")
    config = from_base.trunk(6)
    step, losses = steps_of(from_base, config, 6)
    assert (step._graph is None) == (dropout > 0)
    if not dropout:
        slow = load_base(config, from_base.study, "cuda:0")
        forward = forward_of(slow, "float32")
        assert forward.is_static
        train(config, from_base.study)
        point = from_base.folder(config).points()[0]
        from_base.folder(config).path.rename(from_base.runs / "put-away")
        train(config, from_base.study, device="cuda:0")
        assert from_base.folder(config).points()[0]["loss"] == pytest.approx(
            point["loss"], abs=1e-4
        )
    assert losses[-1] < losses[0]


EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_key_value_heads": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
DYNAMIC_ROPE = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}


@pytest.mark.parametrize(
    ("family", "fields"),
    [("qwen2_moe", EXPERTS), ("llama", {"rope_parameters": DYNAMIC_ROPE})],
)
def test_what_changes_from_step_to_step_is_not_recorded(
    made: Made, tmp_path: Path, family: str, fields: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    shape = AutoConfig.for_model(family, **FAMILIES["llama"], max_position_embeddings=16, **fields)
    base = tmp_path / "base"
    save_model(AutoModelForCausalLM.from_config(shape), made.study / "data/tokenizer", base)
    config = Made(made.study, base).trunk(6, warmup_tokens=0, learning_rate=1e-2)
    step, losses = steps_of(made, config, 6)
    assert step._graph is None
    assert losses[-1] < losses[0] - 0.02
    train(config, made.study, device="cuda:0")
    found = made.folder(config).points()
    made.folder(config).path.rename(made.runs / "put-away")
    train(config, made.study)
    for point, reference in zip(found, made.folder(config).points(), strict=True):
        assert point["loss"] == pytest.approx(reference["loss"], abs=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_documents_apart_are_those_of_the_cpu(made: Made, tmp_path: Path, family: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **FAMILIES[family]))
    save_model(model, made.study / "data/tokenizer", tmp_path / "base")
    from_base = Made(made.study, tmp_path / "base")
    apart, joined = from_base.trunk(8, packing="documents"), from_base.trunk(8)
    losses = {}
    for device in ("cuda:0", "cpu"):
        for config in (apart, joined):
            train(config, from_base.study, device=device)
            folder = from_base.folder(config)
            losses[device, config.identity.packing] = folder.points()[-1]["loss"]
            folder.path.rename(from_base.runs / f"{device}-{config.identity.packing}")
    for packing in ("documents", "concatenated"):
        expected = losses["cpu", packing]
        assert losses["cuda:0", packing] == pytest.approx(expected, abs=1e-4)
    assert losses["cpu", "documents"] != pytest.approx(losses["cpu", "concatenated"], abs=1e-3)


def test_a_large_vocabulary_needs_no_room_for_its_logits() -> None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    hidden = torch.randn(65_536, 256, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    head = torch.randn(152_000, 256, device="cuda", requires_grad=True)
    targets = torch.randint(152_000, (65_536,), device="cuda")
    mean_loss(hidden, head, targets)[0].backward()
    used = torch.cuda.max_memory_allocated() - before
    # The logits alone take 18.6 GiB in bfloat16; a chunk of them takes 1.2 GiB, its gradient too.
    assert used < 5 * 2**30


def test_timing(made: Made) -> None:
    timing = time_steps(made.trunk(4), made.study, device="cuda:0", lanes=2)
    assert timing.tokens_per_s > 100
    assert timing.evaluation_s > 0
