"""``dcpt logs``: the state, the owner, the journal, the error and the stacks of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpt.cli import app
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.failures import add_stacks, write_error
from dcpt.runs.folders import RunFolder
from dcpt.study.folder import StudyFolder

TRAIN = {"event": "train", "n_tokens": 1024, "loss": 3.25, "learning_rate": 3e-3}
EVENTS = (
    {"event": "point", "n_tokens": 0, "loss": {"en": 4.0, "law": 5.0}},
    {**TRAIN, "tokens_per_s": 50.0},
    {"event": "note", "words": "law text ended"},
)


def begin_run(study: Path) -> RunFolder:
    """The folder of a trunk that has begun."""
    trunk = next(r for r in Workspace(study).planned if r.config.identity.kind == "trunk")
    folder = RunFolder.of(trunk.config, StudyFolder(study).runs)
    folder.write_config(trunk.config)
    folder.metrics.write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    return folder


def logs(study: Path, *words: str) -> str:
    result = CliRunner().invoke(app, ["logs", str(study), *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_log_of_a_run_in_training_names_its_process(study: Path) -> None:
    folder = begin_run(study)
    with folder.lock():
        lines = logs(study, folder.path.name).splitlines()
        found = json.loads(logs(study, folder.path.name, "--json"))
    assert lines[0] == f"{folder.path.name}: running, 1,024 of 5,120 tokens"
    assert lines[1] == f"folder: {folder.path}"
    assert lines[2].startswith(f"process: {os.getpid()} on ")
    assert [line.split()[0] for line in lines[-3:]] == ["point", "train", "note"]
    assert "en 4.000  law 5.000" in lines[-3]
    assert (found["state"], found["owner"]["pid"]) == ("running", os.getpid())


def test_the_log_of_a_failed_run_says_why(study: Path) -> None:
    folder = begin_run(study)
    write_error(folder, "no luck", "Traceback: line 1\nline 2", "other")
    add_stacks(folder, "Thread 1\n  in step")
    lines = logs(study, folder.path.name, "--lines", "1").splitlines()
    assert lines[0].startswith(f"{folder.path.name}: failed")
    assert "process" not in "".join(lines)
    assert lines[lines.index("failed: no luck") + 1] == "Traceback: line 1"
    assert lines[lines.index("the end of stacks.txt:") + 1 :] == ["  in step"]
    assert lines[lines.index("the end of metrics.jsonl:") + 1] == "note   law text ended"


def test_a_run_without_a_folder_has_a_log(study: Path) -> None:
    run = Workspace(study).planned[0]
    assert logs(study, run.name).startswith(f"{run.name}: waiting, 0 of")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            {"event": "train", "n_tokens": 1024, "loss": 3.25, "tokens_per_s": None},
            "train            1,024 tokens  loss 3.250",
        ),
        ({"event": "note"}, "note  {'event': 'note'}"),
        ({"event": "saved", "n_tokens": 7}, "saved  {'event': 'saved', 'n_tokens': 7}"),
    ],
)
def test_an_event_without_the_usual_fields_is_shown(
    study: Path, event: dict[str, object], line: str
) -> None:
    folder = begin_run(study)
    folder.metrics.write_text(json.dumps(event) + "\n")
    assert logs(study, folder.path.name).splitlines()[-1] == line
