"""The parts of the Slurm engine, with a queue that is told what it holds."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from submitit.core.utils import FailedJobError

import dcpt
from dcpt import leases
from dcpt.engines.node import Order, describe_run, read_run
from dcpt.engines.slurm import client, endings, job
from dcpt.engines.slurm import engine as slurm_engine
from dcpt.engines.slurm.client import JobState, NoAnswerError
from dcpt.engines.slurm.engine import SlurmEngine, check_gpus, check_time
from dcpt.engines.slurm.job import train_job
from dcpt.engines.slurm.packs import Pack, arrays_of, pack_runs
from dcpt.engines.slurm.submissions import (
    Submission,
    read_submissions,
    still_queued,
    write_submissions,
)
from dcpt.engines.slurm.submit import JobEnd, Submitter, log_file
from dcpt.errors import InputError, Stopped
from dcpt.grid.planned import PlannedRun
from dcpt.leases import Lease, LeaseLostError
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder
from dcpt.study.engine import SlurmSection
from dcpt.study.folder import StudyFolder
from dcpt.training.loop import train

FINE: JobEnd = {"refused": None, "stopped": False, "advanced": True, "stalled": False}


class FakeSlurm(Submitter):
    """Takes jobs, and does with each of them what the test says."""

    def __init__(self, folder: StudyFolder, ends: dict[int, str], section: SlurmSection) -> None:
        super().__init__(folder, section)
        self.ends = ends  # how the n-th job ends; others train their runs
        self.states: dict[str, str] = {}
        self.after: list[Sequence[str]] = []
        self.sent: list[list[str]] = []

    def submit(
        self,
        submission: Submission,
        packs: Sequence[Pack],
        after: Sequence[str],
        known: dict[str, PlannedRun],
    ) -> str:
        self.after.append(after)
        for pack in packs:
            state = self.ends.get(len(self.sent), "COMPLETED")
            self.sent.append([run.name for run in pack.runs])
            for run in pack.runs if state == "COMPLETED" else ():
                train(run.config, self.folder.path)
        first = len(self.states)
        for index in range(len(packs)):
            job_id = f"{first}_{index}" if len(packs) > 1 else f"{first}"
            self.states[job_id] = self.ends.get(len(self.sent) - len(packs) + index, "COMPLETED")
        return f"{first}"


@pytest.fixture
def slurm(study: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A Slurm whose jobs have left the queue when it is asked."""
    # Every family has a job of its own.
    fake = FakeSlurm(StudyFolder(study), {}, SlurmSection(job_time=0.01))
    monkeypatch.setattr(client, "check_here", lambda: None)
    monkeypatch.setattr(client, "live_jobs", dict)
    monkeypatch.setattr(endings, "end_states", lambda _: fake.states)
    monkeypatch.setattr(endings, "read_end", lambda *_: FINE)
    monkeypatch.setattr(slurm_engine, "_POLL_S", 0.0)
    return fake


def seconds_of(runs: Sequence[PlannedRun], *_: object) -> dict[str, float]:
    return {run.name: float(run.trained_tokens) for run in runs}


def trunks_of(study: Path) -> list[PlannedRun]:
    return [run for run in Workspace(study).planned if run.config.identity.kind == "trunk"]


# ------------------------------------------------------------------------ packs
def test_a_trunk_shares_a_job_with_its_decays_and_with_others_that_fit(study: Path) -> None:
    planned = Workspace(study).planned
    unfinished = {run.identity_hash for run in planned}
    seconds = seconds_of(planned)
    family = seconds[planned[1].name] + seconds[planned[2].name]
    base, *jobs = pack_runs(planned, unfinished, seconds, job_s=family)
    assert [run.config.identity.kind for run in base.runs] == ["pretrain"]
    assert [len(job.runs) for job in jobs] == [2, 2]
    assert all(job.runs[0].identity_hash in job.runs[1].needs for job in jobs)
    assert {job.waits_for for job in jobs} == {frozenset({planned[0].identity_hash})}
    _, job = pack_runs(planned, unfinished, seconds, job_s=2 * family)
    assert len(job.runs) == 4
    packs = pack_runs(planned, unfinished, seconds, 2 * family, alone=[planned[1].name])
    assert [len(pack.runs) for pack in packs] == [1, 2, 2]


