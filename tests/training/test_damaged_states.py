"""Changed bytes in states, bases and checkpoints: training never uses them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from made_runs import ARCHITECTURE, BATCH_TOKENS, Made, points_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_resume import elsewhere

from dcpt.atomic_files import DamagedFileError
from dcpt.errors import InputError
from dcpt.training import state as states
from dcpt.training import state_file
from dcpt.training.bases import build_untrained
from dcpt.training.checkpoints import checkpoint_sha256, locate_checkpoint
from dcpt.training.loop import train
from dcpt.training.models import build_llama, load_model, save_model


@pytest.fixture
def other(made: Made, tmp_path: Path) -> Made:
    return elsewhere(made, tmp_path / "other")


@pytest.fixture
def base(made: Made, tmp_path: Path) -> Path:
    """A separate base that a test may damage."""
    return Path(shutil.copytree(made.base, tmp_path / "own-base"))


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_flipped_bit_in_a_checkpoint_is_found(made: Made, other: Made) -> None:
    config = made.trunk(12, points=(3,), keep=(4,))
    train(config, made.study, stop_at_step=9)
    folder = made.folder(config)
    flip_last_bit(folder.checkpoint)
    train(config, made.study)
    (note,) = [event["words"] for event in folder.events() if event["event"] == "note"]
    assert str(folder.checkpoint) in note
    assert "its content is not what was written" in note
    train(config, other.study)
    assert points_of(folder) == points_of(other.folder(config))


def test_metrics_that_an_unfinished_run_lost_are_made_again(made: Made, other: Made) -> None:
    config = made.trunk(12, points=(3, 8), keep=(4, 6))
    train(config, made.study, stop_at_step=9)
    folder = made.folder(config)
    lines = folder.metrics.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    folder.metrics.write_bytes(b"".join(lines[:2]))  # all but the point at step 8
    train(config, made.study)
    train(config, other.study)
    assert points_of(folder) == points_of(other.folder(config))


def test_a_state_is_hashed_once_for_each_state_of_its_file(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = made.trunk(4)
    train(config, made.study, stop_at_step=2)
    path, reads = made.folder(config).checkpoint, []
    real = state_file._start_digest
    target = states.start_state(build_llama(ARCHITECTURE), config.identity)
    monkeypatch.setattr(
        state_file, "_start_digest", lambda *about: (reads.append(path), real(*about))[1]
    )
    for _ in range(2):
        states.load_state(path, target, config.identity)
    assert len(reads) == 1
    flip_last_bit(path)
    with pytest.raises(DamagedFileError, match="not what was written"):
        states.load_state(path, target, config.identity)


def test_states_of_earlier_versions_load_without_a_hash(made: Made, other: Made) -> None:
    config = made.trunk(8)
    train(config, made.study, stop_at_step=4)
    path = made.folder(config).checkpoint
    with safe_open(path, framework="pt") as file:
        about = {key: value for key, value in file.metadata().items() if key != "sha256"}
    save_file(load_file(path), path, about)
    train(config, made.study)
    assert not path.with_name(f"{path.name}.damaged").exists()
    train(config, other.study)
    assert points_of(made.folder(config)) == points_of(other.folder(config))


def test_a_damaged_state_leaves_what_was_to_be_overwritten(made: Made) -> None:
    config = made.trunk(4)
    train(config, made.study, stop_at_step=2)
    path = made.folder(config).checkpoint
    tensors = load_file(path)
    tensors["exp_avg_sq.model.norm.weight"] = torch.zeros(3)
    with safe_open(path, framework="pt") as file:
        about = {key: value for key, value in file.metadata().items() if key != "sha256"}
    save_file(tensors, path, about)
    target = states.start_state(build_llama(ARCHITECTURE, seed=3), config.identity)
    before = [p.clone() for p in target.model.parameters()]
    with pytest.raises(DamagedFileError, match=r"exp_avg_sq\.model\.norm\.weight is missing or of"):
        states.load_state(path, target, config.identity)
    assert all(torch.equal(p, q) for p, q in zip(before, target.model.parameters(), strict=True))


def test_a_base_state_that_is_damaged_is_made_again(made: Made, other: Made) -> None:
    start = 8 * BATCH_TOKENS
    pretrain = made.pretrain(12, 4)
    recorded = pretrain.recorded.model_copy(update={"keep_state_at": (start,)})
    pretrain = pretrain.model_copy(update={"recorded": recorded})
    trunk = made.trunk(
        2, base=f"run:{pretrain.identity.hash}", base_path=None, base_state_tokens=start
    )
    for runs in (made, other):
        train(pretrain, runs.study)
    path = made.folder(pretrain).state(start)
    flip_last_bit(path)
    assert not made.folder(pretrain).is_done(pretrain)
    with pytest.raises(DamagedFileError, match="its content is not what was written"):
        train(trunk, made.study)
    train(pretrain, made.study)
    for runs in (made, other):
        train(trunk, runs.study)
    assert points_of(made.folder(trunk)) == points_of(other.folder(trunk))


def test_what_a_person_put_into_a_model_folder_survives(made: Made) -> None:
    short, long = (made.trunk(n, save_model=True) for n in (4, 6))
    train(short, made.study)
    model = made.folder(short).model
    (model / "notes.txt").write_text("mine")
    train(long, made.study)
    assert (model.with_name("model.damaged") / "notes.txt").read_text() == "mine"
    assert not (model / "notes.txt").exists()
    train(made.trunk(8, save_model=True), made.study)
    assert sorted(path.name for path in model.parent.glob("model*")) == ["model", "model.damaged"]


def test_a_saved_model_never_goes_through_a_link(made: Made, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(made.base, mine)
    (tmp_path / "model").symlink_to(mine)
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    save_model(build_llama(ARCHITECTURE), made.study / "data/tokenizer", tmp_path / "model")
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before


def test_a_flipped_bit_in_a_checkpoint_base_is_refused(base: Path, made: Made) -> None:
    config = Made(made.study, base).trunk(2)
    before = checkpoint_sha256(base)
    flip_last_bit(base / "model.safetensors")
    assert checkpoint_sha256(base) != before
    with pytest.raises(InputError, match="is not the one the run was planned with"):
        train(config, made.study)


# --------------------------------------------------------------------- errors while loading
@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"model_type": "no-such-model"},
        {"rope_parameters": 5},
        {"hidden_act": "no-such-activation"},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"architectures": 3, "vocab_size": None},
    ],
)
def test_a_strange_configuration_is_one_sentence(base: Path, values: dict[str, Any]) -> None:
    edit(base / "config.json", **values)
    with pytest.raises(InputError, match=r"^checkpoint .*own-base: "):
        load_model(base)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"a": ' * 5000, b"\xff\xfe\x00" * 9])
def test_a_torn_file_of_a_checkpoint_is_one_sentence(base: Path, name: str, content: bytes) -> None:
    (base / name).write_bytes(content)
    with pytest.raises(InputError, match=r"^checkpoint .*own-base: "):
        load_model(base)


@pytest.mark.parametrize("raised", [ImportError, AttributeError, TypeError, RecursionError])
def test_whatever_is_raised_is_one_sentence(
    base: Path, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def fail(*_: Any, **__: Any) -> None:
        raise raised("no such thing")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(InputError, match=r"cannot load it as a causal LM .no such thing"):
        load_model(base)


@pytest.mark.parametrize(
    "values",
    [
        {"attn_implementation": "flash_attention_2"},
        {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": "eager"},
        {"output_attentions": True},
    ],
)
def test_how_attention_is_computed_is_ours_to_choose(
    base: Path, made: Made, values: dict[str, Any]
) -> None:
    edit(base / "config.json", **values)
    usual: Any = load_model(made.base)
    loaded: Any = load_model(base)
    config = Made(made.study, base).trunk(2)
    untrained: Any = build_untrained(config, made.study)
    for model in (loaded, untrained):
        assert model.config._attn_implementation == usual.config._attn_implementation == "sdpa"
    ids = torch.arange(8)[None]
    assert torch.equal(loaded(ids).logits, usual(ids).logits)


# ----------------------------------------------------------------------- folders and hub ids
@contextmanager
def no_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Count the requests to a hub that cannot be reached."""
    import huggingface_hub

    asked: list[str] = []

    def refuse(name: str, **_: Any) -> str:
        asked.append(name)
        raise OSError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub, "snapshot_download", refuse)
        yield asked


@pytest.mark.parametrize(
    "name", ["models/typo", "./typo", "a/b/c", "/no/such", "~/typo", "two words"]
)
def test_a_folder_that_is_not_there_is_said_without_asking_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    with no_hub(monkeypatch) as asked, pytest.raises(InputError, match="no such folder; check"):
        locate_checkpoint(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    with no_hub(monkeypatch) as asked, pytest.raises(InputError, match="no such folder; check"):
        load_model(name)
    assert asked == []


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="is a file; give the folder"):
        locate_checkpoint("model.bin", tmp_path)


def test_a_hub_id_without_a_connection_is_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from huggingface_hub import constants

    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="checkpoint owner/name: no such folder, and the hub"):
        load_model("owner/name")
    assert waits == []  # A retry waits before the request.
