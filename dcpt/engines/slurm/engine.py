"""The Slurm engine: submits what no job trains yet, and watches the run folders and the queue.

The jobs need nobody who watches. A call that was stopped, or killed, leaves them in the queue; the
next call finds them by the record in the study's folder and submits only what is left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TypeVar

from dcpt.engines.engine import Say, Tick
from dcpt.engines.seldom import SeldomMessages
from dcpt.engines.slurm import client
from dcpt.engines.slurm.client import JobState, NoAnswerError
from dcpt.engines.slurm.endings import Endings
from dcpt.engines.slurm.packs import Pack, arrays_of, pack_runs
from dcpt.engines.slurm.submissions import (
    Job,
    Submission,
    read_submissions,
    slurm_folder,
    still_queued,
    write_submissions,
)
from dcpt.engines.slurm.submit import SIGNAL_S, Submitter, check_installed
from dcpt.engines.slurm.times import occupied_seconds
from dcpt.errors import InputError, Stopped
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import Outcome, RunQueue
from dcpt.leases import Lease, Owner, wait_and_hold
from dcpt.processes import note_signals
from dcpt.quantities import count_things
from dcpt.study.engine import SlurmSection
from dcpt.study.folder import StudyFolder

T = TypeVar("T")

Seconds = Callable[[Sequence[PlannedRun], SlurmSection, StudyFolder], dict[str, float]]

_POLL_S = 10.0
"""Seconds between two questions to Slurm, whose controller serves all users of the cluster."""

_TICK_S = 1.0


class SlurmEngine:
    """Trains planned runs in Slurm jobs.

    Args:
        submitter: Submits jobs of the study.
        seconds: Tells how long the runs occupy a job.
        on_tick: Called with the queue every second.
        say: Called with a sentence when jobs were submitted, and when their states changed.
    """

    def __init__(
        self,
        submitter: Submitter,
        seconds: Seconds = occupied_seconds,
        on_tick: Tick | None = None,
        say: Say | None = None,
    ) -> None:
        self.submitter, self._price = submitter, seconds
        self.folder: StudyFolder = submitter.folder
        self.section: SlurmSection = submitter.section
        self.on_tick, self.say = on_tick or (lambda _: None), say or (lambda _: None)
        self._jobs: dict[str, Job] = {}
        self._all_jobs: dict[str, Job] = {}
        self._gone: set[str] = set()
        self._seconds: dict[str, float] = {}
        self._endings = Endings(self.folder)
        self._signals: Sequence[int] = ()
        self._seldom = SeldomMessages(self.say)

    def run(self, planned: Sequence[PlannedRun]) -> Outcome:
        """Train all runs that are not done; a failed one does not stop the others.

        In the main thread, SIGINT, SIGTERM and SIGHUP end the call. The jobs go on.

        Raises:
            InputError: If there is no Slurm, it refuses the jobs, a node does not fit the study,
                or a job was killed for memory. What was trained is kept.
            Stopped: If a signal stopped the call.
        """
        queue = RunQueue(planned, self.folder)
        if not queue.is_unfinished:
            return queue.outcome
        self._check(queue)
        with note_signals() as self._signals:
            self._pick_up(queue)
            while queue.is_unfinished:
                self._check_signals()
                self._submit(queue)
                self._wait(queue)
                self._look(queue)
                self.on_tick(queue)
        self._endings.check_memory()
        return queue.outcome

    def _check(self, queue: RunQueue) -> None:
        """Refuse a machine, a section or runs that cannot work."""
        client.check_here()
        check_installed()
        self._ask(lambda: client.check_partition(self.section.partition))
        check_time(self.section, list(queue.pending.values()))
        check_gpus(self.section, list(queue.pending.values()))
        self.submitter.prepare()

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask Slurm; no answer ends the call, since nothing was submitted yet."""
        try:
            return question()
        except NoAnswerError as error:
            self._check_signals()  # Ctrl-C also ends the commands of Slurm
            raise InputError(f"engine slurm: {error}; check the cluster, and rerun") from None

    # --------------------------------------------------------------- submitting
    def _pick_up(self, queue: RunQueue) -> None:
        """Find the jobs of earlier calls that have not ended."""
        with self._lock():
            live = self._ask(client.live_jobs)
            _, jobs = still_queued(read_submissions(self.folder), live)
        self._note(jobs, queue)
        if self._jobs:
            n_runs = sum(self._has_job(run) for run in queue.pending.values())
            self.say(f"{count_things(len(self._jobs), 'job')} of earlier calls with {n_runs} runs")

    def _lock(self) -> AbstractContextManager[Lease]:
        return wait_and_hold(slurm_folder(self.folder) / "lease", self._wait_for)

    def _wait_for(self, owner: Owner | None) -> None:
        self._check_signals()
        if owner is not None:
            self._seldom.say(
                f"another process ({owner.pid} on {owner.host}) submits jobs of this study; waiting"
            )

    def _check_signals(self) -> None:
        """Raise Stopped if a signal arrived."""
        if self._signals:
            raise Stopped(self._signals[0], self._stop_message())

    def _note(self, jobs: Sequence[Job], queue: RunQueue) -> None:
        """Watch jobs; those that train nothing of this plan are left out."""
        planned = {run.identity_hash for run in queue.planned}
        ours = {job.id: job for job in jobs if planned.intersection(job.runs)}
        self._jobs |= ours
        self._all_jobs |= ours

    def _has_job(self, run: PlannedRun) -> bool:
        return any(run.identity_hash in job.runs for job in self._jobs.values())

    def _submit(self, queue: RunQueue) -> None:
        """Submit the pending runs that are in no job, bases before what starts from them."""
        pending = [run for run in queue.planned if run.name in queue.pending]
        if all(map(self._has_job, pending)):
            return
        self._seconds = self._seconds or self._price(queue.planned, self.section, self.folder)
        try:
            with self._lock() as lease:
                self._submit_left(pending, queue, lease)
        except NoAnswerError as error:
            self._say_no_answer(error)

    def _submit_left(self, pending: Sequence[PlannedRun], queue: RunQueue, lease: Lease) -> None:
        """Submit the runs that are in no job of any call.

        Slurm is asked while no other call can submit. A job that another call submitted after an
        earlier question would count as ended, and its runs would be submitted twice.
        """
        submissions, jobs = still_queued(read_submissions(self.folder), client.live_jobs())
        self._note(jobs, queue)
        may_come = {
            key for sent in submissions if sent.may_come for pack in sent.packs for key in pack
        }
        left = [
            run for run in pending if run.identity_hash not in may_come and not self._has_job(run)
        ]
        unfinished = {run.identity_hash for run in [*pending, *queue.running.values()]}
        packs = pack_runs(left, unfinished, self._seconds, 60 * self.section.job_time, queue.alone)
        known = {run.identity_hash: run for run in queue.planned}
        for run in left:  # an error there is of an earlier attempt
            queue.folders[run.name].clear_error()
        for waits_for, array in arrays_of(packs):
            sent = self._send(lease, submissions, array, waits_for, known)
            submissions.append(sent)
            self._note(sent.jobs, queue)

    def _send(
        self,
        lease: Lease,
        submissions: Sequence[Submission],
        packs: Sequence[Pack],
        waits_for: Sequence[str],
        known: dict[str, PlannedRun],
    ) -> Submission:
        """Submit an array, recorded before and after, while this call alone may submit.

        Without an answer the record stays without an id: its name is looked for in the queue for
        two minutes before its runs are submitted again.
        """
        hashes = tuple(tuple(run.identity_hash for run in pack.runs) for pack in packs)
        sent = Submission(self.submitter.name(packs), hashes, sent_at=time.time())
        lease.check()
        write_submissions(self.folder, [*submissions, sent])
        after = sorted(job.id for job in self._jobs.values() if set(job.runs) & set(waits_for))
        try:
            job_id = self.submitter.submit(sent, packs, after, known)
        except NoAnswerError:
            self._check_signals()  # Ctrl-C also ends sbatch
            raise
        except InputError:
            self._check_signals()
            lease.check()
            write_submissions(self.folder, submissions)  # nothing will come
            raise
        sent = replace(sent, job_id=job_id)
        lease.check()
        write_submissions(self.folder, [*submissions, sent])
        n_runs = sum(map(len, hashes))
        behind = f", after {count_things(len(after), 'job')}" if after else ""
        self.say(
            f"submitted {count_things(n_runs, 'run')} in {count_things(len(packs), 'job')}: "
            f"{job_id} ({sent.name}){behind}"
        )
        return sent

    # ----------------------------------------------------------------- watching
    def _wait(self, queue: RunQueue) -> None:
        deadline = time.monotonic() + _POLL_S
        while time.monotonic() < deadline and not self._signals:
            self.on_tick(queue)
            time.sleep(min(_TICK_S, _POLL_S))

    def _look(self, queue: RunQueue) -> None:
        """Ask Slurm about the jobs, and read the folders of the runs that they train."""
        try:
            live = client.live_jobs()
        except NoAnswerError as error:  # the jobs go on without the controller
            self._say_no_answer(error)
            return
        self._note_further(live, queue)
        by_hash = {run.identity_hash: run for run in queue.planned}
        for job in self._jobs.values():
            state = live.get(job.id)
            if state is not None and state.is_waiting:
                continue
            runs = [by_hash[key] for key in job.runs if key in by_hash]
            for run in runs:
                if run.name in queue.pending:
                    queue.take(run)
                if run.name in queue.running and _has_result(queue, run):
                    queue.end(run, "finished")
        # A job is settled at the second look without it: the accounting and the files of another
        # node are seconds late.
        gone = {job.id: job for job in self._jobs.values() if job.id not in live}
        settled = [job for key, job in gone.items() if key in self._gone]
        others = [job for job in self._jobs.values() if job not in settled]
        elsewhere = {key for job in others for key in job.runs}
        later = self._endings.settle(settled, by_hash, queue, elsewhere)
        for key in (self._gone & gone.keys()) - later:
            del self._jobs[key]
        self._gone = (gone.keys() - self._gone) | later
        self._seldom.say(self._describe(live))

    def _note_further(self, live: Mapping[str, JobState], queue: RunQueue) -> None:
        """Watch jobs that another call submitted, and ended jobs that are in the queue again.

        ``scontrol requeue`` also starts a job again that has ended, and so does a controller that
        was killed before it saved the end (in a campaign, within a second of it). Its runs were
        perhaps submitted again since.
        """
        _, jobs = still_queued(read_submissions(self.folder), live)
        back = [job for job in self._all_jobs.values() if job.id in live]
        self._note([*jobs, *back], queue)

    def _describe(self, live: Mapping[str, JobState]) -> str:
        ours = [live[job_id] for job_id in self._jobs if job_id in live]
        waiting = [state for state in ours if state.is_waiting]
        if not ours:
            return ""
        reasons = Counter(state.reason for state in waiting).most_common()
        words = ", ".join(f"{n} {reason}" for reason, n in reasons)
        n_running = len(ours) - len(waiting)
        return f"Slurm: {count_things(n_running, 'job')} running, {len(waiting)} waiting" + (
            f" ({words})" if words else ""
        )

    def _say_no_answer(self, error: NoAnswerError) -> None:
        self._seldom.say(f"Slurm does not answer ({error}); the jobs go on, asking again")

    def _stop_message(self) -> str:
        return (
            f"stopped watching; {count_things(len(self._jobs), 'job')} of Slurm go on without this "
            "process; rerun the same command to watch them, or end them with scancel"
        )