def test_jobs_with_the_same_base_are_an_array(study: Path) -> None:
    planned = Workspace(study).planned
    packs = pack_runs(planned, {run.identity_hash for run in planned}, seconds_of(planned), 1.0)
    (none, bases), (needs, trunks) = arrays_of(packs)
    assert (none, len(bases)) == ((), 1)
    assert (needs, len(trunks)) == ((planned[0].identity_hash,), 2)


def test_a_run_reaches_its_job_as_plain_values(study: Path) -> None:
    for run in Workspace(study).planned:
        assert read_run(describe_run(run)) == run


# ------------------------------------------------------------------ submissions
def test_a_submission_whose_id_was_not_heard_is_found_by_its_name(study: Path) -> None:
    folder = StudyFolder(study)
    lost, gone = Submission("lost", (("a",), ("b",))), Submission("gone", (("c",),), "7")
    write_submissions(folder, [lost, gone])
    live = {f"12_{i}": JobState("lost", "PENDING", "Priority") for i in range(2)}
    queued, jobs = still_queued(read_submissions(folder), live)
    assert [each.name for each in queued] == ["lost"]
    assert [(job.id, job.runs) for job in jobs] == [("12_0", ("a",)), ("12_1", ("b",))]


def test_a_damaged_record_of_jobs_is_refused_with_a_remedy(study: Path) -> None:
    folder = StudyFolder(study)
    write_submissions(folder, [Submission("a", (("a",),), "1")])
    record = folder.path / "slurm" / "jobs.json"
    record.write_text(record.read_text().replace('"1"', '"2"'))
    with pytest.raises(InputError, match=r"jobs.json: .*damaged.*; move it away and rerun"):
        read_submissions(folder)


def test_a_second_call_submits_nothing_that_is_queued(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, *others = Workspace(study).planned
    train(base.config, study.parent)
    families = [tuple(run.identity_hash for run in others[i : i + 2]) for i in (0, 2)]
    slurm.prepare()
    write_submissions(slurm.folder, [Submission("earlier", (families[0],), "5")])
    queues = [{"5": JobState("earlier", "RUNNING", "None")}] * 2

    def live_jobs() -> dict[str, JobState]:
        if queues:
            return queues.pop()
        for run in others[:2]:  # the job of the earlier call ends
            train(run.config, study.parent)
        return {}

    monkeypatch.setattr(client, "live_jobs", live_jobs)
    assert not SlurmEngine(slurm, seconds_of).run([base, *others]).failed
    assert slurm.sent == [[run.name for run in others[2:]]]


def test_jobs_that_another_call_submits_meanwhile_are_left_to_it(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = Workspace(study).planned
    theirs = Submission("theirs", (tuple(run.identity_hash for run in planned),), "5")
    queue: dict[str, JobState] = {}
    looks: list[bool] = []
    n_waits = 0

    @contextmanager
    def wait_and_hold(stem: Path, *_: object) -> Iterator[Lease]:
        nonlocal n_waits
        n_waits += 1
        if n_waits == 2:  # the lock of submitting, while the other call has it
            write_submissions(slurm.folder, [theirs])
            queue["5"] = JobState("theirs", "RUNNING", "None")
        with leases.wait_and_hold(stem) as lease:
            yield lease

    def live_jobs() -> dict[str, JobState]:
        looks.append("5" in queue)
        if sum(looks) == 3:  # the other call's job ends
            for run in planned:
                train(run.config, study.parent)
            queue.clear()
        return dict(queue)

    monkeypatch.setattr(slurm_engine, "wait_and_hold", wait_and_hold)
    monkeypatch.setattr(client, "live_jobs", live_jobs)
    assert len(SlurmEngine(slurm, seconds_of).run(planned).finished) == 5
    assert slurm.sent == []
    assert read_submissions(slurm.folder) == [theirs]


@pytest.mark.usefixtures("listening")
def test_a_signal_ends_a_call_that_waits_for_another_to_submit(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def say(words: str) -> None:
        said.append(words)
        os.kill(os.getpid(), signal.SIGINT)

    slurm.prepare()
    with (
        leases.hold(slurm.folder.path / "slurm" / "lease"),
        pytest.raises(Stopped, match="0 jobs of Slurm go on") as caught,
    ):
        SlurmEngine(slurm, seconds_of, say=say).run(Workspace(study).planned)
    assert caught.value.number == signal.SIGINT
    (words,) = said
    assert words.startswith(f"another process ({os.getpid()} on ")
    assert words.endswith("submits jobs of this study; waiting")


def test_a_call_that_lost_the_lock_records_no_job(study: Path, slurm: FakeSlurm) -> None:
    slurm.prepare()

    def submit(*_: object) -> str:
        (lease,) = (slurm.folder.path / "slurm").glob("lease.*")
        lease.unlink()
        return "1"

    slurm.submit = submit  # type: ignore[method-assign]
    with pytest.raises(LeaseLostError):
        SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)
    (record,) = read_submissions(slurm.folder)
    assert record.job_id is None


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Batch job submission failed: Socket timed out on send/recv operation", NoAnswerError),
        ("Unable to contact slurm controller (connect failure)", NoAnswerError),
        ("Slurm temporarily unable to accept job, sleeping and retrying", NoAnswerError),
        ("Batch job submission failed: Invalid account", InputError),
    ],
)
def test_a_busy_controller_is_no_refusal(
    study: Path, monkeypatch: pytest.MonkeyPatch, words: str, kind: type[Exception]
) -> None:
    class Executor:
        def map_array(self, *_: object) -> None:
            raise FailedJobError(f"sbatch: error: {words}")

    submitter = Submitter(StudyFolder(study), SlurmSection())
    submitter.prepare()
    monkeypatch.setattr(submitter, "_executor", lambda *_: Executor())
    base = Workspace(study).planned[0]
    sent = Submission("name", ((base.identity_hash,),))
    with pytest.raises(kind, match=re.escape(words)):
        submitter.submit(sent, [Pack((base,), frozenset())], [], {base.identity_hash: base})


