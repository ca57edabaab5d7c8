"""A channel of side validation: measured at every point, fitted, limited, and never trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_study import STUDY, write_text, write_tiny_study

from dcpt.pipeline.answer import collect_runs
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace
from dcpt.training.loop import train

TASKS = "  - {name: tasks, side: validation, valid: tasks.jsonl}\n"
RUN = "grid:\n  - {bases: [a], ratios: [0.5], learning_rates: [3e-3]}\n"


def write_study(folder: Path, text: str) -> Path:
    study = write_tiny_study(folder)
    write_text(folder / "tasks.jsonl", "fever bone law state tooth river", 2, seed=3)
    study.write_text(text, encoding="utf-8")
    return study


def with_tasks() -> str:
    text = STUDY.replace("tokenizer: 300\n", f"{TASKS}tokenizer: 300\n")
    head, rest = text.split("grid:\n")
    return head + RUN + rest.split("\n", 1)[1]


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workspace]:
    """The study with and without the channel; a base, a trunk and its branch are trained."""
    texts = {"with": with_tasks(), "without": with_tasks().replace(TASKS, "")}
    found, threads = {}, torch.get_num_threads()
    torch.set_num_threads(1)
    for name, text in texts.items():
        workspace = Workspace(write_study(tmp_path_factory.mktemp(name), text))
        prepare_study(workspace, workers=1)
        for run in workspace.planned:
            if run.config.recorded.size == "a":
                train(run.config, workspace.folder.path)
        found[name] = Workspace(workspace.file)
    torch.set_num_threads(threads)
    return found


def test_its_losses_are_in_the_table_with_weight_0(workspaces: dict[str, Workspace]) -> None:
    rows = collect_runs(workspaces["with"])
    assert rows["loss_tasks"].notna().all()
    assert (rows["weight_tasks"] == 0).all()
    assert "share_tasks" not in rows
    assert "loss_general_total" not in rows
    assert (rows["loss_tasks"] - rows["loss_general"]).abs().min() > 1e-3


def test_it_changes_no_other_loss(workspaces: dict[str, Workspace]) -> None:
    own, other = (collect_runs(workspaces[name]) for name in ("with", "without"))
    for name in ("loss_general", "loss_domain", "train_loss_general"):
        pd.testing.assert_series_equal(own[name], other[name])


def test_all_of_a_short_text_is_measured(workspaces: dict[str, Workspace]) -> None:
    record = json.loads((workspaces["with"].folder.prepared / "prepared.json").read_text())
    tasks = record["channels"]["tasks"]
    assert tasks["train"]["tokens"] == 0
    assert tasks["is_trained"] is False
    # Others need more than evaluation.tokens, which this text does not hold.
    assert tasks["valid"]["tokens"] < 1024
    assert np.isfinite(collect_runs(workspaces["with"])["se_tasks"]).all()
