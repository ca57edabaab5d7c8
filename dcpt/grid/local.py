"""The local engine: worker processes on this machine, one per device or core.

A worker is started once and kept, since each new process costs seconds of imports. It is handed
lists of runs; locks, errors and resume stay per run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from dcpt.grid.plan import PlannedRun
from dcpt.runs import RunConfig, RunFolder, write_json
from dcpt.study import StudyFolder

_RETRY_ELSEWHERE_S = 1.0


@dataclass(frozen=True)
class Slot:
    """What one worker runs on: a device, and how many threads it may use on the CPU."""

    device: str = "cpu"
    threads: int = 1


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
    busy_with: list[PlannedRun] = field(default_factory=list)


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
        return [Slot(f"cuda:{i % count}") for i in range(workers or count)]
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
        outcome = Outcome()
        pending = sorted(planned, key=lambda run: -run.cost)
        done = {run.config.identity.hash for run in planned if self._is_done(run)}
        pending = [run for run in pending if run.config.identity.hash not in done]
        slots = self.slots[: max(1, len(pending))]
        workers = [self._start(slot) for slot in slots] if pending else []
        not_before: dict[str, float] = {}
        try:
            while pending or any(worker.busy_with for worker in workers):
                pending = self._fail_orphans(pending, done, workers, outcome)
                self._assign(pending, done, workers, not_before)
                self._collect(pending, done, workers, not_before, outcome)
                self.on_tick()
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()
                worker.connection.close()
        return outcome

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

    def _assign(
        self,
        pending: list[PlannedRun],
        done: set[str],
        workers: list[_Worker],
        not_before: dict[str, float],
    ) -> None:
        """Hand the costliest run that is ready to every idle worker."""
        for worker in workers:
            if worker.busy_with:
                continue
            for run in pending:
                ready = all(need in done for need in run.needs)
                if ready and time.monotonic() >= not_before.get(run.config.identity.hash, 0.0):
                    try:
                        worker.connection.send([run.config.model_dump(mode="json")])
                    except OSError:
                        break  # the worker died idle: _collect replaces it
                    pending.remove(run)
                    worker.busy_with = [run]
                    break

    def _collect(
        self,
        pending: list[PlannedRun],
        done: set[str],
        workers: list[_Worker],
        not_before: dict[str, float],
        outcome: Outcome,
    ) -> None:
        """Take what the workers report; replace a worker that died."""
        wait([worker.connection for worker in workers], timeout=0.2)
        for index, worker in enumerate(workers):
            runs = worker.busy_with
            try:
                if not worker.connection.poll():
                    continue
                answers = worker.connection.recv()
            except (EOFError, ConnectionError):
                worker.process.join()
                words = f"its process ended with exit code {worker.process.exitcode}"
                answers = [self._bury(run, words) for run in runs]
                workers[index] = self._start(worker.slot)
            worker.busy_with = []
            for run, (state, words) in zip(runs, answers, strict=True):
                name, key = run.config.name, run.config.identity.hash
                if state == "elsewhere":
                    not_before[key] = time.monotonic() + _RETRY_ELSEWHERE_S
                    pending.append(run)
                elif state == "failed":
                    outcome.failed[name] = words
                else:
                    done.add(key)
                    outcome.finished.append(name)

    def _bury(self, run: PlannedRun, words: str) -> tuple[str, str]:
        """What became of a run whose worker died: done before that, or failed."""
        if self._is_done(run):
            return "finished", ""
        return "failed", write_error(RunFolder.of(run.config, self.folder.runs), words, "")

    def _fail_orphans(
        self, pending: list[PlannedRun], done: set[str], workers: list[_Worker], outcome: Outcome
    ) -> list[PlannedRun]:
        """Runs that wait for one that failed fail with it."""
        alive = {run.config.identity.hash for run in pending} | done
        alive |= {run.config.identity.hash for w in workers for run in w.busy_with}
        kept = []
        for run in pending:
            if all(need in alive for need in run.needs):
                kept.append(run)
            else:
                outcome.failed[run.config.name] = "the run it starts from failed"
        return kept


def write_error(folder: RunFolder, message: str, trace: str) -> str:
    """Leave ``error.json`` in a run's folder; returns the message, which arrives in any case."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.path / "error.json", {"message": message, "traceback": trace})
    except OSError as full:  # a full disk takes the error file too
        message += f" (and error.json could not be written: {full})"
    return message


# --------------------------------------------------------------------------------- worker
def _work(connection: Connection, study: str, slot: Slot, parent: int) -> None:
    """A worker's life: train each list of runs it is handed, until it is told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    import torch

    torch.set_num_threads(slot.threads)
    while True:
        try:
            runs = [RunConfig.model_validate(run) for run in connection.recv()]
        except EOFError:
            return
        connection.send([_train_one(run, Path(study), slot.device) for run in runs])


def _train_one(config: RunConfig, study: Path, device: str) -> tuple[str, str]:
    """Train one run under its lock; returns its state and, after a failure, the reason."""
    from dcpt.training.loop import train

    folder = RunFolder.of(config, study / "runs")
    try:
        with folder.lock() as mine:
            if not mine:
                return "elsewhere", ""
            if not folder.is_done(config):
                (folder.path / "error.json").unlink(missing_ok=True)
                train(config, study, device=device)
            return "finished", ""
    except Exception as error:  # whatever went wrong belongs to this run alone
        words = f"{type(error).__name__}: {error}"
        return "failed", write_error(folder, words, traceback.format_exc())


def _end_with_parent(parent: int) -> None:
    """A killed parent must not leave a worker training on under a lock."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
