"""Further runs of a study: chosen, listed, trained once, resumed, and fitted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_this_process import InThisProcess
from tiny_study import write_tiny_study
from typer.testing import CliRunner

import dcpt
from dcpt.cli import app
from dcpt.decide.budget import Budget
from dcpt.errors import InputError, Stopped
from dcpt.grid.planned import PlannedRun, Trunk
from dcpt.grid.queue import Outcome
from dcpt.grid.slots import Slot
from dcpt.pipeline.answer import collect_runs
from dcpt.pipeline.listed_runs import write_listed
from dcpt.pipeline.named_runs import Cancelled, cancel_runs
from dcpt.pipeline.next_runs import runs_not_fitted, trainable_bases
from dcpt.pipeline.refine import chosen_trunks, refine_study
from dcpt.pipeline.rounds import Goal, Refined
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.cancelled import is_cancelled
from dcpt.runs.folders import RunFolder
from dcpt.training.loop import train

LAWS = ("joint-general", "annealed-domain")
TWO = [Slot(), Slot()]
HALF = Budget(0.5, "share")


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> type[InThisProcess]:
    monkeypatch.setattr("dcpt.grid.local.LocalEngine", InThisProcess)
    monkeypatch.setattr(InThisProcess, "trained", [])
    monkeypatch.setattr(InThisProcess, "stop_at", None)
    return InThisProcess


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny study, trained and fitted."""
    study = write_tiny_study(tmp_path_factory.mktemp("refine"))
    prepare_study(Workspace(study), workers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcpt.grid.local.LocalEngine", InThisProcess)
        call("run-grid", study, "--workers", "1")
    laws = [word for law in LAWS for word in ("--law", law)]
    call("fit", study, "--draws", "20", *laws)
    return study


@pytest.fixture
def study(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(trained.parent, tmp_path / "study")
    return tmp_path / "study" / trained.name


def refine(study: Path, budget: Budget = HALF, width: float = 0.0) -> Refined:
    return refine_study(Workspace(study), TWO, Goal(budget, width), laws=LAWS)


def test_two_short_runs_are_trained_fitted_and_verified(
    study: Path, engine: type[InThisProcess]
) -> None:
    refined = refine(study)
    assert [done.n_runs for done in refined.rounds] == [0, 2]
    assert refined.rounds[-1].ended == "the budget is spent"
    assert refined.rounds[-1].spent.share == pytest.approx(0.5)
    short = [name for name in engine.trained if "branch1280" in name]
    assert len(short) == 2
    assert refined.verification is not None
    assert refined.verification.fitted == []
    workspace = Workspace(study)
    fitted = set(runs_not_fitted(workspace, collect_runs(workspace)))
    assert fitted == {run.run for run in refined.verification.runs}
    assert sorted(workspace.rows.chosen) == sorted(_next_trunks(study))


@pytest.mark.long
def test_a_stopped_call_resumes_and_trains_nothing_twice(
    study: Path, engine: type[InThisProcess]
) -> None:
    whole = study.parent.parent / "whole"
    shutil.copytree(study.parent, whole)
    refine(whole / study.name)
    expected = sorted(engine.trained)
    engine.trained.clear()
    for stop_at in (1, 3, 6):
        engine.stop_at = stop_at
        with pytest.raises(Stopped):
            refine(study)
    engine.stop_at = None
    refined = refine(study)
    assert len(set(engine.trained)) == len(engine.trained)
    assert refined.rounds[-1].n_runs == 2
    assert refined.rounds[-1].ended == "the budget is spent"
    # A round whose first run was done when it was stopped has another fit, and may choose another.
    short = [name for name in engine.trained if "branch1280" in name]
    assert len(short) == len([name for name in expected if "branch1280" in name])
    # A further call trains nothing, and verifies the same recommendation.
    engine.trained.clear()
    again = refine(study)
    assert engine.trained == []
    assert again.answer == refined.answer
    assert again.verification == refined.verification


def test_a_larger_budget_goes_on_and_a_narrow_interval_ends(
    study: Path, engine: type[InThisProcess]
) -> None:
    refine(study, Budget(0.25, "share"))
    n_runs = len(engine.trained)
    wide = refine(study, Budget(1.0, "share"), width=1.0)
    assert [done.ended for done in wide.rounds] == ["the interval is at most 1 wide"]
    assert len(engine.trained) == n_runs
    more = refine(study)
    assert [done.n_runs for done in more.rounds] == [1, 2]


@pytest.mark.long
def test_an_opened_study_does_the_same(study: Path) -> None:
    opened = dcpt.open_study(study)
    chosen = opened.next_runs("25%")
    assert [run.base for run in chosen.runs] == ["big"]
    answer = opened.refine("25%", width=0.0, workers=1)
    assert answer.runs_sha256 != chosen.recommendation.runs_sha256
    assert len(chosen_trunks(Workspace(study))) == 1


def test_a_failed_run_ends_the_call(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: InThisProcess, planned: list) -> Outcome:
        return Outcome([], {planned[-1].name: "out of memory"})

    monkeypatch.setattr(InThisProcess, "run", fail)
    refined = refine(study)
    assert list(refined.outcome.failed.values()) == ["out of memory"]
    assert refined.verification is None


def test_a_chosen_run_is_cancelled_by_name_and_trained_by_the_next_call(
    study: Path, engine: type[InThisProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[RunFolder] = []

    def begin(self: InThisProcess, planned: list[PlannedRun]) -> Outcome:
        (config, *_) = (run.config for run in planned if run.config.recorded.purpose == "next")
        train(config, self.folder.path, stop_at_step=2)
        begun.append(RunFolder.of(config, self.folder.runs))
        raise Stopped(2, "stopped")

    with monkeypatch.context() as patch:
        patch.setattr(InThisProcess, "run", begin)
        with pytest.raises(Stopped):
            refine(study)
    (folder,) = begun
    name = folder.path.name
    assert cancel_runs(Workspace(study), [name]) == Cancelled([], [name], [])
    assert call("logs", study, name).startswith(f"{name}: cancelled, ")
    assert refine(study).outcome.is_whole
    assert name in engine.trained
    assert not is_cancelled(folder.path)


def test_in_python_a_cancelled_run_is_named(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cancel(self: InThisProcess, planned: list[PlannedRun]) -> Outcome:
        return Outcome(cancelled=[planned[-1].name])

    call("recommend", study)
    monkeypatch.setattr(InThisProcess, "run", cancel)
    for ask in (dcpt.open_study(study).refine, dcpt.open_study(study).verify):
        with pytest.raises(InputError, match="was cancelled; the same call again trains it"):
            ask(workers=1)


def test_the_fit_names_the_runs_that_were_chosen(study: Path) -> None:
    refine(study, Budget(0.25, "share"))
    record = json.loads(call("fit", study, "--draws", "20", "--law", "joint-general", "--json"))
    assert record["chosen_runs"] == _next_trunks(study)
    assert len(record["chosen_runs"]) == 1


def _next_trunks(study: Path) -> list[str]:
    return [
        folder.path.name
        for folder, config in Workspace(study).stored.sound
        if config.recorded.purpose == "next" and config.identity.kind == "trunk"
    ]


def test_runs_of_another_text_are_not_those_of_the_study(study: Path) -> None:
    refine(study, Budget(0.25, "share"))
    assert len(chosen_trunks(Workspace(study))) == 1
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("batch_sequences: 8", "batch_sequences: 4"), encoding="utf-8")
    assert chosen_trunks(Workspace(study)) == []


def test_next_runs_are_written_included_and_planned(study: Path) -> None:
    chosen = json.loads(call("next-runs", study, "--write", "--json"))
    assert chosen["file"] == str(study.parent / "next_runs.yaml")
    planned = {run.name for run in Workspace(study).planned}
    text = study.read_text(encoding="utf-8")
    study.write_text(f"include: next_runs.yaml\n{text}", encoding="utf-8")
    workspace = Workspace(study)
    assert [run.ratio for run in workspace.study.runs] == [run["ratio"] for run in chosen["runs"]]
    added = [run.config for run in workspace.planned if run.name not in planned]
    assert [run.recorded.n_tokens for run in added] == [1280, 1536, 1280, 1536]
    # Runs that were chosen later are added.
    write_listed(workspace, [Trunk("big", 0.11, 3e-3, 0, 1280)])
    assert len(Workspace(study).study.runs) == 3


def test_a_file_of_a_person_is_not_overwritten(study: Path) -> None:
    file, trunk = study.parent / "next_runs.yaml", Trunk("big", 0.4, 3e-3, 0, 1280)
    file.write_text("runs: []\n", encoding="utf-8")
    with pytest.raises(InputError, match="dcpt did not write this file, or it was changed since"):
        write_listed(Workspace(study), [trunk])
    file.unlink()
    write_listed(Workspace(study), [trunk])
    before = file.read_text(encoding="utf-8")
    file.write_text(before.replace("0.4", "0.5"), encoding="utf-8")
    with pytest.raises(InputError, match="changed since"):
        write_listed(Workspace(study), [trunk])
    file.write_text(before, encoding="utf-8")
    write_listed(Workspace(study), [trunk])
    assert file.read_text(encoding="utf-8") == before  # the same run is listed once


def refused(*words: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*words)
    return str(caught.value)


def test_a_fit_older_than_its_runs_is_refused(study: Path) -> None:
    workspace = Workspace(study)
    for run in workspace.plan_trunks([Trunk("a", 0.4, 3e-3)], "next"):
        if not RunFolder.of(run.config, study.parent / "runs").is_done(run.config):
            train(run.config, study.parent)
    words = refused("next-runs", study)
    assert "the fit is older than the runs: it lacks points of 1 of them (a-r0.4" in words
    assert f"run `dcpt fit {study}` first" in words


def test_a_budget_too_small_for_any_run_is_refused(study: Path) -> None:
    assert "the cheapest costs 25% of" in refused("next-runs", study, "--budget", "5%")
    assert "the cheapest costs 25% of" in refused("refine", study, "--budget", "5%", "--width", "0")
    assert "write it as 25%" in refused("next-runs", study, "--length", "2")


def test_without_the_target_the_largest_base_is_trained(study: Path) -> None:
    text = study.read_text(encoding="utf-8")
    target = "target: {n_params: 42240, tokens: 6144, limit: +20%, base_losses: {en: 1.8, law: 5}"
    target += ", base_peak_learning_rate: 1e-2}"
    study.write_text(text[: text.index("target:")] + target + "\n", encoding="utf-8")
    chosen = json.loads(call("next-runs", study, "--json"))
    assert {run["base"] for run in chosen["runs"]} == {"b"}
    refined = refine(study)
    assert "the study cannot train the target" in refined.not_verified
    small = study.read_text(encoding="utf-8").replace("42240", "5000")
    study.write_text(small, encoding="utf-8")
    assert "add the target's checkpoint under bases.checkpoints" in refused("next-runs", study)


def test_a_base_that_the_grid_does_not_train_is_the_third_size(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dcpt.decide.records import Target
    from dcpt.limit import Limit

    text = study.read_text(encoding="utf-8")
    more = "bases:\n  checkpoints: {c: {model: models/c}}\n"
    study.write_text(text.replace("bases:\n", more), encoding="utf-8")
    known = {"loss": {"en": 2.0, "law": 5.0}, "n_params": 30_000, "peak": None, "n_tokens": None}
    monkeypatch.setattr("dcpt.pipeline.next_runs.known_base", lambda *_: known)
    target = Target(42240, 6144, Limit.parse("+20%"), {"general": 1.8})
    bases = trainable_bases(Workspace(study), target)
    assert list(bases) == ["c"]
    assert bases["c"].losses == {"general": 2.0, "domain": 5.0}