def check_time(section: SlurmSection, runs: Sequence[PlannedRun]) -> None:
    """Refuse a time limit within which a job may save nothing.

    Raises:
        InputError: If it is too short.
    """
    longest = max((run.config.recorded.checkpoint_every_s for run in runs), default=0.0)
    if 60 * section.time_limit <= longest + SIGNAL_S:
        raise InputError(
            f"engine.slurm.time_limit: {section.time_limit:g} minutes are too short to save a run: "
            f"its checkpoints are {longest:g} s apart, and a job is told {SIGNAL_S} s before its "
            "end; raise the limit, or lower training.checkpoint_every_s"
        )


def check_gpus(section: SlurmSection, runs: Sequence[PlannedRun]) -> None:
    """Refuse runs that need more GPUs than a node has.

    Raises:
        InputError: Names the run and the key.
    """
    devices = section.gpus_per_node or section.cpus_per_task
    most = max(runs, key=lambda run: run.n_devices, default=None)
    if most is not None and most.n_devices > devices:
        raise InputError(
            f"run {most.name} trains over {most.n_devices} devices, and a job of engine.slurm has "
            f"{devices}; raise gpus_per_node, or lower training.gpus_per_run"
        )


def _has_result(queue: RunQueue, run: PlannedRun) -> bool:
    """Whether a run is done; the file is looked for first, since reading all takes long."""
    return (queue.folders[run.name].path / "result.json").exists() and queue.is_done(run)
