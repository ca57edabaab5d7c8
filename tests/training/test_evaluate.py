"""Channel losses and their standard errors are compared with numpy."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import ARCHITECTURE, Made
from torch import nn

from dcpt.errors import InputError
from dcpt.runs.records import on_text
from dcpt.text.manifest import load_prepared
from dcpt.text.prepare import prepare
from dcpt.text.shard_files import open_shard
from dcpt.text.sources import ChannelSource
from dcpt.training.evaluate import (
    ChannelLoss,
    cut_windows,
    describe_evaluation,
    evaluate_channels,
    evaluate_model,
    open_validation,
)
from dcpt.training.forward import forward_of, weights_of
from dcpt.training.models import build_llama


def evaluate(model: nn.Module, windows: dict[str, torch.Tensor]) -> dict[str, ChannelLoss]:
    return evaluate_channels(forward_of(model, "float32"), weights_of(model), windows)


def test_losses_and_standard_errors_are_those_of_numpy(made: Made) -> None:
    model = build_llama(ARCHITECTURE, seed=3)
    shard = np.asarray(open_shard(made.study / "data", "law", "valid"), dtype=np.int64)
    found = evaluate(model, {"law": cut_windows(shard, 16, 160)})["law"]
    means = []
    with torch.no_grad():
        for i in range(10):
            start = int(i / 10 * ((len(shard) - 1) // 16) + 1e-9) * 16  # spread over the shard
            ids = torch.from_numpy(shard[start : start + 17])
            logits = model(ids[None, :-1]).logits[0].double().numpy()
            log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            means.append(-log_p[np.arange(16), ids[1:].numpy()].mean())
    assert len(means) == 10
    assert found.mean == pytest.approx(np.mean(means), abs=1e-6)
    assert found.se == pytest.approx(np.std(means, ddof=1) / np.sqrt(10), rel=1e-4)


def test_one_sequence_has_no_standard_error(made: Made) -> None:
    model = build_llama(ARCHITECTURE)
    windows = {"a": torch.zeros(1, 17, dtype=torch.int64)}
    assert evaluate(model, windows)["a"].se is None


def test_windows_are_spread_and_no_target_comes_twice() -> None:
    shard = np.arange(100, dtype=np.uint16)
    windows = cut_windows(shard, 8, 40)
    assert windows.shape == (5, 9)
    targets = windows[:, 1:].flatten().tolist()
    assert len(set(targets)) == 40
    assert windows[:, 0].tolist() == [0, 16, 32, 56, 72]  # spread over all 12 windows
    assert cut_windows(shard[:41], 8, 40)[:, 1:].flatten().tolist() == list(range(1, 41))


def test_dropout_is_off_and_the_mode_is_left_as_it_was() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=300, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    ).train()
    windows = {"a": torch.arange(34).reshape(2, 17)}
    first = evaluate(model, windows)
    assert evaluate(model, windows) == first
    assert model.training


def test_bfloat16_is_near_float32() -> None:
    model = build_llama(ARCHITECTURE, seed=3)
    tokens = torch.arange(34).reshape(2, 17)
    _, exact = forward_of(model, "float32").losses(weights_of(model), tokens)
    _, near = forward_of(model, "bfloat16").losses(weights_of(model), tokens)
    assert near.dtype == torch.float32
    assert not torch.equal(exact, near)
    torch.testing.assert_close(exact, near, atol=0.02, rtol=0)


def test_bytes_per_token_and_evaluation_id(made: Made) -> None:
    prepared = load_prepared(made.study / "data")
    whole = open_validation(prepared, ["en", "law"], 16, 160)
    valid = prepared.channels["law"].valid
    assert whole.bytes_per_token["law"] == valid.text_bytes / valid.tokens
    ids = {
        open_validation(prepared, names, t, n).eval_id
        for names, t, n in (
            (["en", "law"], 16, 160),
            (["law", "en"], 16, 160),
            (["en"], 16, 160),
            (["en", "law"], 8, 160),
            (["en", "law"], 16, 320),
        )
    }
    assert len(ids) == 4
    assert whole.eval_id in ids


def test_too_little_validation_text_is_named_for_every_channel(made: Made) -> None:
    with pytest.raises(InputError) as caught:
        evaluate_model(made.base, made.study / "data", ["en", "law"], 16, 10**6)
    assert [p.split(":")[0] for p in caught.value.problems] == ["channel en", "channel law"]
    assert "lower evaluation.tokens" in caught.value.problems[0]


def test_a_last_pass_that_is_not_full_counts_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_llama(ARCHITECTURE, seed=3)
    windows = torch.randint(300, (7, 17), generator=torch.Generator().manual_seed(0))
    whole = evaluate(model, {"a": windows})["a"]
    monkeypatch.setattr("dcpt.training.evaluate.EVALUATION_TOKENS", 48)  # three at a time
    parts = evaluate(model, {"a": windows})["a"]
    assert parts.mean == pytest.approx(whole.mean, abs=1e-6)
    assert parts.se == pytest.approx(whole.se, rel=1e-5)


def test_losses_are_measured_with_and_without_near_copies(tmp_path: Path) -> None:
    draw = random.Random(1)
    words = [f"w{i}" for i in range(500)]
    train, held = ([" ".join(draw.choices(words, k=60)) for _ in range(n)] for n in (40, 20))
    texts = {"train": train, "valid": [*(text.upper() for text in train[:20]), *held]}
    for name, documents in texts.items():
        lines = (json.dumps({"text": document}) + "\n" for document in documents)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    source = ChannelSource("law", str(tmp_path / "train.jsonl"), str(tmp_path / "valid.jsonl"))
    prepared = prepare([source], tmp_path / "data", 300)
    validation = open_validation(prepared, ["law"], 16, 160)
    complete = np.asarray(open_shard(prepared.folder, "law", "valid"), dtype=np.int64)
    clean = complete[len(complete) - prepared.evaluated("law").tokens :]
    assert len(clean) < len(complete)
    assert torch.equal(validation.windows["law"], cut_windows(clean, 16, 160))
    assert torch.equal(validation.all_windows["law"], cut_windows(complete, 16, 160))
    model = build_llama(ARCHITECTURE, seed=3)
    point = describe_evaluation(model, validation, forward_of(model, "float32"))
    for found, shard in ((point, clean), (point["all"], complete)):
        expected = evaluate(model, {"law": cut_windows(shard, 16, 160)})["law"]
        assert (found["loss"]["law"], found["se"]["law"]) == (expected.mean, expected.se)
    assert on_text(point, "clean")["loss"] == point["loss"]
    assert on_text(point, "all")["loss"] == point["all"]["loss"] != point["loss"]

    whole = prepare([source], tmp_path / "whole", 300, near_duplicates=False)
    unscreened = open_validation(whole, ["law"], 16, 160)
    assert unscreened.all_windows == {}
    assert unscreened.eval_id == unscreened.all_eval_id == validation.all_eval_id
    assert validation.eval_id != validation.all_eval_id
    assert "all" not in describe_evaluation(model, unscreened, forward_of(model, "float32"))