def test_jobs_whose_submission_had_no_answer_are_looked_for_in_the_queue(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue: dict[str, JobState] = {}
    n_looks = 0

    def submit(submission: Submission, *_: object) -> str:
        assert not queue, "submitted again"
        # Two arrays are meant: that of the base, and that of the trunks, which is never sent.
        queue["7"] = JobState(submission.name, "RUNNING", "None")
        raise NoAnswerError("sbatch: Socket timed out")

    def live_jobs() -> dict[str, JobState]:
        nonlocal n_looks
        n_looks += bool(queue)
        if n_looks == 3:
            for run in Workspace(study).planned:
                train(run.config, study.parent)
            queue.clear()
        return dict(queue)

    said: list[str] = []
    monkeypatch.setattr(slurm, "submit", submit)
    monkeypatch.setattr(client, "live_jobs", live_jobs)
    SlurmEngine(slurm, seconds_of, say=said.append).run(Workspace(study).planned[:1])
    assert "Slurm does not answer (sbatch: Socket timed out); the jobs go on" in said[0]
    (record,) = read_submissions(slurm.folder)
    assert record.job_id in (None, "7")


def test_jobs_that_slurm_takes_late_are_submitted_once(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue: dict[str, JobState] = {}
    names: list[str] = []

    def submit(submission: Submission, *_: object) -> str:
        assert not names, "submitted again"
        names.append(submission.name)
        raise NoAnswerError("sbatch: Socket timed out")

    def live_jobs() -> dict[str, JobState]:
        n_looks.append(1)
        if len(n_looks) == 6:
            queue["7"] = JobState(names[0], "RUNNING", "None")
        if len(n_looks) == 8:
            train(planned[0].config, study.parent)
            queue.clear()
        return dict(queue)

    n_looks: list[int] = []
    planned = Workspace(study).planned[:1]
    monkeypatch.setattr(slurm, "submit", submit)
    monkeypatch.setattr(client, "live_jobs", live_jobs)
    assert not SlurmEngine(slurm, seconds_of).run(planned).failed
    assert names


def test_a_submission_without_an_id_is_waited_for_two_minutes(study: Path) -> None:
    folder, now = StudyFolder(study), time.time()
    sent = [Submission(f"{age}", (("a",),), sent_at=now - age) for age in (100, 130)]
    write_submissions(folder, sent)
    left, jobs = still_queued(read_submissions(folder), {})
    assert (left, jobs) == (sent[:1], [])


def test_refused_jobs_are_submitted_again_at_once(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = Workspace(study).planned
    with monkeypatch.context() as patch:
        patch.setattr(slurm, "submit", refuse)
        with pytest.raises(InputError, match="refused"):
            SlurmEngine(slurm, seconds_of).run(planned)
    assert not read_submissions(slurm.folder)
    assert not SlurmEngine(slurm, seconds_of).run(planned).failed


def refuse(*_: object) -> str:
    raise InputError("Slurm refused the jobs of engine.slurm: Invalid account")


@pytest.mark.usefixtures("listening")
def test_a_signal_that_also_ended_sbatch_is_no_refusal(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(*_: object) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        raise InputError("Slurm refused the jobs of engine.slurm: ")

    monkeypatch.setattr(slurm, "submit", submit)
    with pytest.raises(Stopped, match="rerun the same command"):
        SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)


# ---------------------------------------------------------------------- endings
def test_jobs_of_trunks_wait_for_that_of_their_base(study: Path, slurm: FakeSlurm) -> None:
    said: list[str] = []
    outcome = SlurmEngine(slurm, seconds_of, say=said.append).run(Workspace(study).planned)
    assert len(outcome.finished) == 5
    assert slurm.after == [[], ["0"]]
    assert re.fullmatch(r"submitted 4 runs in 2 jobs: 1 \(dcpt\.\S+\), after 1 job", said[1])
    assert not SlurmEngine(slurm, seconds_of).run(Workspace(study).planned).finished
    assert len(slurm.sent) == 3


def test_a_lost_job_is_submitted_once_more(study: Path, slurm: FakeSlurm) -> None:
    slurm.ends = {1: "NODE_FAIL"}
    outcome = SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)
    assert (len(outcome.finished), outcome.failed) == (5, {})
    assert slurm.sent[3] == slurm.sent[1]


def test_a_run_whose_jobs_are_lost_twice_fails(study: Path, slurm: FakeSlurm) -> None:
    slurm.ends = {1: "NODE_FAIL", 3: "TIMEOUT"}
    outcome = SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)
    trunk, branch = slurm.sent[1]
    assert list(outcome.failed) == [trunk, branch]
    assert "ended in TIMEOUT, the second of its jobs" in outcome.failed[trunk]
    assert outcome.failed[branch] == "the run it starts from failed"
    assert len(outcome.finished) == 3


def test_a_run_is_left_to_an_ended_job_that_is_started_again(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.ends = {1: "FAILED", 3: "FAILED"}  # the job of a trunk, and that of its second try
    monkeypatch.setattr(endings, "read_end", lambda *_: None)
    slurm.prepare()
    for job_id in ("1_0", "3"):
        log_file(slurm.folder, job_id).touch()
    runs = {run.name: run for run in Workspace(study).planned}
    n_looks = 0

    def live_jobs() -> dict[str, JobState]:
        nonlocal n_looks
        n_looks += len(slurm.sent) == 4
        if 2 <= n_looks <= 6:  # after the second try was submitted
            return {"1_0": JobState("back", "RUNNING", "None")}
        for name in slurm.sent[1] if n_looks > 6 else ():
            train(runs[name].config, study.parent)
        return {}

    monkeypatch.setattr(client, "live_jobs", live_jobs)
    outcome = SlurmEngine(slurm, seconds_of).run([*runs.values()])
    assert (len(outcome.finished), outcome.failed) == (5, {})
    assert slurm.sent[3] == slurm.sent[1]
    assert len(slurm.sent) == 4


def test_a_job_killed_for_memory_is_one_sentence_after_the_others_ended(
    study: Path, slurm: FakeSlurm
) -> None:
    slurm.ends = {1: "OUT_OF_MEMORY"}
    with pytest.raises(InputError) as caught:
        SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)
    (sentence,) = caught.value.problems
    assert "was killed for memory; what was trained is kept: raise engine.slurm.mem" in sentence
    assert len(list((study.parent / "runs").glob("*/result.json"))) == 3
    trunk = next(run for run in trunks_of(study) if run.name == slurm.sent[1][0])
    error = RunFolder.of(trunk.config, slurm.folder.runs).error()
    assert error is not None
    assert error["kind"] == "out_of_memory"


def test_a_cancelled_job_is_not_submitted_again(study: Path, slurm: FakeSlurm) -> None:
    slurm.ends = {1: "CANCELLED"}
    outcome = SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)
    assert "was cancelled; rerun the same command" in outcome.failed[slurm.sent[1][0]]
    assert len(slurm.sent) == 3


