"""The files of every trainer: shares in its unit, learning rate, steps, batch, stages."""

from __future__ import annotations

import ast
import json
import subprocess
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from made_recipe import DOMAIN, GENERAL, make_recipe

from dcpt.errors import InputError
from dcpt.trainer_configs import TRAINERS, Recipe, Source, find_trainer

WEIGHTS = {"web": 0.7 / 2400, "law": 0.3 / 40}
LAW = WEIGHTS["law"] / sum(WEIGHTS.values())
"""Weight of the documents of ``law`` for 30 % of the tokens."""

ONE_FILE = {"nanotron", "hf-datasets", "yaml"}
"""Trainers whose file holds all stages."""


def write(trainer: str, recipe: Recipe) -> dict[str, str]:
    return find_trainer(trainer).write(recipe)


def read(trainer: str, recipe: Recipe) -> Any:
    """The single YAML file of a trainer."""
    (text,) = [t for name, t in write(trainer, recipe).items() if name.endswith(".yaml")]
    return yaml.safe_load(text)


def bash_arguments(text: str) -> dict[str, list[str]]:
    """Values by option of the array in a bash file, as bash reads it."""
    code = text + 'printf "%s\\0" "${DCPT_ARGS[@]}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for word in done.stdout.split("\0")[:-1]:
        if word.startswith("--"):
            option = word
            found[option] = []
        else:
            found[option].append(word)
    return found


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_file_says_where_it_comes_from_and_how_often_text_is_read(trainer: str) -> None:
    for name, text in write(trainer, make_recipe(own_decay=True)).items():
        if name.endswith(".json"):  # JSON has no comments
            continue
        said = " ".join(text.replace("\n#", "").split())
        assert "# Share of domain text: 30 %." in text
        assert "262M tokens in 1000 steps of 64 sequences of 4096 tokens" in said
        assert "peak 3e-4, warmup of 50 steps, decay: linear to 0 over the last 100 steps." in said
        assert "Source law: 91.8M tokens, 22.9 epochs of 4M unique tokens." in said


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_decay_with_its_own_mixture_is_a_stage(trainer: str) -> None:
    texts = [name for name in write(trainer, make_recipe(own_decay=True)) if "info" not in name]
    stages = [f"{trainer}-1-main", f"{trainer}-2-decay"]
    if trainer in ONE_FILE:
        assert len(texts) == 1
    else:
        assert [name.rpartition(".")[0] for name in texts] == stages
    assert len([n for n in write(trainer, make_recipe()) if "info" not in n]) == 1


@pytest.mark.parametrize("trainer", [name for name, of in TRAINERS.items() if of.draws_documents])
def test_trainers_of_documents_need_their_lengths(trainer: str) -> None:
    recipe = make_recipe()
    sources = {name: replace(source, lengths=None) for name, source in recipe.sources.items()}
    with pytest.raises(InputError, match="web, law are not known"):
        write(trainer, replace(recipe, sources=sources))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_hostile_names_stay_values(trainer: str) -> None:
    path = "a b'\";$(touch x)\n# !!python/object:{}.jsonl"
    source = Source("law", "domain", path=path, lengths=make_recipe().sources["law"].lengths)
    recipe = make_recipe(about=("Command: dcpt export 'x\nimport os'",))
    source = replace(source, unique_tokens=4e6)
    recipe = replace(recipe, sources={**recipe.sources, "law": source})
    for name, text in write(trainer, recipe).items():
        if name.endswith(".py"):
            strings = [n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant)]
            assert path in strings
            assert "import os" not in text.replace("# import os", "")
        elif name.endswith(".sh"):
            assert path in bash_arguments(text)["--data-path"]
        elif name.endswith(".json"):
            assert json.loads(text)["law"]["file_name"] == path
        elif trainer != "llama-factory":  # names there are those of dataset_info.json
            assert path in values_of(yaml.safe_load(text))


def values_of(content: Any) -> list[Any]:
    """All values in a nested content."""
    if isinstance(content, dict):
        return [value for inner in content.values() for value in values_of(inner)]
    if isinstance(content, list):
        return [value for inner in content for value in values_of(inner)]
    return [content]


