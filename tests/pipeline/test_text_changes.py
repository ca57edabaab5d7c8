"""Settings of a text that were changed after it was prepared are named, and nothing is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpt.cli import app
from dcpt.errors import InputError
from dcpt.grid.slots import Slot
from dcpt.pipeline.cost import estimate_study
from dcpt.pipeline.text_changes import flag_changed_text
from dcpt.pipeline.train import evaluate_base, prepare_study, train_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder

CHANGES = [
    ("tokenizer: 300", "tokenizer: 310", "tokenizer: 300 -> 310"),
    ("domain.jsonl", "other.jsonl", "channel law: train: domain.jsonl -> other.jsonl"),
    (
        "general.jsonl, valid_fraction: 10%",
        "general.jsonl, valid_fraction: 20%",
        "channel en: valid_fraction: 0.1 -> 0.2",
    ),
    (
        "train: domain.jsonl,",
        "train: domain.jsonl, max_tokens: 9000,",
        "channel law: max_tokens: not set -> 9000",
    ),
    ("tokenizer:", "near_duplicates: 0.5\ntokenizer:", "near_duplicates: 0.4 -> 0.5"),
    ("tokenizer:", "near_duplicates: false\ntokenizer:", "near_duplicates: 0.4 -> false"),
    ("tokenizer:", "add_bos: true\ntokenizer:", "add_bos: not set -> true"),
]


@pytest.fixture
def prepared(tiny_study: Path) -> Path:
    prepare_study(Workspace(tiny_study), workers=1)
    return tiny_study


def edit(study: Path, old: str, new: str) -> None:
    text = study.read_text(encoding="utf-8")
    assert old in text
    study.write_text(text.replace(old, new), encoding="utf-8")


def changes(study: Path) -> list[str]:
    return [name for flag in flag_changed_text(Workspace(study)) for name in flag.values["changes"]]


def remove_settings(study: Path) -> None:
    """Make the record of prepared text look as an earlier version wrote it."""
    path = study.parent / "prepared" / "prepared.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["settings"]
    path.write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize("has_record", [True, False])
@pytest.mark.parametrize(("old", "new", "named"), CHANGES)
def test_a_change_after_prepare_is_named(
    prepared: Path, old: str, new: str, named: str, has_record: bool
) -> None:
    if not has_record:
        remove_settings(prepared)
    assert changes(prepared) == []
    edit(prepared, old, new)
    (change,) = changes(prepared)
    if not has_record and "add_bos" in named:
        assert change == "add_bos: false -> true"
    elif has_record or "valid_fraction" not in named:
        assert change.replace(f"{prepared.parent}/", "") == named
    else:
        assert change.startswith("channel en: valid_fraction: 10.00% of the documents held out")


def test_nothing_is_trained_or_priced_on_text_of_other_settings(prepared: Path) -> None:
    edit(prepared, "tokenizer: 300", "tokenizer: 310")
    rule = (
        rf"{prepared}: settings were changed after the text was prepared \(tokenizer: 300 -> 310\);"
        rf" run `dcpt prepare {prepared}`, or undo the change"
    )
    with pytest.raises(InputError, match=rule):
        train_study(Workspace(prepared), [Slot()])
    with pytest.raises(InputError, match=rule):
        estimate_study(Workspace(prepared), [Slot()])
    with pytest.raises(InputError, match=rule):
        evaluate_base(Workspace(prepared), "model")
    assert not (prepared.parent / "runs").exists()
    status = CliRunner().invoke(app, ["status", str(prepared), "--json"])
    assert status.exit_code == 0
    assert "tokenizer: 300 -> 310" in status.stderr


def test_many_changes_are_counted(prepared: Path) -> None:
    edit(prepared, "valid_fraction: 10%", "valid_fraction: 5%, max_tokens: 9000")
    edit(prepared, "tokenizer: 300", "tokenizer: 310")
    (flag,) = flag_changed_text(Workspace(prepared))
    assert len(flag.values["changes"]) == 5
    assert "; 1 more)" in flag.sentence


def test_another_path_to_the_same_text_is_recorded(prepared: Path) -> None:
    shutil.copy(prepared.parent / "domain.jsonl", prepared.parent / "copy.jsonl")
    edit(prepared, "domain.jsonl", "copy.jsonl")
    assert changes(prepared)
    assert prepare_study(Workspace(prepared), workers=1).did_nothing
    assert changes(prepared) == []


def test_a_study_in_another_place_has_the_same_settings(prepared: Path, tmp_path: Path) -> None:
    remove_settings(prepared)
    moved = tmp_path / "moved"
    shutil.copytree(prepared.parent, moved)
    assert changes(moved / "study.yaml") == []


@pytest.mark.parametrize("has_record", [True, False])
def test_a_channel_that_is_not_prepared_or_not_in_the_study_is_named(
    prepared: Path, has_record: bool
) -> None:
    if not has_record:
        remove_settings(prepared)
    edit(prepared, "name: law", "name: medicine")
    assert changes(prepared) == ["channel medicine: not prepared", "channel law: removed"]


def finish(study: Path) -> None:
    """Make the first base and its trunks look finished."""
    workspace = Workspace(study)
    trunks = [run for run in workspace.planned if run.config.identity.kind == "trunk"]
    for run in [workspace.planned[0], *trunks]:
        folder = RunFolder.of(run.config, workspace.folder.runs)
        folder.write_config(run.config)
        folder.metrics.touch()
        folder.write_result({"n_tokens": run.config.recorded.n_tokens, "loss": {}})


def test_prepare_counts_the_finished_runs_of_other_text(prepared: Path) -> None:
    finish(prepared)
    assert "finished run" not in CliRunner().invoke(app, ["prepare", str(prepared)]).stdout
    edit(prepared, "general.jsonl, valid_fraction: 10%", "general.jsonl, valid_fraction: 20%")
    result = CliRunner().invoke(app, ["prepare", str(prepared)])
    assert result.exit_code == 0
    assert "7 finished runs are of other text than the prepared one" in result.stdout
    assert f"kept in {prepared.parent / 'runs'}" in result.stdout
    assert "7 finished runs" in CliRunner().invoke(app, ["prepare", str(prepared)]).stdout


def test_a_base_stays_that_of_the_text_where_the_domain_changes(prepared: Path) -> None:
    finish(prepared)
    bases = names(prepared, "pretrain")
    edit(prepared, "train: domain.jsonl,", "train: domain.jsonl, max_tokens: 9000,")
    stdout = CliRunner().invoke(app, ["prepare", str(prepared)]).stdout
    assert "6 finished runs are of other text" in stdout
    assert names(prepared, "pretrain") == bases
    # The general text makes another tokenizer, and with it other bases.
    edit(prepared, "train: general.jsonl,", "train: general.jsonl, max_tokens: 9000,")
    prepare_study(Workspace(prepared), workers=1)
    assert not set(names(prepared, "pretrain")) & set(bases)


def names(study: Path, kind: str) -> list[str]:
    runs = (run.config for run in Workspace(study).planned)
    return [run.name for run in runs if run.identity.kind == kind]
