"""The Ray engine: it is the local engine, with workers that actors hold on the cluster's nodes.

Which run trains where, lanes, moves, runs over several devices, retries and signals are those of
the local engine. The actors are not detached: they end with the call, and the runs' states stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import dcpt
from dcpt.engines.engine import Say, Tick
from dcpt.engines.node import Order, engine_marker
from dcpt.engines.ray.cluster import connected
from dcpt.engines.ray.host import Host
from dcpt.engines.ray.nodes import Node, reserve_nodes
from dcpt.engines.ray.remote import RemoteWorker
from dcpt.engines.seldom import SeldomMessages
from dcpt.errors import InputError
from dcpt.grid.local import LocalEngine, Worker
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import Outcome, RunQueue
from dcpt.grid.slots import Slot
from dcpt.runs.failures import write_error
from dcpt.study.engine import RaySection
from dcpt.study.folder import StudyFolder

_MOST_FAILED_STARTS = 5
_MEMORY = "low on memory"


class RayEngine(LocalEngine):
    """Trains planned runs in a Ray cluster.

    Args:
        folder: The study.
        section: What is taken of the cluster.
        slots: An entry for each worker.
        on_tick: Called with the queue several times a second while runs are in training.
        say: Called with a sentence when the number of workers has changed.
    """

    _host = Host

    def __init__(
        self,
        folder: StudyFolder,
        section: RaySection,
        slots: Sequence[Slot],
        on_tick: Tick | None = None,
        say: Say | None = None,
    ) -> None:
        super().__init__(folder, slots, on_tick)
        self.section, self.say = section, say or (lambda _: None)
        self._marker = Path()
        self._nodes: list[Node] = []
        self._used: Counter[int] = Counter()
        self._node_losses: Counter[str] = Counter()
        self._memory: list[str] = []
        self._failed_starts: Counter[int] = Counter()
        self._seldom = SeldomMessages(self.say)

    def run(self, planned: Sequence[PlannedRun]) -> Outcome:
        """Train all runs that are not done; a failed one does not stop the others.

        Raises:
            InputError: If the cluster does not answer, a node does not fit the study, a run needs
                more devices than a node has, or a worker was killed for memory. What was trained is
                kept.
            Stopped: If a signal stopped the call, after the runs in training were saved.
        """
        queue = RunQueue(planned, self.folder)
        if not queue.is_unfinished:
            return queue.outcome
        self._check_devices(list(queue.pending.values()))
        self._marker = engine_marker(
            self.folder.path.absolute() / "ray", "the marker of the Ray engine"
        )
        with ExitStack() as stack:
            stack.enter_context(connected(self.section))
            self._nodes = stack.enter_context(reserve_nodes(self.section))
            outcome = super().run(planned)
        if self._memory:
            raise InputError(self._memory)
        return outcome

    def _check_devices(self, pending: Sequence[PlannedRun]) -> None:
        most = max(pending, key=lambda run: run.n_devices, default=None)
        devices = self.section.gpus_per_node or self.section.cpus_per_node
        if most is not None and most.n_devices > devices:
            raise InputError(
                f"run {most.name} trains over {most.n_devices} devices, and a node of engine.ray "
                f"has {devices}; raise gpus_per_node, or lower training.gpus_per_run"
            )

    # --------------------------------------------------------------------- workers
    def _start(self, slot: Slot) -> Worker:
        n = len(slot.devices)
        node = next(node for node in self._nodes if self._used[node.index] + n <= node.n_devices)
        self._used[node.index] += n
        remote = RemoteWorker(self._order(slot), slot, node, self._host)
        self._n_started += 1
        stacks = self._stacks / f"{self._n_started}.txt"
        return Worker(slot=slot, process=remote, connection=remote, stacks=stacks)

    def _order(self, slot: Slot) -> Order:
        return Order(
            study=str(self.folder.file.absolute()),
            version=dcpt.__version__,
            marker=self._marker.read_text(encoding="utf-8"),
            marker_file=str(self._marker),
            runs=(),
            needed=(),
            gpus=len(slot.devices) if slot.is_accelerator else 0,
            cpus=slot.threads,
        )

    def _is_open(self, worker: Worker) -> bool:
        """A worker that waits for a node takes no runs: others may have room for them."""
        return worker.is_ready

    def _wait(self, workers: Sequence[Worker], seconds: float) -> None:
        import ray

        remotes = [worker.connection for worker in workers]
        awaited = [remote.awaited for remote in remotes if remote.awaited is not None]
        if len(awaited) == len(remotes):
            ray.wait(awaited, timeout=seconds)

    def _make_room(
        self, run: PlannedRun, queue: RunQueue, workers: list[Worker], open_to: list[Worker]
    ) -> list[Worker]:
        """Give a run over several devices those of one node."""
        for node in self._nodes:
            group = [worker for worker in open_to if worker.process.node is node]
            n_single = sum(len(worker.slot.devices) == 1 for worker in group)
            if n_single >= run.n_devices:
                return super()._make_room(run, queue, workers, group)
        return []

    def _end(self, workers: Sequence[Worker]) -> None:
        super()._end(workers)
        for worker in workers:
            self._free(worker)

    def _free(self, worker: Worker) -> None:
        self._used[worker.process.node.index] -= len(worker.slot.devices)

    # ---------------------------------------------------------------------- losses
    def _collect(self, queue: RunQueue, workers: list[Worker]) -> None:
        super()._collect(queue, workers)
        n_ready = sum(worker.is_ready for worker in workers)
        self._seldom.say(f"Ray: {n_ready} of {len(workers)} workers have a place")

    def _receive(self, queue: RunQueue, worker: Worker) -> bool:
        """Receive the messages of a worker; the first says that its node can start workers.

        Workers that are ready already tell nothing about a device of their node, or another node,
        where each new worker ends.
        """
        was_ready = worker.is_ready
        is_alive = super()._receive(queue, worker)
        if worker.is_ready and not was_ready:
            del self._failed_starts[worker.process.node.index]
        return is_alive

    def _bury(self, queue: RunQueue, worker: Worker) -> None:
        """Retry or fail the runs of a worker that is gone."""
        self._free(worker)
        remote: RemoteWorker = worker.process
        if not worker.is_ready and not remote.is_node_lost:
            self._note_failed_start(remote)
        if remote.loss is None:
            if remote.stacks:
                worker.stacks.write_text(remote.stacks, encoding="utf-8")
            super()._bury(queue, worker)
            return
        for run in worker.busy_with.values():
            self._settle(queue, run, remote)

    def _settle(self, queue: RunQueue, run: PlannedRun, remote: RemoteWorker) -> None:
        """Retry or fail a run whose actor is gone.

        A run whose node was lost is not tried alone, since it is not the cause.
        """
        self._node_losses[run.name] += remote.is_node_lost
        if queue.is_done(run):
            queue.end(run, "finished")
        elif remote.is_node_lost and self._node_losses[run.name] <= self.section.max_retries:
            queue.end(run, "released")
        elif not remote.is_node_lost and run.name not in queue.died:
            queue.end(run, "died")
        else:
            self._fail(queue, run, remote)

    def _fail(self, queue: RunQueue, run: PlannedRun, remote: RemoteWorker) -> None:
        folder, rerun = queue.folders[run.name], "rerun the same command to resume"
        if _MEMORY in (remote.loss or ""):
            words = (
                f"run {run.name}: its worker was killed for memory twice; what was trained is kept:"
                " raise engine.ray.cpus_per_node so that fewer places share a node, or lower "
                "training.micro_batch_sequences, and rerun"
            )
            self._memory.append(words)
            queue.end(run, "failed", write_error(folder, words, "", "out_of_memory"))
            return
        words = f"its worker was lost twice ({remote.loss}); {rerun}"
        if remote.is_node_lost:
            words = f"its node was lost {self._node_losses[run.name]} times; {rerun}"
        queue.end(run, "failed", write_error(folder, words, "", "killed"))

    def _note_failed_start(self, remote: RemoteWorker) -> None:
        """Refuse to start workers for ever that end before they are ready."""
        self._failed_starts[remote.node.index] += 1
        if self._failed_starts[remote.node.index] >= _MOST_FAILED_STARTS:
            reason = remote.loss or f"exit code {remote.exitcode}"
            raise InputError(
                f"engine.ray: {_MOST_FAILED_STARTS} workers of a node ended before they could "
                f"start ({reason}); check that all nodes have dcpt[train,ray] and the same versions"
            )
