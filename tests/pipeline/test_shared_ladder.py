"""One ladder of bases for several domains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_study import write_text, write_tiny_study

from dcpt.errors import InputError
from dcpt.grid.slots import Slot
from dcpt.pipeline.bases import known_base
from dcpt.pipeline.train import prepare_study, train_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.study.files import load_study
from dcpt.training.loop import train

OTHER_DOMAIN = "cell gene protein lung enzyme membrane acute plasma receptor other left chronic"
LADDER = """  ladder:
    tokens: 8192
    learning_rate: 1e-2
    sizes:
      a: {width: 16, layers: 1, heads: 1}
      b: {width: 32, layers: 1, heads: 2}
      big: {width: 48, layers: 1, heads: 2}
"""
GRID = "bases: [a, b], ratios: [0.25, 0.5, 0.75]", "bases: [a], ratios: [0.5]"


@pytest.fixture
def law(tmp_path: Path) -> Path:
    """A study of one trunk with a larger target, whose tokenizer does not depend on its domain."""
    folder = tmp_path / "law"
    folder.mkdir()
    file = write_tiny_study(folder)
    file.write_text(file.read_text().replace(*GRID))
    prepare_study(Workspace(file), workers=1)
    shutil.copytree(folder / "prepared/tokenizer", folder / "tokenizer")
    file.write_text(file.read_text().replace("tokenizer: 300", "tokenizer: tokenizer"))
    prepare_study(Workspace(file), workers=1)
    return file


def planned(file: Path, kind: str) -> list[RunConfig]:
    runs = (run.config for run in Workspace(file).planned)
    return [config for config in runs if config.identity.kind == kind]


def train_all(file: Path) -> list[str]:
    """Train what is missing; the names of the runs that were trained."""
    outcome = train_study(Workspace(file), [Slot()])
    assert not outcome.failed
    return outcome.finished


def train_here(file: Path) -> list[str]:
    """As ``train_all``, in this process: a worker takes seconds to start."""
    runs, trained = file.parent / "runs", []
    for config in (run.config for run in Workspace(file).planned):
        if not RunFolder.of(config, runs).is_done(config):
            train(config, file.parent)
            trained.append(config.name)
    assert train_all(file) == []  # measures the target's base
    return trained


def change_domain(file: Path) -> None:
    write_text(file.parent / "domain.jsonl", OTHER_DOMAIN, 150, seed=3)
    prepare_study(Workspace(file), workers=1)


def use_earlier_identities(file: Path) -> list[RunConfig]:
    """Train the bases as earlier versions did: defined by all channels."""
    channels = planned(file, "trunk")[0].identity.channels
    earlier = [
        config.model_copy(
            update={"identity": config.identity.model_copy(update={"channels": channels})}
        )
        for config in planned(file, "pretrain")
    ]
    for config in earlier:
        train(config, file.parent)
    return earlier


def test_another_domain_has_the_same_bases(law: Path) -> None:
    before = planned(law, "pretrain"), planned(law, "trunk")
    change_domain(law)
    after = planned(law, "pretrain"), planned(law, "trunk")
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_another_domain_trains_no_base_again_and_measures_that_of_the_target(law: Path) -> None:
    first = train_all(law)
    assert sum("pretrain" in name for name in first) == 2
    losses = known_base(Workspace(law), "big")["loss"]
    assert losses.keys() == {"en", "law"}

    change_domain(law)
    with pytest.raises(InputError, match="not measured on the validation text as it is now"):
        known_base(Workspace(law), "big")
    second = train_all(law)
    assert len(second) == 2
    assert not any("pretrain" in name for name in second)
    changed = known_base(Workspace(law), "big")["loss"]
    assert changed["law"] != losses["law"]


def test_bases_of_earlier_versions_are_found(law: Path) -> None:
    earlier = use_earlier_identities(law)
    assert planned(law, "pretrain") == earlier
    assert not any("pretrain" in name for name in train_all(law))
    own = RunFolder.of(earlier[-1], law.parent / "runs").points()[-1]
    assert known_base(Workspace(law), "big")["loss"] == own["loss"]
    assert not (law.parent / "bases").exists()

    change_domain(law)
    assert {c.identity.hash for c in planned(law, "pretrain")} == {
        config.identity.hash for config in earlier
    }
    assert not any("pretrain" in name for name in train_all(law))
    assert known_base(Workspace(law), "big")["loss"]["law"] != own["loss"]["law"]


def test_an_earlier_base_that_is_not_done_is_no_base_of_another_domain(law: Path) -> None:
    earlier = use_earlier_identities(law)
    folder = RunFolder.of(earlier[0], law.parent / "runs")
    (folder.path / "result.json").unlink()
    assert planned(law, "pretrain") == earlier  # of this domain: it goes on
    change_domain(law)
    found = {config.recorded.size: config.identity.hash for config in planned(law, "pretrain")}
    known = {config.recorded.size: config.identity.hash for config in earlier}
    changed = {size for size in found if found[size] != known[size]}
    assert changed == {earlier[0].recorded.size}


def test_a_base_is_the_same_with_and_without_the_domain_in_its_identity(law: Path) -> None:
    (config, _) = planned(law, "pretrain")
    train(config, law.parent)
    new = load_file(RunFolder.of(config, law.parent / "runs").model / "model.safetensors")
    shutil.rmtree(law.parent / "runs")
    earlier = use_earlier_identities(law)[0]
    assert earlier.identity.hash != config.identity.hash
    old = load_file(RunFolder.of(earlier, law.parent / "runs").model / "model.safetensors")
    assert all(torch.equal(new[name], old[name]) for name in old)


def start_before_decay(law: Path) -> None:
    text = law.read_text().replace(", warmup: 5%}", "}")
    law.write_text(text.replace("    tokens: 8192", "    tokens: 8192\n    start: before_decay"))


def test_the_target_starts_before_the_decay_of_its_base(law: Path) -> None:
    start_before_decay(law)
    train_all(law)
    losses = known_base(Workspace(law), "big")["loss"]
    law.write_text(law.read_text().replace("bases: [a]", "bases: [big]"))
    train_all(law)  # this trunk starts where the base was measured
    (law.parent / "bases/big.json").unlink()
    assert known_base(Workspace(law), "big")["loss"] == pytest.approx(losses, abs=1e-5)


# ------------------------------------------------------------------ bases of another study


def borrow(law: Path, *changes: tuple[str, str]) -> Path:
    """A study of another domain in a folder of its own that takes the bases of the first."""
    folder = law.parent.parent / "bio"
    folder.mkdir()
    shutil.copy(law.parent / "general.jsonl", folder)
    write_text(folder / "domain.jsonl", OTHER_DOMAIN, 150, seed=3)
    text = law.read_text().replace("    start: before_decay\n", "")
    for old, new in ((LADDER, "  study: ../law/study.yaml\n"), ("tokenizer: tokenizer\n", "")):
        assert old in text
        text = text.replace(old, new)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "study.yaml").write_text(text)
    return folder / "study.yaml"


def test_a_study_takes_the_bases_and_the_tokenizer_of_another(law: Path) -> None:
    bio = borrow(law)
    with pytest.raises(InputError, match=r"base a of .*law/study\.yaml is not trained; run `dcpt"):
        load_study(bio)
    train_all(law)

    prepared = prepare_study(Workspace(bio), workers=1)
    theirs = Workspace(law).planner.prepared
    assert prepared.channels["en"].tokenizer_sha256 == theirs.channels["en"].tokenizer_sha256
    assert prepared.channels["en"].train.sha256 == theirs.channels["en"].train.sha256
    assert len(train_all(bio)) == 2  # a trunk and its decay
    assert planned(bio, "trunk")[0].recorded.base_peak_learning_rate == 1e-2
    big = known_base(Workspace(bio), "big")
    assert big["n_tokens"] == 8192
    assert big["loss"]["en"] == pytest.approx(known_base(Workspace(law), "big")["loss"]["en"])
    assert json.loads((bio.parent / "bases/big.json").read_text())["base"] == "big"


def test_runs_start_from_the_state_before_the_decay_of_bases_of_another_study(law: Path) -> None:
    start_before_decay(law)
    train_here(law)
    bio = borrow(law)
    shutil.copy(law.parent / "domain.jsonl", bio.parent)  # the same text, so the runs are the same
    prepare_study(Workspace(bio), workers=1)
    assert len(train_here(bio)) == 2
    (own,), (theirs,) = planned(bio, "trunk"), planned(law, "trunk")
    assert own.identity == theirs.identity
    assert (own.identity.base_state_tokens, own.identity.warmup_tokens) == (6400, 0)
    assert own.recorded.base_n_tokens == 6400
    losses, expected = (
        [point["loss"] for point in RunFolder.of(run, file.parent / "runs").points()]
        for run, file in ((own, bio), (theirs, law))
    )
    assert losses == expected

    big, known = (known_base(Workspace(file), "big") for file in (bio, law))
    assert big["loss"] == known["loss"]
    assert big["n_tokens"] == known["n_tokens"] == 6400


def test_a_state_before_the_decay_that_is_not_there_is_made_again(law: Path) -> None:
    start_end = law.read_text()
    start_before_decay(law)
    start_before = law.read_text()
    law.write_text(start_end)
    train_here(law)  # keeps no such state
    law.write_text(start_before)
    bio = borrow(law)
    message = r"base a of .* has no saved state at 6400 tokens, .*; run `dcpt run-grid .*law/study"
    with pytest.raises(InputError, match=message):
        load_study(bio)
    assert any("pretrain-a" in name for name in train_here(law))
    load_study(bio)
    (base,) = (run for run in planned(law, "pretrain") if run.recorded.size == "a")
    RunFolder.of(base, law.parent / "runs").state(6400).unlink()
    with pytest.raises(InputError, match=message):
        load_study(bio)
    assert [name.partition("-")[0] for name in train_here(law)] == ["pretrain"]
    load_study(bio)


def test_a_base_is_measured_again_where_runs_take_it_up_elsewhere(law: Path) -> None:
    start_before_decay(law)
    train_here(law)
    bio = borrow(law)
    prepare_study(Workspace(bio), workers=1)
    train_here(bio)
    before = known_base(Workspace(bio), "big")
    law.write_text(law.read_text().replace("start: before_decay", "start: end"))
    with pytest.raises(InputError, match="'big' is not measured"):
        known_base(Workspace(bio), "big")
    train_here(bio)
    finished = known_base(Workspace(bio), "big")
    assert (before["n_tokens"], finished["n_tokens"]) == (6400, 8192)
    assert finished["loss"]["en"] < before["loss"]["en"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("evaluation:", "tokenizer: 300\nevaluation:"), "remove the key tokenizer"),
        (("../law/study.yaml", "study.yaml"), "takes its bases from another study too"),
        (("../law/study.yaml", "../none.yaml"), "name the study that pre-trains the bases"),
        (("base: big", "base: bog"), "did you mean 'big'"),
    ],
)
def test_what_cannot_be_taken_is_refused(law: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_study(borrow(law, change))


def test_bases_of_two_trainings_are_ambiguous(law: Path) -> None:
    train_all(law)
    write_text(law.parent / "general.jsonl", OTHER_DOMAIN, 150, seed=4)
    prepare_study(Workspace(law), workers=1)
    train_all(law)
    with pytest.raises(InputError, match=r"base a of .* was trained 2 times \(pretrain-a-"):
        load_study(borrow(law))
