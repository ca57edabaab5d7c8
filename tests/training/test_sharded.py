"""Runs over several processes train as runs in a single process (gloo on the CPU)."""

from __future__ import annotations

import atexit
import copy
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made_runs import ARCHITECTURE, Made, points_of
from safetensors.torch import load_file
from test_families import FAMILIES
from test_micro_batches import EVERY_STEP, assert_close_points
from test_resume import elsewhere
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM

from dcpt.atomic_files import DamagedFileError
from dcpt.errors import InputError
from dcpt.runs.identity import RunConfig
from dcpt.training import llama, start
from dcpt.training.data import open_data
from dcpt.training.forward import Forward, forward_of, weights_of
from dcpt.training.llama import is_fusible
from dcpt.training.loop import train
from dcpt.training.models import build_llama, build_shape, load_model, save_model
from dcpt.training.sharded import launch
from dcpt.training.sharded.forward import ShardedForward
from dcpt.training.sharded.launch import train_over
from dcpt.training.sharded.layout import can_keep_gathered
from dcpt.training.sharded.load import compute_buffers, find_tensors
from dcpt.training.sharded.ranks import ALONE, Ranks, join_ranks
from dcpt.training.start import check_same_batches
from dcpt.training.state import load_state, start_state
from dcpt.training.watch import TrainingError
from dcpt.training.work import find_work

long = pytest.mark.long

TWO = ("cpu", "cpu")
TRAIN_RANK = launch._train_rank


@pytest.fixture
def other(made: Made, tmp_path: Path) -> Made:
    return elsewhere(made, tmp_path / "other")


def finish(steps: Iterator[None]) -> None:
    for _ in steps:
        pass


def assert_close_runs(left: Made, right: Made, config: RunConfig, within: float = 1e-5) -> None:
    found, expected = points_of(left.folder(config)), points_of(right.folder(config))
    assert_close_points(found, expected, within=within)