@pytest.mark.parametrize("late", ["RUNNING", "PENDING", "COMPLETING"])
def test_a_cancelled_job_of_which_the_accounting_is_late_is_looked_at_again(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    slurm.ends = {1: "CANCELLED"}
    n_asked = 0

    def end_states(_: object) -> dict[str, str]:
        nonlocal n_asked
        n_asked += 1
        return slurm.states if n_asked > 2 else dict.fromkeys(slurm.states, late)

    monkeypatch.setattr(endings, "end_states", end_states)
    outcome = SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)
    assert "was cancelled; rerun the same command" in outcome.failed[slurm.sent[1][0]]
    assert (len(slurm.sent), n_asked) == (3, 3)


def test_an_accounting_that_never_hears_of_an_end_is_not_waited_for(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.ends = {1: "NODE_FAIL"}
    monkeypatch.setattr(endings, "_MOST_LATE_LOOKS", 2)
    monkeypatch.setattr(endings, "end_states", lambda ids: dict.fromkeys(ids, "RUNNING"))
    outcome = SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)
    assert len(outcome.finished) == 5
    assert slurm.sent[3] == slurm.sent[1]


def test_the_controller_is_asked_how_a_job_ended_then_the_accounting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = {
        "scontrol": 'case "$4" in 1_0) echo "JobId=2 ArrayJobId=1 JobState=CANCELLED Reason=None";;'
        ' *) echo "Invalid job id specified" >&2; exit 1;; esac',
        "sacct": 'echo "1_1|CANCELLED by 1000"',
    }
    for name, lines in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert client.end_states(["1_0", "1_1", "1_2"]) == {"1_0": "CANCELLED", "1_1": "CANCELLED"}


