"""Bases that are built, loaded and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from made_runs import ARCHITECTURE, Made

from dcpt.errors import InputError
from dcpt.text.shard_files import largest_id
from dcpt.training.bases import load_base
from dcpt.training.checkpoints import checkpoint_sha256
from dcpt.training.evaluate import evaluate_model
from dcpt.training.loop import train
from dcpt.training.models import build_llama, count_parameters, load_model, save_model
from dcpt.training.state import make_optimizer


@pytest.fixture
def base(made: Made, tmp_path: Path) -> Path:
    """A separate base that a test may damage."""
    return Path(shutil.copytree(made.base, tmp_path / "own-base"))


def test_a_llama_is_the_same_for_the_same_seed() -> None:
    before = torch.get_rng_state()
    first, same, other = (build_llama(ARCHITECTURE, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    weights = [m.state_dict()["model.layers.0.mlp.up_proj.weight"] for m in (first, other)]
    assert not torch.equal(*weights)


def test_parameters_are_counted_once() -> None:
    counts = count_parameters(build_llama(ARCHITECTURE, device="meta"))
    layer = 4 * 16 * 16 + 3 * 16 * 48 + 2 * 16
    assert counts.n_params_non_embedding == 2 * layer + 16
    assert counts.n_params == counts.n_params_non_embedding + 300 * 16


def test_only_matrices_decay(made: Made) -> None:
    model = build_llama(ARCHITECTURE)
    decayed, kept = make_optimizer(model, made.identity()).param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) == 2 * 7
    assert sorted(p.ndim for p in kept["params"]) == [1] * 5 + [2]  # The embedding is a matrix.


def test_a_run_uses_the_base_it_was_planned_with(base: Path, made: Made) -> None:
    own = Made(made.study, base)
    config = own.trunk(2)
    assert load_base(config, made.study).training is False
    before = checkpoint_sha256(base)
    save_model(build_llama(ARCHITECTURE, seed=8), made.study / "data/tokenizer", base)
    assert checkpoint_sha256(base) != before
    with pytest.raises(InputError, match="is not the one the run was planned with"):
        train(config, made.study)


def test_a_base_path_is_relative_to_the_study(base: Path, made: Made) -> None:
    config = Made(made.study, base).trunk(2)
    moved = made.study / "bases" / "small"
    moved.parent.mkdir()
    base.rename(moved)
    recorded = config.recorded.model_copy(update={"base_path": "bases/small"})
    found = load_base(config.model_copy(update={"recorded": recorded}), made.study)
    assert count_parameters(found).n_params == 11536


def test_ids_beyond_the_embedding_are_refused_where_they_occur(made: Made, tmp_path: Path) -> None:
    largest = max(largest_id(made.study / "data", name) for name in ("en", "law"))
    small = ARCHITECTURE.model_copy(update={"vocab_size": largest})
    save_model(build_llama(small), made.study / "data/tokenizer", tmp_path / "small")
    with pytest.raises(InputError, match=f"has the id {largest}, and the model knows ids below"):
        train(Made(made.study, tmp_path / "small").trunk(2), made.study)
    enough = ARCHITECTURE.model_copy(update={"vocab_size": largest + 1})
    save_model(build_llama(enough), made.study / "data/tokenizer", tmp_path / "enough")
    row = evaluate_model(tmp_path / "enough", made.study / "data", ["en"], 16, 160)
    assert row["loss"]["en"] > 0


def test_a_tokenizer_that_gives_other_ids_is_refused(made: Made, tmp_path: Path) -> None:
    other = tmp_path / "other"
    save_model(build_llama(ARCHITECTURE), made.study / "data/tokenizer", other)
    evaluate_model(other, made.study / "data", ["en"], 16, 160)
    file = other / "tokenizer.json"
    sound = json.loads(file.read_text(encoding="utf-8"))
    names = list(sound["model"]["vocab"])
    swapped = dict(zip(names, [1, 0, *range(2, len(names))], strict=True))
    changed = {**sound, "model": {**sound["model"], "vocab": swapped}}
    file.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(InputError, match=r"checkpoint .*gives the token .* and the prepared text"):
        evaluate_model(other, made.study / "data", ["en"], 16, 160)
    changed = {**sound, "model": {**sound["model"], "merges": []}}
    file.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(InputError, match=r"splits words differently .*`tokenizer: .*other`"):
        evaluate_model(other, made.study / "data", ["en"], 16, 160)
    file.unlink()
    evaluate_model(other, made.study / "data", ["en"], 16, 160)


def test_sequences_longer_than_the_model_are_refused(made: Made) -> None:
    with pytest.raises(InputError, match="sequence_tokens is 17, and the model has 16 positions"):
        train(made.trunk(2, sequence_tokens=17), made.study)


def test_pickled_weights_are_never_read(base: Path) -> None:
    (base / "model.safetensors").unlink()
    torch.save({}, base / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"has no \.safetensors file"):
        load_model(base)


def test_code_of_a_checkpoint_is_never_run(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.Model"}}
    config["auto_map"]["AutoConfig"] = "own.Config"
    (base / "config.json").write_text(json.dumps(config))
    (base / "own.py").write_text("raise SystemExit('the code was run')")
    with pytest.raises(InputError, match="transformers cannot load it"):
        load_model(base)


def test_weights_that_do_not_fill_the_model_are_refused(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(InputError, match="9 weights of the model are not in it"):
        load_model(base)


@pytest.mark.parametrize("path", ["/no/such/folder", "a/b/c", "."])
def test_a_checkpoint_that_is_not_there(path: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder|has no \.safetensors"):
        checkpoint_sha256(path)


def test_a_trunk_waits_for_its_pretrain_run(made: Made) -> None:
    with pytest.raises(InputError, match="the pretrain run 0123abcd, has no finished model"):
        train(made.trunk(2, base="run:0123abcd"), made.study)
