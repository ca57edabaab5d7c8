"""The local engine: worker processes on this machine, one per device or core.

A worker is started once and kept, since each new process costs seconds of imports and, on an
accelerator, the compilation of every size. On an accelerator a worker trains several small runs
side by side; locks, errors and resume stay per run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from dcpt.errors import InputError, Stopped
from dcpt.grid.assign import Place, choose_group, choose_move, choose_place, choose_to_compile
from dcpt.grid.end_words import death_words, hang_words, stop_words
from dcpt.grid.messages import Compile, End, Progress, Ready, Release, Start, Stop
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import Outcome, RunQueue
from dcpt.grid.slots import Slot
from dcpt.grid.worker import work
from dcpt.processes import block_signals, note_signals
from dcpt.runs.failures import ErrorKind, add_stacks, write_error
from dcpt.study.folder import StudyFolder

_PAUSE_S = 30.0
"""Seconds between two looks at the workers after which this process itself was paused, by Ctrl-Z or
a scheduler. Its workers were paused too, and their watchdogs fire when they go on."""

_LEAVE_S = 5.0
_SAVE_S = 25.0
"""Seconds that workers have to save their runs; Slurm kills 30 s after its SIGTERM."""


@dataclass(kw_only=True, eq=False)
class Worker(Place):
    """A worker of the engine.

    Attributes:
        process: A ``multiprocessing`` process, or what stands for one elsewhere.
        connection: The end of a pipe to it, or what has its methods.
        stacks: The file with the stacks of its threads, if it was ended since it hung.
        is_ready: Whether it has said that it takes messages.
    """

    process: Any
    connection: Any
    stacks: Path = Path()
    is_ready: bool = False


class LocalEngine:
    """Trains planned runs in worker processes.

    Args:
        folder: The study.
        slots: An entry for each worker.
        on_tick: Called with the queue several times a second while runs are in training.
    """

    _work = staticmethod(work)

    def __init__(
        self,
        folder: StudyFolder,
        slots: Sequence[Slot],
        on_tick: Callable[[RunQueue], None] | None = None,
    ) -> None:
        self.folder, self.slots = folder, list(slots)
        self.on_tick = on_tick or (lambda _: None)
        self._stacks, self._n_started = Path(), 0
        self._looked, self._resumed = time.monotonic(), float("-inf")

    def run(self, planned: Sequence[PlannedRun]) -> Outcome:
        """Train all runs that are not done; a failed one does not stop the others.

        In the main thread, SIGINT, SIGTERM and SIGHUP stop the call after every run in training is
        saved. A second SIGINT does not wait for that.

        Returns:
            Which runs finished and which failed, with the reason; a run whose base or trunk
            failed counts as failed.

        Raises:
            InputError: If a run needs more devices than there are.
            Stopped: If a signal stopped the call.
        """
        queue = RunQueue(planned, self.folder)
        self._check_devices(list(queue.pending.values()))
        workers: list[Worker] = []
        with note_signals() as signals, tempfile.TemporaryDirectory(prefix="dcpt-") as stacks:
            self._stacks = Path(stacks)
            try:
                most = sum(run.n_devices for run in queue.pending.values())
                workers.extend(map(self._start, self.slots[:most]))
                while queue.is_unfinished and not signals:
                    self._assign(queue, workers)
                    self._collect(queue, workers)
                    self.on_tick(queue)
                queue.measure_occupancy(len(self._accelerators))
            finally:
                # Also if the live view fails because the terminal hung up.
                unsaved = self._save(queue, workers, signals)
                self._end(workers)
                if signals:
                    words = stop_words(signals[0], queue.stopped, unsaved)
                    raise Stopped(signals[0], words)
        return queue.outcome

    def _check_devices(self, pending: Sequence[PlannedRun]) -> None:
        """Refuse runs over more devices than there are."""
        most = max(pending, key=lambda run: run.n_devices, default=None)
        n_devices = len(self._accelerators) or len(self.slots)
        if most is not None and most.n_devices > n_devices:
            raise InputError(
                f"run {most.name} trains over {most.n_devices} devices, and there are "
                f"{n_devices}; lower training.gpus_per_run, use a machine with more, or train the "
                "run over several nodes with dcpt train-run"
            )

    @property
    def _accelerators(self) -> set[str]:
        return {device for slot in self.slots if slot.is_accelerator for device in slot.devices}

    def _start(self, slot: Slot) -> Worker:
        context = multiprocessing.get_context("spawn")
        # Otherwise glibc returns freed memory after every step, which slows down small models.
        os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**32))
        os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**32))
        ours, theirs = context.Pipe()
        self._n_started += 1
        stacks = self._stacks / f"{self._n_started}.txt"
        arguments = (theirs, str(self.folder.path), slot, os.getpid(), str(stacks))
        # A daemonic process may not start the processes of a run over several devices.
        is_daemon = len(slot.devices) == 1
        process = context.Process(target=self._work, args=arguments, daemon=is_daemon)
        with block_signals():
            process.start()
        theirs.close()
        return Worker(slot=slot, process=process, connection=ours, stacks=stacks)

    def _assign(self, queue: RunQueue, workers: list[Worker]) -> None:
        """Send the runs that are ready to workers; move a run if a worker has nothing to do."""
        kept: list[Worker] = []  # for a run that waits for several devices
        ready, all_s = list(queue.ready()), queue.all_seconds_left()
        for run in ready:
            open_to = [w for w in workers if w not in kept and self._is_open(w)]
            if all(len(worker.busy_with) >= worker.slot.lanes for worker in open_to):
                return
            worker = choose_place(run, queue, open_to, all_s)
            if worker is not None and not self._send(run, worker, queue):
                return  # the worker died: _collect replaces it
            if worker is None and run.n_devices > 1:
                kept += self._make_room(run, queue, workers, open_to)
        self._split(workers, queue, ready)
        places = list(filter(self._is_open, workers))
        if not kept and not queue.moving and (move := choose_move(queue, places)) is not None:
            moved, worker = move
            with suppress(OSError):
                worker.connection.send(Release(moved.name))
                queue.moving.add(moved.name)
        self._compile_ahead(queue, workers)

    def _is_open(self, worker: Worker) -> bool:
        """Whether runs may be sent to the worker; one that still starts takes them too."""
        return True

    def _wait(self, workers: Sequence[Worker], seconds: float) -> None:
        """Wait for a message or the end of a worker."""
        wait([worker.connection for worker in workers], timeout=seconds)

    def _compile_ahead(self, queue: RunQueue, workers: list[Worker]) -> None:
        """Let workers that have nothing to train compile a size that is still to come."""
        for worker in workers:
            run = choose_to_compile(queue, worker) if worker.is_ready else None
            if run is not None:
                with suppress(OSError):  # the worker died: _collect replaces it
                    worker.connection.send(Compile(run.config.model_dump(mode="json")))
                    worker.sizes.add(run.about_n_params)

    def _send(self, run: PlannedRun, worker: Worker, queue: RunQueue) -> bool:
        """Send a run to a worker; returns False if the worker died."""
        try:
            worker.connection.send(Start(run.config.model_dump(mode="json")))
        except OSError:
            return False
        queue.take(run)
        worker.busy_with[run.name] = run
        worker.sizes.add(run.about_n_params)
        return True

    def _make_room(
        self, run: PlannedRun, queue: RunQueue, workers: list[Worker], open_to: list[Worker]
    ) -> list[Worker]:
        """Replace workers of one device by one that has the devices of a run, once all are idle.

        Returns:
            The workers that take no other runs until then.
        """
        group = choose_group(run, queue, open_to)
        if not group or any(worker.busy_with for worker in group):
            return group
        devices = tuple(worker.slot.device for worker in group)
        threads = sum(worker.slot.threads for worker in group)
        self._replace(workers, group, [Slot(devices, threads)])
        return []

    def _split(self, workers: list[Worker], queue: RunQueue, ready: Sequence[PlannedRun]) -> None:
        """Replace idle workers of several devices by workers of one, if no run needs them.

        If no run is ready, runs that another process trains count too: they are tried again every
        second, and each time new workers would be started.
        """
        retried = [run for run in queue.to_come() if run.name in queue.elsewhere]
        needed = {run.n_devices for run in ready or retried}
        for worker in list(workers):
            devices = worker.slot.devices
            if len(devices) > 1 and not worker.busy_with and len(devices) not in needed:
                single = [next(s for s in self.slots if s.devices == (d,)) for d in devices]
                self._replace(workers, [worker], single)

    def _replace(self, workers: list[Worker], old: Sequence[Worker], slots: Sequence[Slot]) -> None:
        self._end(old)  # before the new ones start, so that memory is free
        workers[:] = [worker for worker in workers if worker not in old]
        workers.extend(map(self._start, slots))

    def _collect(self, queue: RunQueue, workers: list[Worker]) -> None:
        """Receive the messages of the workers; replace workers that died."""
        if time.monotonic() - self._looked > _PAUSE_S:
            self._resumed = time.monotonic()
        self._looked = time.monotonic()
        self._wait(workers, 0.2)
        for index, worker in enumerate(workers):
            if not self._receive(queue, worker):
                worker.process.join()
                self._bury(queue, worker)
                workers[index] = self._start(worker.slot)

    def _receive(self, queue: RunQueue, worker: Worker) -> bool:
        """Receive the messages of a worker; returns False if it died."""
        try:
            while worker.connection.poll():
                match worker.connection.recv():
                    case Ready():
                        worker.is_ready = True
                    case Progress(reached):
                        for name, n_tokens in reached.items():
                            queue.note_progress(name, n_tokens)
                    case End(run, state, words):
                        if state == "died" and run in queue.died:
                            words = write_error(queue.folders[run], words, "", "killed")
                            state = "failed"
                        queue.end(worker.busy_with.pop(run), state, words)
        except (EOFError, OSError):
            return False
        return True

    def _bury(self, queue: RunQueue, worker: Worker) -> None:
        """Retry or fail the runs of a worker that died.

        Each run is retried once alone, which also shows which of several runs killed the process.
        A run whose process dies a second time fails. If the process ended because it made no
        progress, each run's folder takes the stacks of its threads. After a pause of all processes
        the runs just go on.
        """
        was_paused = time.monotonic() - self._resumed < _PAUSE_S
        stacks = worker.stacks.read_text(encoding="utf-8") if worker.stacks.is_file() else ""
        for name, run in worker.busy_with.items():
            if stacks and was_paused:
                queue.end(run, "released")
                continue
            if stacks:
                add_stacks(queue.folders[name], stacks)
            if queue.is_done(run):
                queue.end(run, "finished")
            elif name not in queue.died:
                queue.end(run, "died")
            else:
                words = hang_words() if stacks else death_words(worker.process.exitcode)
                kind: ErrorKind = "hung" if stacks else "killed"
                queue.end(run, "failed", write_error(queue.folders[name], words, stacks, kind))

    def _save(self, queue: RunQueue, workers: list[Worker], signals: list[int]) -> list[str]:
        """Let workers save the runs in training, within 25 s and unless a second SIGINT arrives.

        Returns:
            The names of the runs that were not saved.
        """
        for worker in workers:
            if worker.is_ready or (self._receive(queue, worker) and worker.is_ready):
                with suppress(OSError):  # a worker that died is handled below
                    worker.connection.send(Stop())
            else:  # it has not started, so there is nothing to save
                for run in worker.busy_with.values():
                    queue.put_back(run)
                worker.busy_with.clear()
        deadline, unsaved = time.monotonic() + _SAVE_S, []
        while busy := [worker for worker in workers if worker.busy_with]:
            is_late = time.monotonic() >= deadline or signal.SIGINT in signals[1:]
            self._wait(busy, 0.1)
            for worker in busy:
                if not self._receive(queue, worker) or is_late:
                    unsaved += list(worker.busy_with)
                    worker.busy_with.clear()
                    worker.process.kill()
        return unsaved

    def _end(self, workers: Sequence[Worker]) -> None:
        """Let ready workers exit by themselves, so that they clean up; kill the others."""
        for worker in workers:
            worker.connection.close()
        deadline = time.monotonic() + _LEAVE_S
        for worker in workers:
            if worker.is_ready:
                worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.join()