def test_runs_are_not_submitted_after_their_base_failed(study: Path, slurm: FakeSlurm) -> None:
    slurm.ends = {0: "CANCELLED", 1: "COMPLETED?", 2: "COMPLETED?"}
    outcome = SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)
    assert len(outcome.failed) == 5
    assert len(slurm.sent) == 3


def test_slurm_that_does_not_answer_ends_no_job(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, True, False])  # for picking up, submitting and looking; then it is back

    def live_jobs() -> dict[str, JobState]:
        if next(answers, True):
            return {}
        raise NoAnswerError("squeue: timed out")

    said: list[str] = []
    monkeypatch.setattr(client, "live_jobs", live_jobs)
    outcome = SlurmEngine(slurm, seconds_of, say=said.append).run(Workspace(study).planned)
    assert len(outcome.finished) == 5
    assert any("Slurm does not answer (squeue: timed out)" in line for line in said)


# -------------------------------------------------------------- without progress
def start_job(
    study: Path, monkeypatch: pytest.MonkeyPatch, to_step: int | None, warned_after_s: float = 0.0
) -> JobEnd:
    """Start a job that is warned after a step of its run; None: before a step."""

    def train_here(*_: object) -> None:
        if to_step is not None:
            train(Workspace(study).planned[0].config, study.parent, stop_at_step=to_step)
        raise Stopped(signal.SIGUSR2, "time is up")

    monkeypatch.setattr(job, "train_here", train_here)
    return train_job(order(study, warned_after_s=warned_after_s))