def test_ms_swift_draws_documents_by_weight() -> None:
    found = read("ms-swift", make_recipe(devices=8))
    assert found["dataset"] == ["web.jsonl", "law.jsonl"]
    assert found["interleave_prob"] == pytest.approx([1 - LAW, LAW])
    assert found["per_device_train_batch_size"] * found["gradient_accumulation_steps"] * 8 == 64
    assert found["truncation_strategy"] == "split"
    assert found["attn_impl"] == "flash_attn"  # it refuses packing otherwise
    assert "resume_from_checkpoint" not in found


def test_a_batch_that_the_devices_cannot_divide_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError) as error:
        make_recipe(devices=7)
    assert str(error.value) == (
        "--devices 7: a batch of 64 sequences cannot be divided among 7 devices; give "
        "--batch-sequences 63 or 70, or another number of devices"
    )
    with pytest.raises(InputError, match="give --batch-sequences 100, or"):
        make_recipe(devices=100)


def test_llama_factory_declares_its_sources() -> None:
    files = write("llama-factory", make_recipe())
    found, declared = yaml.safe_load(files["llama-factory.yaml"]), files["dataset_info.json"]
    probabilities = [float(text) for text in found["interleave_probs"].split(",")]
    assert probabilities == pytest.approx([1 - LAW, LAW])
    assert found["dataset"] == "web,law"
    # Of each batch of documents, half a sequence is dropped: at most 0.1 % of its tokens.
    mean = LAW * DOMAIN.mean + (1 - LAW) * GENERAL.mean
    assert 4096 / 2 <= 0.001 * found["preprocessing_batch_size"] * mean <= 4096 / 2 + mean
    # Without it, LLaMA-Factory starts the decay after a third of the steps.
    assert found["lr_scheduler_kwargs"]["num_stable_steps"] == 1000 - 50 - 100
    assert {name: of["file_name"] for name, of in json.loads(declared).items()} == {
        "web": "web.jsonl",
        "law": "law.jsonl",
    }


def test_axolotl_is_given_as_many_documents_as_the_run_reads() -> None:
    found = read("axolotl", make_recipe())["datasets"]
    counts = {"web.jsonl": 0, "law.jsonl": 0}
    for entry in found:
        part = int(entry["split"].removeprefix("train[:").removesuffix("]"))
        assert part <= 100_000  # the documents of either source
        counts[entry["path"]] += part
    assert counts["law.jsonl"] * 40 == pytest.approx(0.3 * 1000 * 64 * 4096, rel=1e-3)
    assert counts["web.jsonl"] * 2400 == pytest.approx(0.7 * 1000 * 64 * 4096, rel=1e-3)


def test_axolotl_asks_for_the_amount_of_text() -> None:
    recipe = make_recipe()
    law = replace(recipe.sources["law"], unique_tokens=None)
    with pytest.raises(InputError, match="--unique-tokens law=300M"):
        write("axolotl", replace(recipe, sources={**recipe.sources, "law": law}))


def test_megatron_weighs_sequences() -> None:
    (text,) = write("megatron", make_recipe()).values()
    found = bash_arguments(text)
    assert found["--data-path"] == ["0.7", "web.jsonl", "0.3", "law.jsonl"]
    assert found["--lr"] == ["0.0003"]
    assert found["--lr-wsd-decay-iters"] == ["100"]
    assert "--exit-interval" not in found


def test_stages_of_megatron_share_one_schedule() -> None:
    main, decay = write("megatron", make_recipe(own_decay=True)).values()
    first, second = bash_arguments(main), bash_arguments(decay)
    assert first.pop("--exit-interval") == ["900"]
    assert first.pop("--data-path") != second.pop("--data-path")
    assert first == second
    assert "--load" in decay


def test_nemo_takes_the_blend_of_megatron() -> None:
    found = read("nemo", make_recipe())
    assert found["dataset"]["blend"] == [["web.jsonl", "law.jsonl"], [0.7, 0.3]]
    assert found["scheduler"]["lr_decay_style"] == "WSD"


