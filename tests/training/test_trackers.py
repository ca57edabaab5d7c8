"""Trackers next to TensorBoard: what the real packages keep, and what happens if one fails."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from made_runs import BATCH_TOKENS, Made

from dcpt.errors import InputError
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training import trackers
from dcpt.training.loop import train, train_stepwise


@pytest.fixture(autouse=True)
def _forget_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_FAILED", {})


def train_in_two_parts(made: Made, tracker: str) -> RunConfig:
    """Train a run of eight steps that is interrupted at the third."""
    config = made.trunk(8, points=(2, 5), trackers=(tracker,), study_name="law")
    train(config, made.study, stop_at_step=3)
    train(config, made.study)
    return config


def losses(folder: RunFolder) -> dict[int, float]:
    return {point["n_tokens"]: point["loss"]["law"] for point in folder.points()}


class Recorder:
    """A tracker in memory that may fail at a number of tokens."""

    opened: list[str]

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self.fails_at = 2 * BATCH_TOKENS
        self.seen: list[int] = []
        Recorder.opened.append(config.name)

    def log(self, scalars: Mapping[str, float], n_tokens: int) -> None:
        self.seen.append(n_tokens)
        if n_tokens >= self.fails_at:
            print("on standard output")
            raise ConnectionError("no route\nto host")

    def close(self, end: trackers.End) -> None:
        raise AssertionError("a tracker that failed is not closed")


def test_a_failing_tracker_is_named_once_and_training_goes_on(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(trackers.KINDS, "wandb", Recorder)
    Recorder.opened = []
    config = made.trunk(6, points=(2, 4), trackers=("wandb",))
    train(config, made.study)
    folder = made.folder(config)
    assert sorted(losses(folder)) == [0, 2 * BATCH_TOKENS, 4 * BATCH_TOKENS, 6 * BATCH_TOKENS]
    notes = [event for event in folder.events() if event.get("tracker")]
    assert [note["words"] for note in notes] == [
        "training goes on without wandb: ConnectionError: no route to host"
    ]
    assert capsys.readouterr().out == ""


def test_the_next_run_of_a_process_does_not_wait_for_a_tracker_that_failed(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers.KINDS, "wandb", Recorder)
    Recorder.opened = []
    first, second = (made.trunk(4, points=(2,), trackers=("wandb",), seed=n) for n in (1, 2))
    train(first, made.study)
    train(second, made.study)
    assert Recorder.opened == [first.name]
    assert [event["tracker"] for event in made.folder(second).events() if "tracker" in event] == [
        "wandb"
    ]


def test_a_tracker_is_told_how_training_ended(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[str] = []

    class Endings(Recorder):
        def log(self, scalars: Mapping[str, float], n_tokens: int) -> None: ...

        def close(self, end: trackers.End) -> None:
            ends.append(end)

    monkeypatch.setitem(trackers.KINDS, "wandb", Endings)
    Recorder.opened = []
    config = made.trunk(8, points=(2, 5), trackers=("wandb",))
    train(config, made.study, stop_at_step=3)
    steps = iter(train_stepwise(config, made.study))
    next(steps)
    steps.close()  # type: ignore[attr-defined]  # as a worker that is asked to stop
    with monkeypatch.context() as broken:
        broken.setattr("dcpt.training.loop.make_point", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config, made.study)
    train(config, made.study)
    assert ends == ["stopped", "stopped", "failed", "finished"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("end", "status"), [("finished", "FINISHED"), ("stopped", "KILLED"), ("failed", "FAILED")]
)
def test_mlflow_shows_how_a_run_ended(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: trackers.End, status: str
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    config = made.trunk(4, trackers=("mlflow",), study_name="law")
    made.folder(config).path.mkdir(parents=True)
    trackers.MLflow(config, made.folder(config)).close(end)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("law")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == status


def test_trackers_do_not_define_a_run(made: Made) -> None:
    plain, tracked = made.trunk(4), made.trunk(4, trackers=("mlflow",), study_name="law")
    assert plain.identity.hash == tracked.identity.hash


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_keeps_the_losses(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from dcpt.trainer_logs import read_logs

    monkeypatch.setenv("WANDB_MODE", "offline")
    config = train_in_two_parts(made, "wandb")
    folder = made.folder(config)
    assert [event for event in folder.events() if "tracker" in event] == []
    read, _ = read_logs([folder.path / "wandb"])
    tracked: dict[int, float] = {}
    for log in read:
        assert log.config["ratio"] == 0.4
        series = log.metrics["loss/law"]
        tracked |= dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))
    assert tracked == pytest.approx(losses(folder))


@pytest.mark.filterwarnings("ignore")
def test_mlflow_resumes_the_run(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    config = train_in_two_parts(made, "mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("law")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == config.name
    assert run.info.status == "FINISHED"
    assert run.data.params["ratio"] == "0.4"
    history = client.get_metric_history(run.info.run_id, "loss/law")
    tracked = {metric.step: metric.value for metric in history}
    assert tracked == pytest.approx(losses(made.folder(config)))


@pytest.mark.filterwarnings("ignore")
def test_trackio_resumes_the_run_and_leaves_others_open(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    other = made.trunk(4, trackers=("trackio",), study_name="law", seed=2)
    made.folder(other).path.mkdir(parents=True)
    failures: list[Any] = []
    beside = trackers.Trackers(other, made.folder(other), lambda *what: failures.append(what))
    config = train_in_two_parts(made, "trackio")
    beside.log({"loss/law": 1.5}, 64)
    beside.close("finished")
    assert failures == []
    tracked = {
        row["step"]: row["loss/law"]
        for row in SQLiteStorage.get_logs("dcpt", config.name)
        if "loss/law" in row
    }
    assert tracked == pytest.approx(losses(made.folder(config)))
    assert [row["loss/law"] for row in SQLiteStorage.get_logs("dcpt", other.name)] == [1.5]


def test_a_missing_package_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()  # a folder that W&B wrote is no package
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in ("wandb", "mlflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    trackers.check_installed([])
    with pytest.raises(InputError, match=r"wandb cannot be imported.* `pip install wandb`"):
        trackers.check_installed(["wandb"])
    with pytest.raises(InputError, match="`pip install mlflow-skinny sqlalchemy alembic`"):
        trackers.check_installed(["mlflow"])
