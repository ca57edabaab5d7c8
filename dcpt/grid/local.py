"""The local engine: worker processes on this machine, one per device or core.

A worker is started once and kept, since each new process costs seconds of imports, and on an
accelerator the compilation of every size. There it trains some small runs side by side; locks,
errors and resume stay per run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from dcpt.grid.planned import PlannedRun
from dcpt.run_folders import RunFolder, write_error
from dcpt.runs import RunConfig
from dcpt.study import StudyFolder

_RETRY_ELSEWHERE_S = 1.0
_LEAVE_S = 5.0

GPU_LANES = 3
"""Runs side by side on one GPU. With nine an H100 trains 2 % more tokens of small models, and the
first of them is done three times later (``experiments/benchmarks/train.py``)."""

SHARED_PARAMS = 300e6
"""Parameters that runs side by side may have together; a larger model trains alone, since it fills
the device by itself and may need all of its memory."""


@dataclass(frozen=True)
class Slot:
    """What one worker runs on.

    Attributes:
        device: The device.
        threads: Threads that it may use on the CPU.
        lanes: Runs that it may train side by side, if they are small.
    """

    device: str = "cpu"
    threads: int = 1
    lanes: int = 1

    def lanes_for(self, n_params: float) -> int:
        """Runs of models of that size that it may train side by side."""
        return max(1, min(self.lanes, int(SHARED_PARAMS // n_params)))


@dataclass
class Outcome:
    """How a call of the engine ended, by run name."""

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass
class _Worker:
    process: Any
    connection: Connection
    slot: Slot
    busy_with: dict[str, PlannedRun] = field(default_factory=dict)

    def has_room_for(self, run: PlannedRun) -> bool:
        """Whether the run may begin here beside those that are under way."""
        largest = max(one.about_n_params for one in [run, *self.busy_with.values()])
        return len(self.busy_with) < self.slot.lanes_for(largest)


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_slots(workers: int | None = None) -> list[Slot]:
    """A slot per GPU where there are GPUs, else one single-threaded slot per core.

    Two single-threaded workers train some 30 % more tokens of small models than one process of
    two threads does.
    """
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return [Slot(f"cuda:{i % count}", lanes=GPU_LANES) for i in range(workers or count)]
    cores = count_cores()
    count = workers or cores
    # torch's own number of threads heeds OMP_NUM_THREADS: several grids can share a machine.
    threads = max(1, min(torch.get_num_threads(), cores // count))
    return [Slot("cpu", threads) for _ in range(count)]


class LocalEngine:
    """Trains planned runs in worker processes.

    Args:
        folder: The study.
        slots: One entry a worker.
        on_tick: Called several times a second while runs are under way.
    """

    def __init__(
        self, folder: StudyFolder, slots: Sequence[Slot], on_tick: Callable[[], None] | None = None
    ) -> None:
        self.folder, self.slots = folder, list(slots)
        self.on_tick = on_tick or (lambda: None)

    def run(self, planned: Sequence[PlannedRun]) -> Outcome:
        """Train all runs that are not done; a failed one does not stop the others.

        Returns:
            Which runs finished and which failed, with the reason; a run whose base or trunk
            failed counts as failed.
        """
        queue = _Queue(planned, {r.config.identity.hash for r in planned if self._is_done(r)})
        slots = self.slots[: max(1, len(queue.pending))]
        workers = [self._start(slot) for slot in slots] if queue.pending else []
        try:
            while queue.pending or any(worker.busy_with for worker in workers):
                queue.fail_orphans([run for w in workers for run in w.busy_with.values()])
                self._assign(queue, workers)
                self._collect(queue, workers)
                self.on_tick()
        finally:
            self._end(workers)
        return queue.outcome

    def _is_done(self, run: PlannedRun) -> bool:
        return RunFolder.of(run.config, self.folder.runs).is_done(run.config)

    def _start(self, slot: Slot) -> _Worker:
        context = multiprocessing.get_context("spawn")
        # glibc hands freed memory back after every step otherwise, which small models feel.
        os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**32))
        os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**32))
        ours, theirs = context.Pipe()
        arguments = (theirs, str(self.folder.path), slot, os.getpid())
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, slot)

    def _end(self, workers: list[_Worker]) -> None:
        """Let idle workers leave by themselves, so that they tidy up; kill those under way."""
        for worker in workers:
            worker.connection.close()
        for worker in workers:
            if not worker.busy_with:
                worker.process.join(_LEAVE_S)
            worker.process.kill()
            worker.process.join()

    def _assign(self, queue: _Queue, workers: list[_Worker]) -> None:
        """Hand out the runs that are ready, each to the worker that has the fewest."""
        for run in queue.ready():
            name = run.config.name
            fit = [
                worker
                for worker in workers
                if worker.has_room_for(run)
                and not worker.busy_with.keys() & queue.to_be_alone
                and not (name in queue.to_be_alone and worker.busy_with)
            ]
            if not fit:
                continue
            worker = min(fit, key=lambda one: len(one.busy_with))
            try:
                worker.connection.send(run.config.model_dump(mode="json"))
            except OSError:
                return  # the worker died: _collect replaces it
            queue.pending.remove(run)
            worker.busy_with[name] = run

    def _collect(self, queue: _Queue, workers: list[_Worker]) -> None:
        """Take what the workers report; replace a worker that died."""
        wait([worker.connection for worker in workers], timeout=0.2)
        for index, worker in enumerate(workers):
            try:
                while worker.connection.poll():
                    name, state, words = worker.connection.recv()
                    queue.end(worker.busy_with.pop(name), state, words)
            except (EOFError, ConnectionError):
                worker.process.join()
                self._bury(queue, worker)
                workers[index] = self._start(worker.slot)

    def _bury(self, queue: _Queue, worker: _Worker) -> None:
        """What became of the runs of a worker that died: done before that, failed, or unclear.

        Where it trained several, one took the others along: each goes on alone, to show which.
        """
        words = f"its process ended with exit code {worker.process.exitcode}"
        for name, run in worker.busy_with.items():
            if self._is_done(run):
                queue.end(run, "finished")
            elif len(worker.busy_with) > 1:
                queue.to_be_alone.add(name)
                queue.pending.append(run)
            else:
                folder = RunFolder.of(run.config, self.folder.runs)
                queue.end(run, "failed", write_error(folder, words, ""))


class _Queue:
    """The runs that are still to be trained, and what became of the others.

    Attributes:
        pending: Runs that nobody trains.
        to_be_alone: Names of runs that have no others beside them.
        outcome: The runs that ended.
    """

    def __init__(self, planned: Sequence[PlannedRun], done: set[str]) -> None:
        self.pending = [run for run in planned if run.config.identity.hash not in done]
        self.to_be_alone: set[str] = set()
        self.outcome = Outcome()
        self._done = done
        self._not_before: dict[str, float] = {}

    def ready(self) -> list[PlannedRun]:
        """The runs that can begin now, costliest first."""
        now = time.monotonic()
        return [
            run
            for run in sorted(self.pending, key=lambda run: -run.cost)
            if self._done.issuperset(run.needs)
            and now >= self._not_before.get(run.config.name, 0.0)
        ]

    def end(self, run: PlannedRun, state: str, words: str = "") -> None:
        """Note how a run ended.

        One that another process trains is asked for again later, one that found too little memory
        goes on alone.
        """
        if state == "elsewhere":
            self._not_before[run.config.name] = time.monotonic() + _RETRY_ELSEWHERE_S
            self.pending.append(run)
        elif state == "crowded":
            self.to_be_alone.add(run.config.name)
            self.pending.append(run)
        elif state == "failed":
            self.outcome.failed[run.config.name] = words
        else:
            self._done.add(run.config.identity.hash)
            self.outcome.finished.append(run.config.name)

    def fail_orphans(self, busy: Sequence[PlannedRun]) -> None:
        """Runs that wait for one that failed fail with it."""
        alive = {run.config.identity.hash for run in [*self.pending, *busy]} | self._done
        for run in list(self.pending):
            if not alive.issuperset(run.needs):
                self.pending.remove(run)
                self.outcome.failed[run.config.name] = "the run it starts from failed"


# --------------------------------------------------------------------------------- worker
def _work(connection: Connection, study: str, slot: Slot, parent: int) -> None:
    """A worker's life: train the runs it is handed, a step of each in turn, until told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    import torch

    from dcpt.training.lanes import Lanes

    torch.set_num_threads(slot.threads)
    lanes = Lanes(Path(study), slot.device)
    while True:
        while not len(lanes) or connection.poll():
            try:
                lanes.add(RunConfig.model_validate(connection.recv()))
            except EOFError:
                return
        for ended in lanes.advance():
            connection.send((ended.run, ended.state, ended.words))
            if ended.state == "failed" and slot.device != "cpu":
                # After an error of the device itself nothing works in this process any more: it
                # ends here, and its other runs go on in a new one.
                torch.cuda.synchronize(slot.device)


def _end_with_parent(parent: int) -> None:
    """A killed parent must not leave a worker training on under a lock."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