def test_nanotron_changes_the_mixture_by_itself() -> None:
    found = read("nanotron", make_recipe(own_decay=True))
    starts = {stage["name"]: stage["start_training_step"] for stage in found["data_stages"]}
    assert starts == {"main": 1, "decay": 901}
    assert found["data_stages"][1]["data"]["dataset"]["dataset_weights"] == [0.2, 0.8]
    assert found["optimizer"]["learning_rate_scheduler"]["lr_decay_starting_step"] == 900


def test_plain_yaml_has_both_units_and_says_what_is_unknown() -> None:
    recipe = make_recipe()
    (stage,) = read("yaml", recipe)["stages"]
    assert stage["token_shares"] == {"web": 0.7, "law": 0.3}
    assert stage["document_weights"]["law"] == pytest.approx(LAW)
    law = replace(recipe.sources["law"], lengths=None, path=None)
    found = read("yaml", replace(recipe, sources={**recipe.sources, "law": law}))
    assert found["stages"][0]["document_weights"] is None
    assert found["sources"]["law"]["path"] == "PATH-OF-law"


def test_the_module_for_datasets_mixes_documents() -> None:
    from datasets import Dataset

    (text,) = write("hf-datasets", make_recipe(own_decay=True)).values()
    module: dict[str, Any] = {}
    exec(compile(text, "mixture.py", "exec"), module)
    parts = {n: Dataset.from_dict({"of": [n] * size}) for n, size in (("web", 300), ("law", 900))}
    drawn = module["load_mixture"]("main", datasets=parts)["of"]
    assert np.mean([name == "law" for name in drawn]) == pytest.approx(LAW, abs=0.01)
    decay = module["load_mixture"]("decay", datasets=parts)["of"]
    assert sum(name == "web" for name in decay) >= 300  # every source is read completely
    main, last = module["TRAINING_ARGUMENTS"]["main"], module["TRAINING_ARGUMENTS"]["decay"]
    assert (main["max_steps"], main["lr_scheduler_type"]) == (900, "constant_with_warmup")
    assert (last["max_steps"], last["lr_scheduler_type"]) == (1000, "warmup_stable_decay")
    assert last["resume_from_checkpoint"].endswith("900")


@pytest.mark.filterwarnings("ignore:.*num_stable_steps will be used")
def test_rates_of_transformers_are_those_of_the_run() -> None:
    """Both stages together are one schedule: warmup, constant rate, linear decay to 0."""
    import torch
    from transformers import get_scheduler

    rates: dict[int, float] = {}
    for text in write("ms-swift", make_recipe(own_decay=True)).values():
        found = yaml.safe_load(text)
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=found["learning_rate"])
        schedule = get_scheduler(
            found["lr_scheduler_type"],
            optimizer,
            num_warmup_steps=found["warmup_steps"],
            num_training_steps=found["max_steps"],
            scheduler_specific_kwargs=found.get("lr_scheduler_kwargs"),
        )
        for step in range(found["max_steps"]):
            if step not in rates or step >= 900:
                rates[step] = schedule.get_last_lr()[0]
            optimizer.step()
            schedule.step()
    steps = np.arange(1000)
    expected = 3e-4 * np.minimum(steps / 50, np.minimum((1000 - steps) / 100, 1))
    np.testing.assert_allclose([rates[step] for step in steps], expected, atol=1e-12)


def test_a_run_without_a_decay_keeps_its_rate() -> None:
    recipe = make_recipe(decay_steps=0)
    assert read("ms-swift", recipe)["lr_scheduler_type"] == "constant_with_warmup"
    assert read("nemo", recipe)["scheduler"]["lr_decay_style"] == "constant"
    (text,) = write("megatron", recipe).values()
    assert bash_arguments(text)["--lr-decay-style"] == ["constant"]


def test_an_unknown_trainer_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'megatron'"):
        find_trainer("megatron-lm")