@pytest.fixture
def requeued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that asked to be started again."""
    asked: list[str] = []
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setattr(job, "requeue", asked.append)
    monkeypatch.setattr(job, "_UNTIL_KILLED_S", 0.0)
    return asked


def test_a_job_without_progress_is_started_once_more_and_no_more(
    study: Path, requeued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_job(study, monkeypatch, to_step=2)
    first = start_job(study, monkeypatch, to_step=2)  # saves the same step again
    assert (first["advanced"], first["stalled"], requeued) == (False, False, ["12"] * 2)
    second = start_job(study, monkeypatch, to_step=2)
    assert (second["advanced"], second["stalled"], requeued) == (False, True, ["12"] * 2)


def test_a_job_with_progress_in_between_is_started_again(
    study: Path, requeued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = [start_job(study, monkeypatch, step) for step in (None, 1, None, 2)]
    assert [end["advanced"] for end in ends] == [False, True, False, True]
    assert not any(end["stalled"] for end in ends)
    assert requeued == ["12"] * 4


def test_a_job_that_is_preempted_without_progress_is_started_again(
    study: Path, requeued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = [start_job(study, monkeypatch, None, warned_after_s=600.0) for _ in range(3)]
    assert not any(end["stalled"] for end in ends)
    assert requeued == ["12"] * 3


def test_a_task_puts_itself_back_and_not_its_array(
    study: Path, requeued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")  # that of the last task is its own id too
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "9")
    start_job(study, monkeypatch, to_step=1)
    assert requeued == ["12_9"]


@pytest.mark.usefixtures("listening")
def test_a_job_that_is_warned_before_it_trains_is_started_again(
    study: Path, requeued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_: object) -> list[object]:  # loads torch, for seconds
        os.kill(os.getpid(), signal.SIGUSR2)
        return []

    monkeypatch.setattr(job, "_saved", look)
    end = train_job(order(study, warned_after_s=600.0))
    assert (end["stopped"], requeued) == (True, ["12"])
    assert not list((study.parent / "runs").glob("*/result.json"))


@pytest.mark.parametrize(("minutes", "seconds"), [(240.0, 14190.0), (3.0, 0.0)])
def test_a_warning_before_the_end_of_the_time_limit_is_a_preemption(
    study: Path, minutes: float, seconds: float
) -> None:
    submitter = Submitter(StudyFolder(study), SlurmSection(time_limit=minutes))
    submitter.prepare()
    base = Workspace(study).planned[0]
    assert submitter._order(Pack((base,), frozenset()), {}).warned_after_s == seconds


def test_a_run_whose_job_has_no_time_for_it_fails(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.ends = {1: "COMPLETED?"}
    end: JobEnd = {"refused": None, "stopped": True, "advanced": False, "stalled": True}
    monkeypatch.setattr(endings, "read_end", lambda *_: end)
    outcome = SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)
    assert "raise engine.slurm.time_limit, and rerun" in outcome.failed[slurm.sent[1][0]]
    assert len(slurm.sent) == 3


def test_a_run_whose_jobs_end_early_without_progress_fails_at_the_second(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.ends = {1: "COMPLETED?", 3: "COMPLETED?"}
    end: JobEnd = {"refused": None, "stopped": True, "advanced": False, "stalled": False}
    monkeypatch.setattr(endings, "read_end", lambda *_: end)
    outcome = SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)
    assert "the second of its jobs" in outcome.failed[slurm.sent[1][0]]
    assert slurm.sent[3] == slurm.sent[1]
    assert len(slurm.sent) == 4


# -------------------------------------------------------------------- bad input
def order(study: Path, **changed: object) -> dict[str, object]:
    submitter = Submitter(StudyFolder(study), SlurmSection())
    submitter.prepare()
    base = Workspace(study).planned[0]
    known = {base.identity_hash: base}
    order = asdict(submitter._order(Pack((base,), frozenset()), known))
    assert Order(**order)
    return {**order, **changed}


def test_a_node_with_another_version_of_dcpt_is_refused(study: Path) -> None:
    words = train_job(order(study, version="9.9"))["refused"]
    assert words is not None
    assert f"has dcpt {dcpt.__version__}, and the study was submitted with 9.9" in words
    assert not (study.parent / "runs").exists()


def test_a_node_that_sees_another_folder_is_refused(study: Path) -> None:
    words = train_job(order(study, marker="another"))["refused"]
    assert words is not None
    assert "does not see the study's folder" in words


def test_a_node_without_the_gpus_is_refused(study: Path) -> None:
    words = train_job(order(study, gpus=99))["refused"]
    assert words is not None
    assert re.search(r"shows a job \d+ GPUs, and the study asks for 99", words)


def test_a_refusal_of_a_node_ends_the_call(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.ends = dict.fromkeys(range(3), "COMPLETED?")
    monkeypatch.setattr(endings, "read_end", lambda *_: {**FINE, "refused": "node n1 has dcpt 2"})
    with pytest.raises(InputError, match="job 0: node n1 has dcpt 2"):
        SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)


def test_a_cluster_without_a_shared_folder_is_named(
    study: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.ends = dict.fromkeys(range(3), "FAILED")
    monkeypatch.setattr(endings, "read_end", lambda *_: None)
    assert not log_file(slurm.folder, "0").exists()
    with pytest.raises(InputError, match="put the study on a file system that all nodes share"):
        SlurmEngine(slurm, seconds_of).run(Workspace(study).planned)


def test_a_machine_without_slurm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="no sbatch; run the command on a login node"):
        client.check_here()


def test_a_time_limit_shorter_than_a_checkpoint_interval_is_refused(study: Path) -> None:
    runs = Workspace(study).planned  # checkpoints are 60 s apart
    check_time(SlurmSection(time_limit="3m"), runs)
    with pytest.raises(InputError, match=r"engine.slurm.time_limit: 2 minutes are too short"):
        check_time(SlurmSection(time_limit=2), runs)


def test_a_run_over_more_gpus_than_a_job_has_is_refused(study: Path) -> None:
    base = Workspace(study).planned[0]
    wide = PlannedRun(base.config, n_devices=4)
    check_gpus(SlurmSection(gpus_per_node=4), [wide])
    with pytest.raises(InputError, match=r"raise gpus_per_node, or lower training\.gpus_per_run"):
        check_gpus(SlurmSection(gpus_per_node=2), [wide])


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("cpus-per-task", "write the key cpus_per_task"),
        ("cpus_per_task", "write the key cpus_per_task"),
        ("mem", "write the key memory"),
        ("dependency", "leave it out"),
        ("job-name", "leave it out"),
        ("no-requeue", "leave it out"),
    ],
)
def test_an_option_that_dcpt_sets_is_refused(key: str, instead: str) -> None:
    with pytest.raises(ValueError, match=f"of sbatch itself: '{key}': .*{instead}"):
        SlurmSection(extra={key: "8", "qos": "long"})


def test_a_job_that_is_warned_before_it_listens_goes_on(study: Path, tmp_path: Path) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print('goes on')"
    (tmp_path / "job.py").write_text(script, encoding="utf-8")
    executor = Submitter(StudyFolder(study), SlurmSection())._executor("name", [])
    command = f"{executor.python} {shlex.quote(str(tmp_path / 'job.py'))}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "goes on\n")


def test_an_option_that_is_false_is_left_out(study: Path) -> None:
    section = SlurmSection(extra={"exclusive": False, "contiguous": True, "qos": "long"})
    executor = Submitter(StudyFolder(study), section)._executor("name", [])
    assert executor.parameters["additional_parameters"] == {
        "contiguous": True,
        "qos": "long",
        "requeue": True,
    }


def test_a_percent_sign_in_the_path_is_refused(study: Path) -> None:
    folder = study.parent / "50%"
    folder.mkdir()
    with pytest.raises(InputError, match="rename the folder without %"):
        Submitter(StudyFolder(folder / "study.yaml"), SlurmSection()).prepare()


def test_partitions_that_slurm_hides_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinfo = tmp_path / "sinfo"
    sinfo.write_text('#!/bin/sh\necho main; case "$*" in *--all*) echo hidden;; esac\n')
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    client.check_partition("main,hidden")
    with pytest.raises(InputError, match="no partition 'other'"):
        client.check_partition("other")


def test_a_folder_of_a_person_is_not_written_to(study: Path) -> None:
    (study.parent / "slurm").mkdir()
    (study.parent / "slurm" / "mine.txt").write_text("")
    with pytest.raises(InputError, match="did not make this one; rename it"):
        Submitter(StudyFolder(study), SlurmSection()).prepare()


@pytest.mark.parametrize(
    ("text", "minutes"), [("90", 90), ("2h", 120), ("90m", 90), ("1d", 1440), ("1.5h", 90)]
)
def test_times(text: str, minutes: float) -> None:
    assert SlurmSection(time_limit=text).time_limit == minutes


@pytest.mark.parametrize("text", ["", "2 weeks", "-1", "true", "1:30:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time; write minutes, or 90m, 2h or 1d"):
        SlurmSection(time_limit=text)


def test_the_engine_is_no_part_of_a_run(study: Path) -> None:
    before = [run.name for run in Workspace(study).planned]
    with study.open("a", encoding="utf-8") as file:
        file.write(f"engine: {{kind: slurm, slurm: {{partition: main}}}}{os.linesep}")
    assert [run.name for run in Workspace(study).planned] == before
