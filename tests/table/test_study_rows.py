from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_configs import run_config

from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import Decay, RunConfig
from dcpt.runs.stored import read_stored
from dcpt.table.study_rows import read_study_rows


def leave(runs: Path, config: RunConfig, *ends: int, loss: float = 3.0) -> RunFolder:
    folder = RunFolder.of(config, runs)
    folder.write_config(config)
    with folder.open_metrics() as metrics:
        for end in ends:
            point = {
                "event": "point",
                "n_tokens": end,
                "phase": "annealed" if config.identity.decay else "constant",
                "n_params": 5000,
                "n_params_non_embedding": 4000,
                "eval_id": "x",
                "loss": {"en": loss, "law": 4.0},
            }
            metrics.write(json.dumps(point) + "\n")
    return folder


def test_rows_carry_the_table_s_names_and_a_branch_its_trunk_s(tmp_path: Path) -> None:
    trunk = run_config()
    decay = Decay(start_tokens=100, n_tokens=10)
    branch = run_config(n_tokens=110, kind="branch", trunk=trunk.identity.hash, decay=decay)
    folder = leave(tmp_path, trunk, 50, 100)
    leave(tmp_path, branch, 110)
    found = read_study_rows(read_stored(tmp_path), [trunk, branch])
    assert [row["n_tokens"] for row in found.rows] == [110, 50, 100]
    assert {row["run"] for row in found.rows} == {folder.path.name}
    assert found.rows[0]["branch_n_tokens"] == 100
    assert (found.rows[0]["loss_general"], found.rows[0]["loss_domain"]) == (3.0, 4.0)
    assert not any("excluded" in row for row in found.rows)


def test_what_the_study_asks_for_now_decides(tmp_path: Path) -> None:
    trunk, other, verifying = run_config(), run_config(ratio=0.9), run_config("verify", ratio=0.7)
    for config in (trunk, other, verifying):
        leave(tmp_path, config, 50, 100)
    found = read_study_rows(read_stored(tmp_path), [trunk])
    assert found.left_out == [RunFolder.of(other, tmp_path).path.name]
    reasons = {row["ratio"]: row.get("excluded") for row in found.rows}
    assert reasons == {0.5: None, 0.7: "verification run"}
    # A share that was verified first and is in the grid now counts like any other.
    again = read_study_rows(read_stored(tmp_path), [trunk, run_config(ratio=0.7)])
    assert not any("excluded" in row for row in again.rows)


def test_runs_that_refine_a_decision_are_fitted_and_named(tmp_path: Path) -> None:
    trunk, chosen = run_config(), run_config("next", ratio=0.7)
    for config in (trunk, chosen):
        leave(tmp_path, config, 50, 100)
    found = read_study_rows(read_stored(tmp_path), [trunk])
    assert found.chosen == [RunFolder.of(chosen, tmp_path).path.name]
    assert {row["ratio"] for row in found.rows} == {0.5, 0.7}
    assert not any("excluded" in row for row in found.rows)
    # In the grid it is a run like any other.
    assert read_study_rows(read_stored(tmp_path), [trunk, run_config(ratio=0.7)]).chosen == []


def test_a_point_whose_training_losses_diverged_is_excluded(tmp_path: Path) -> None:
    trunk = run_config()
    leave(tmp_path, trunk, 100)
    (file,) = tmp_path.glob("*/metrics.jsonl")
    point = {**json.loads(file.read_text()), "train_loss": {"en": 21.9, "law": 3.0}}
    file.write_text(json.dumps(point) + "\n")
    (row,) = read_study_rows(read_stored(tmp_path), [trunk]).rows
    assert row["excluded"] == "diverged: a loss above 20"


def test_what_is_recorded_comes_from_the_study_as_it_is_now(tmp_path: Path) -> None:
    trunk = run_config()
    leave(tmp_path, trunk, 50)
    recorded = trunk.recorded.model_copy(update={"base_peak_learning_rate": 3e-3})
    now = trunk.model_copy(update={"recorded": recorded})
    assert read_study_rows(read_stored(tmp_path), [now]).rows[0]["base_peak_learning_rate"] == 3e-3


@pytest.mark.parametrize(
    ("end", "loss", "reason"),
    [(200, 3.0, "beyond the study's trunk"), (100, 33.0, "diverged: a loss above 20")],
)
def test_rows_that_no_fit_may_see_say_why(
    tmp_path: Path, end: int, loss: float, reason: str
) -> None:
    trunk = run_config()
    leave(tmp_path, trunk, end, loss=loss)
    assert [row["excluded"] for row in read_study_rows(read_stored(tmp_path), [trunk]).rows] == [
        reason
    ]


def test_losses_are_on_the_text_that_the_study_chooses(tmp_path: Path) -> None:
    trunk = run_config()
    folder = leave(tmp_path, trunk, 50)
    (point,) = folder.points()
    on_all = {"eval_id": "y", "loss": {"en": 2.5, "law": 4.0}, "se": {"en": 0.1}}
    folder.metrics.write_text(json.dumps({**point, "event": "point", "all": on_all}) + "\n")
    (clean,) = read_study_rows(read_stored(tmp_path), [trunk]).rows
    assert (clean["loss_general"], clean["all_loss_general"], clean["eval_id"]) == (3.0, 2.5, "x")
    (complete,) = read_study_rows(read_stored(tmp_path), [trunk], "all").rows
    assert (complete["loss_general"], complete["all_loss_general"]) == (2.5, 2.5)
    assert (complete["eval_id"], complete["se_general"]) == ("y", 0.1)


def test_points_of_earlier_versions_have_one_set_of_losses(tmp_path: Path) -> None:
    trunk = run_config()
    leave(tmp_path, trunk, 50)
    rows = [read_study_rows(read_stored(tmp_path), [trunk], text).rows for text in ("clean", "all")]
    assert rows[0] == rows[1]
    assert not any(name.startswith("all_loss_") for name in rows[0][0])