def differences(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> list[float]:
    """Absolute differences of all losses of channels, in nats."""
    return [
        abs(point[kind][name] - wanted[kind][name])
        for point, wanted in zip(found, expected, strict=True)
        for kind in ("loss", "train_loss")
        for name in point[kind]
    ]


def report(what: str, found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Print the largest and the mean difference of losses (shown by ``pytest -s``)."""
    gaps = differences(found, expected)
    mean = sum(gaps) / len(gaps)
    print(f"\n{what}: largest loss difference over 20 steps {max(gaps):.2e}, mean {mean:.2e}")


@long
@pytest.mark.parametrize(("dtype", "within"), [("float32", 1e-5), ("bfloat16", 1e-3)])
def test_losses_and_model_are_those_of_a_single_process(
    made: Made, other: Made, dtype: str, within: float
) -> None:
    how: dict[str, Any] = {"points": EVERY_STEP, "dtype": dtype, "micro_batch_sequences": 1}
    how["activation_checkpointing"] = True
    config = made.trunk(20, save_model=True, **how)
    train(config, made.study)
    finish(train_over(config, other.study, TWO))
    report(
        f"{dtype}, two processes", points_of(other.folder(config)), points_of(made.folder(config))
    )
    assert_close_runs(made, other, config, within)
    models = [load_model(study.folder(config).model) for study in (made, other)]
    for name, tensor in models[0].state_dict().items():
        assert torch.allclose(tensor, models[1].state_dict()[name], atol=10 * within), name
    result = other.folder(config).result()
    assert result is not None
    assert (result["gpus"], result["layout"]) == (2, "sharded")


def train_rank_whole(*how: Any) -> None:
    """The process of a rank, as on a device that holds the whole state."""
    start.fits_whole = lambda *_: True
    TRAIN_RANK(*how)


@long
def test_processes_that_hold_the_whole_state_train_as_a_single_one(
    made: Made, other: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three processes have 2, 2 and 0 of the 4 sequences."""
    config = made.trunk(20, points=EVERY_STEP, keep=(8,))
    train(config, made.study)
    with monkeypatch.context() as patch:
        patch.setattr(launch, "_train_rank", train_rank_whole)
        finish(train_over(config, other.study, TWO, stop_at_step=6))
        finish(train_over(config, other.study, ("cpu",) * 3, stop_at_step=12))
    finish(train_over(config, other.study, TWO))  # the state is shared from here on
    assert_close_runs(made, other, config)


@long
@pytest.mark.parametrize(("always_shards", "layout"), [(False, "whole"), (True, "sharded")])
def test_a_run_is_sharded_on_request_where_it_would_be_whole(
    made: Made, monkeypatch: pytest.MonkeyPatch, always_shards: bool, layout: str
) -> None:
    config = made.trunk(2)
    monkeypatch.setattr(launch, "_train_rank", train_rank_whole)
    finish(train_over(config, made.study, TWO, always_shards=always_shards))
    result = made.folder(config).result()
    assert result is not None
    assert result["layout"] == layout


def abort_at_pythons_end(*_: Any) -> None:
    atexit.register(os.abort)


def test_a_process_ends_without_pythons_end(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of torch sometimes abort a process there."""
    monkeypatch.setattr(launch, "_train_rank", abort_at_pythons_end)
    finish(train_over(made.trunk(2), made.study, TWO))
    assert not multiprocessing.active_children()


def test_a_damaged_state_is_renamed_before_another_process_opens_it(
    made: Made, tmp_path: Path
) -> None:
    class Second(Ranks):
        def decide(self, function: Any) -> Any:
            raise DamagedFileError(tmp_path / "gone.safetensors", "found by the first", "rerun")

    state = start_state(build_llama(ARCHITECTURE), made.trunk(4).identity, ranks=Second(1, 2))
    with pytest.raises(DamagedFileError, match="found by the first"):
        load_state(tmp_path / "gone.safetensors", state, made.trunk(4).identity)


def test_an_evaluation_without_a_plain_head_stores_the_logits_of_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single process of a sharded model, with room for the logits of two sequences."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", launch._LOOPBACK)
    monkeypatch.setattr("dcpt.training.forward.STORED_LOGITS", 2 * 8 * ARCHITECTURE.vocab_size)
    tokens = torch.arange(5 * 9).view(5, 9)
    with join_ranks(ALONE, "cpu", f"file://{tmp_path}/meeting"):
        model = build_llama(ARCHITECTURE)
        forward = ShardedForward(model, "float32", ALONE, "cpu", keep_gathered=False)
        with torch.no_grad():
            forward.examine(None)
            _, expected = forward.losses({}, tokens)  # by the chunked loss
            forward._head, shapes = None, []
            model.register_forward_hook(lambda *how: shapes.append(how[2]["logits"].shape[0]))
            mean, losses = forward.losses({}, tokens)
    assert shapes == [2, 2, 1]
    assert torch.allclose(losses, expected, atol=1e-5)
    assert mean.item() == pytest.approx(expected.mean().item())


def test_the_vectors_of_a_sharded_model_are_not_rounded_to_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16 a norm's weight of 1.003 is 1."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", launch._LOOPBACK)
    tokens = torch.arange(5 * 9).view(5, 9)
    alone, shared = build_llama(ARCHITECTURE), build_llama(ARCHITECTURE)
    with torch.no_grad(), join_ranks(ALONE, "cpu", f"file://{tmp_path}/meeting"):
        for model in (alone, shared):
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.fill_(1.003)
        _, expected = forward_of(alone, "bfloat16").losses(weights_of(alone), tokens)
        forward = ShardedForward(shared, "bfloat16", ALONE, "cpu", keep_gathered=False)
        forward.examine(None)
        _, losses = forward.losses({}, tokens)
    assert torch.equal(losses, expected)


def fuse_on_cpu(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        "dcpt.training.sharded.forward.computes_fused", lambda model, _: is_fusible(model)
    )


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("border_id", [None, 7])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_sharded_model_computes_the_fused_layers_of_one_device(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    border_id: int | None,
    checkpointing: bool,
) -> None:
    """In bfloat16 other products round otherwise: 4.5e-3 nats after 20 steps on two GPUs."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", launch._LOOPBACK)
    fuse_on_cpu(monkeypatch)
    tokens = torch.arange(5 * 13).view(5, 13) % 11
    config = AutoConfig.for_model(family, **FAMILIES[family])
    torch.manual_seed(0)
    alone = AutoModelForCausalLM.from_config(config)
    shared, calls = copy.deepcopy(alone), list[Any]()
    mean, expected = Forward(alone, "float32", border_id).losses(weights_of(alone), tokens)
    mean.backward()
    gradients = {name: p.grad for name, p in alone.named_parameters()}
    with join_ranks(ALONE, "cpu", f"file://{tmp_path}/meeting"):
        forward = ShardedForward(shared, "float32", ALONE, "cpu", keep_gathered=False)
        forward.examine(border_id)
        monkeypatch.setattr(llama, "_layer", noting(calls, llama._layer))
        mean, losses = forward.losses({}, tokens, training=True, checkpointing=checkpointing)
        mean.backward()
        found = {name: p.grad for name, p in shared.named_parameters()}
        found = {n: g.full_tensor() if isinstance(g, DTensor) else g for n, g in found.items()}
    assert len(calls) == config.num_hidden_layers * (2 if checkpointing else 1)
    assert torch.allclose(losses, expected, atol=1e-5)
    for name, gradient in gradients.items():
        assert torch.allclose(found[name], gradient, atol=1e-5), name


def noting(calls: list[Any], function: Any) -> Any:
    def noted(*arguments: Any) -> Any:
        calls.append(arguments)
        return function(*arguments)

    return noted


def train_rank_fused(*how: Any) -> None:
    """The process of a rank, which computes as on a GPU."""
    fuse_on_cpu(pytest.MonkeyPatch())
    TRAIN_RANK(*how)


@long
def test_a_sharded_run_with_fused_layers_trains_as_a_single_process(
    made: Made, other: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_train_rank", train_rank_fused)
    config = made.trunk(20, points=EVERY_STEP, micro_batch_sequences=2, packing="documents")
    train(config, made.study)
    finish(train_over(config, other.study, TWO))
    assert_close_runs(made, other, config)


@long
def test_a_run_goes_on_with_another_number_of_processes(made: Made, other: Made) -> None:
    """Three processes have 2, 2 and 0 of the 4 sequences; a branch leaves a state of two."""
    config = made.trunk(16, points=(5, 12), keep=(8,), packing="documents")
    train(config, made.study)
    finish(train_over(config, other.study, TWO, stop_at_step=6))
    assert load_file(other.folder(config).checkpoint).keys()
    train(config, other.study, stop_at_step=7)
    finish(train_over(config, other.study, ("cpu",) * 3))
    assert_close_runs(made, other, config)
    branch = made.branch(config, 8, 3)
    train(branch, made.study)
    train(branch, other.study)
    assert points_of(other.folder(branch))[-1]["loss"] == pytest.approx(
        points_of(made.folder(branch))[-1]["loss"], abs=1e-5
    )


@long
def test_a_checkpoint_of_another_family_with_an_untied_head(made: Made, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gpt_neox", **FAMILIES["gpt_neox"])
    )
    save_model(model, made.study / "data/tokenizer", tmp_path / "base")
    alone, shared = Made(made.study, tmp_path / "base"), elsewhere(made, tmp_path / "other")
    config = alone.trunk(8, points=(4,))
    train(config, alone.study)
    finish(train_over(config, shared.study, TWO))
    assert_close_runs(alone, shared, config)


@long
def test_a_killed_process_ends_the_others_and_the_run_resumes(made: Made, other: Made) -> None:
    config = made.trunk(60, checkpoint_every_s=0.05)
    train(config, made.study)
    steps = train_over(config, other.study, TWO)
    while not other.folder(config).checkpoint.exists():
        next(steps)
    last = max(multiprocessing.active_children(), key=lambda process: process.pid or 0)
    os.kill(last.pid or 0, signal.SIGKILL)
    with pytest.raises(TrainingError, match="was killed by signal 9; rerun") as caught:
        finish(steps)
    assert caught.value.kind == "killed"
    assert not multiprocessing.active_children()
    train(config, other.study)
    assert_close_runs(made, other, config)


@long
def test_a_damaged_state_is_set_aside(made: Made) -> None:
    config = made.trunk(8)
    train(config, made.study, stop_at_step=4)
    folder = made.folder(config)
    damaged = folder.checkpoint.read_bytes()[:-8]
    folder.checkpoint.write_bytes(damaged)
    finish(train_over(config, made.study, TWO))
    assert folder.checkpoint.with_name("checkpoint.safetensors.damaged").read_bytes() == damaged
    notes = [event["words"] for event in folder.events() if event["event"] == "note"]
    assert any("the file is damaged" in words for words in notes)


@long
def test_bad_input_of_a_process_is_bad_input(made: Made) -> None:
    (made.study / "data").unlink()
    with pytest.raises(InputError, match="data"):
        finish(train_over(made.trunk(9), made.study, TWO))


def test_processes_that_read_other_text_are_refused(made: Made) -> None:
    class Disagreeing(Ranks):
        def gather(self, value: Any) -> list[Any]:
            return [value, "another digest"]

    config = made.trunk(4)
    data, work = open_data(config, made.study), find_work(config, made.runs)
    with pytest.raises(TrainingError, match="process 1 of 2 reads other batches than process 0"):
        check_same_batches(config, data, work, Disagreeing(0, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoints_are_read_by_the_names_of_their_tensors(
    made: Made, tmp_path: Path, family: str
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **FAMILIES[family]))
    save_model(model, made.study / "data/tokenizer", tmp_path / "base")
    shape = build_shape(tmp_path / "base")
    places = find_tensors(shape, str(tmp_path / "base"))
    assert places is None or places.keys() >= dict(shape.named_parameters()).keys()
    assert compute_buffers(shape)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, shape.get_buffer(name)) or buffer.is_meta, name


def test_a_tied_embedding_stored_twice_is_not_read_by_name(made: Made, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_model(build_llama(ARCHITECTURE), made.study / "data/tokenizer", tmp_path / "base")
    file = tmp_path / "base/model.safetensors"
    assert find_tensors(build_shape(tmp_path / "base"), str(tmp_path / "base")) is not None
    tensors = load_file(file)
    save_file({**tensors, "lm_head.weight": torch.zeros(300, 16)}, file, {"format": "pt"})
    assert find_tensors(build_shape(tmp_path / "base"), str(tmp_path / "base")) is None


GIB = 2**30


@pytest.mark.parametrize(("n_gpus", "gib", "keeps"), [(2, 80, True), (2, 60, False)])
def test_layers_stay_gathered_where_memory_allows(
    made: Made, n_gpus: int, gib: int, keeps: bool
) -> None:
    """The estimate is 57 GiB, and the layers take 3 GiB more."""
    config = made.trunk(4, dtype="bfloat16", batch_sequences=64, sequence_tokens=4096)
    config = with_micro_batch(config, 4)
    shape = qwen(width=2048, layers=24)
    assert can_keep_gathered(config, shape, n_gpus, gib * GIB) == keeps


def test_a_model_that_fits_on_no_layout_is_refused(made: Made) -> None:
    with pytest.raises(InputError, match=r"on each of 2 GPUs of 10 GiB; set .* to at least 4"):
        can_keep_gathered(made.trunk(4), qwen(width=2048, layers=28), 2, 10 * GIB)


def with_micro_batch(config: RunConfig, sequences: int) -> RunConfig:
    recorded = config.recorded.model_copy(update={"micro_batch_sequences": sequences})
    return config.model_copy(update={"recorded": recorded})


def qwen(width: int, layers: int) -> Any:
    return AutoConfig.for_model(
        "qwen2",
        hidden_size=width,
        num_hidden_layers=layers,
        intermediate_size=4 * width,
        num_attention_heads=16,
        num_key_value_heads=4,
        vocab_size=151_936,
        tie_word_embeddings=True,
    )
