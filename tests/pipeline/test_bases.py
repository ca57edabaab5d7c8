"""What a study knows of its base before anything is decided."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from dcpt.errors import InputError
from dcpt.grid.slots import Slot
from dcpt.pipeline.answer import collect_runs, read_target, report_on
from dcpt.pipeline.bases import study_target
from dcpt.pipeline.train import evaluate_base, prepare_study, train_study
from dcpt.pipeline.verify import verify_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import hash_record
from dcpt.table import write_runs
from dcpt.training.models import save_model


@pytest.fixture
def study(tiny_study: Path) -> Path:
    """A study of one trunk from a checkpoint of random weights, trained."""
    checkpoints = "  checkpoints: {a: {model: bases/one}}\n"
    text = re.sub("  ladder:.*?(?=grid:)", checkpoints, tiny_study.read_text(), flags=re.DOTALL)
    text = text.replace("bases: [a, b], ratios: [0.25, 0.5, 0.75]", "bases: [a], ratios: [0.5]")
    tiny_study.write_text(text.replace("base: big", "base: a"))
    prepare_study(Workspace(tiny_study), workers=1)
    write_checkpoint(tiny_study.parent, "one", seed=0)
    train(tiny_study)
    return tiny_study


def train(file: Path) -> None:
    assert not train_study(Workspace(file), [Slot()]).failed


def write_checkpoint(folder: Path, name: str, seed: int) -> None:
    torch.manual_seed(seed)
    shape = {"num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 304}
    config = AutoConfig.for_model("llama", hidden_size=16, intermediate_size=32, **shape)
    model = AutoModelForCausalLM.from_config(config)
    save_model(model, folder / "prepared/tokenizer", folder / "bases" / name)


def test_the_base_was_measured_by_its_trunk(study: Path) -> None:
    (trunk,) = [p.parent for p in study.parent.glob("runs/*/config.json") if "branch" not in str(p)]
    start = RunFolder(trunk).points()[0]
    losses = study_target(Workspace(study))["base_losses"]
    assert losses == {"general": start["loss"]["en"], "domain": start["loss"]["law"]}
    assert study_target(Workspace(study))["n_params"] == start["n_params"]

    # What was measured on purpose goes first.
    row = evaluate_base(Workspace(study), "bases/one")
    file = study.parent / "bases/a.json"
    file.write_text(json.dumps({**row, "loss": {"en": 5.0, "law": 6.0}}))  # by hand
    assert study_target(Workspace(study))["base_losses"] == {"general": 5.0, "domain": 6.0}


def test_losses_on_other_text_are_not_taken(study: Path) -> None:
    text = study.read_text()
    study.write_text(text.replace("{tokens: 1024,", "{tokens: 512,"))
    with pytest.raises(InputError, match=r"'a' is not measured.*dcpt evaluate bases/one --study"):
        study_target(Workspace(study))


def test_a_changed_base_leaves_nothing_of_the_old_one(study: Path) -> None:
    old = study_target(Workspace(study))["base_losses"]
    fitted = Workspace(study).fit_folder
    fitted.mkdir()
    write_runs(collect_runs(Workspace(study)), fitted / "runs.csv")
    (trunk,) = [p for p in study.parent.glob("runs/*/config.json") if "branch" not in str(p)]
    config = json.loads(trunk.read_text())
    config["identity"]["seed"], config["recorded"]["purpose"] = 7, "verify"
    config.pop("sha256")
    verified = f"verified-{hash_record(config['identity'])}"
    copy = trunk.parent.with_name(verified)
    shutil.copytree(trunk.parent, copy)
    (copy / "config.json").write_text(json.dumps(config))
    assert verified in set(collect_runs(Workspace(study))["run"])
    read_target(Workspace(study))

    write_checkpoint(study.parent, "two", seed=1)
    study.write_text(study.read_text().replace("bases/one", "bases/two"))
    with pytest.raises(InputError, match="'a' is not measured"):
        study_target(Workspace(study))
    for station in (read_target, report_on):
        with pytest.raises(InputError, match=r"fit is of other weights of base a than.*dcpt fit"):
            station(Workspace(study))
    with pytest.raises(InputError, match="fit is of other weights"):
        verify_study(Workspace(study), [Slot()])

    train(study)
    new = study_target(Workspace(study))["base_losses"]
    assert new.keys() == old.keys()
    assert all(new[name] != old[name] for name in new)
    assert verified not in set(collect_runs(Workspace(study))["run"])
    assert verified in Workspace(study).rows.left_out


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"measured_on": 3}'])
def test_a_torn_measurement_is_named_and_made_again(study: Path, content: str) -> None:
    row = evaluate_base(Workspace(study), "bases/one")
    file = study.parent / "bases/a.json"
    for torn in (content, file.read_text().replace(f"{row['n_params']}", "1")):
        file.write_text(torn)
        with pytest.raises(InputError, match=r"a\.json: the file is damaged .*`dcpt evaluate`"):
            study_target(Workspace(study))
    evaluate_base(Workspace(study), "bases/one")
    assert (study.parent / "bases/a.json.damaged").is_file()
    assert study_target(Workspace(study))["n_params"] == row["n_params"]


def test_a_base_that_changed_in_its_place_is_refused(study: Path) -> None:
    weights = study.parent / "bases/one/model.safetensors"
    content = bytearray(weights.read_bytes())
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"checkpoints\.a: the files of bases/one are not those"):
        Workspace(study).planner.plan()
    weights.write_bytes(content)
    assert Workspace(study).rows.left_out == []


def test_a_broken_base_is_named_before_anything_is_trained(study: Path) -> None:
    write_checkpoint(study.parent, "two", seed=1)
    weights = study.parent / "bases/two/model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, weights, {"format": "pt"})
    study.write_text(study.read_text().replace("bases/one", "bases/two"))
    message = r"the tensor model\.norm\.weight in model\.safetensors has values that are NaN"
    with pytest.raises(InputError, match=r"checkpoints\.a: .*" + message):
        Workspace(study).planner.plan()
    with pytest.raises(InputError, match=message):
        evaluate_base(Workspace(study), "bases/two", "a")


def test_a_base_with_too_few_ids_is_named_before_anything_is_trained(study: Path) -> None:
    config = study.parent / "bases/one/config.json"
    config.write_text(config.read_text().replace('"vocab_size": 304', '"vocab_size": 100'))
    with pytest.raises(InputError, match=r"checkpoints\.a: .* knows ids below 100; prepare the"):
        Workspace(study).planner.plan()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'size,"base\x00\n' * 9])
def test_a_torn_table_of_a_fit_is_named(study: Path, content: bytes) -> None:
    fitted = Workspace(study).fit_folder
    fitted.mkdir()
    (fitted / "runs.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"runs\.csv: the file is damaged .*`dcpt fit"):
        read_target(Workspace(study))
