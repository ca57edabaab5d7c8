"""Is anything lost on a Ray cluster whose nodes are lost?

Hypothesis: whatever node is lost, every run finishes, none that finished is trained again, and a
loss costs each run of the node no more steps than lie between two of its checkpoints.

Stand-in runs (``counted_runs.py``) count steps, with the workers, leases and folders of dcpt. The
cluster is several Ray nodes on this machine. At random moments all processes of a node are killed
at once (SIGKILL), and another node joins. All nodes are on one machine, so a run whose owner is
dead is free at once, and not after the two minutes that it takes from another machine. Command, ten
minutes on 2 cores::

    OMP_NUM_THREADS=1 python experiments/ray_faults.py --runs 300 --losses 20

It writes ``ray_faults.md`` in this folder.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from counted_runs import count_in_worker
from faults import (
    Counts,
    describe_left,
    describe_repeats,
    describe_runs,
    make_trunks,
    path_of_standins,
    planned_of,
)
from pages import markdown

from dcpt.engines.choose import slots_of
from dcpt.engines.ray.cluster import check_installed
from dcpt.engines.ray.engine import RayEngine
from dcpt.engines.ray.host import Host
from dcpt.grid.queue import Outcome, RunQueue
from dcpt.leases import holder
from dcpt.study.engine import EngineSection, RaySection
from dcpt.study.folder import StudyFolder

HERE = Path(__file__).parent
STORE_BYTES = 80 * 2**20


class CountingHost(Host):
    """Holds a worker whose runs count steps."""

    _work = staticmethod(count_in_worker)


class CountingEngine(RayEngine):
    """Its runs count steps."""

    _host = CountingHost


class Faults:
    """Loses nodes while runs train.

    Args:
        cluster: The cluster; its head takes no work.
        n_losses: Number of nodes to lose.
        rng: Decides when, and which.
        folder: The study.

    Attributes:
        counts: The runs that finished.
        n_lost: Number of nodes that were lost.
        n_owners: Number of runs that those nodes trained.
    """

    def __init__(
        self, cluster: Any, n_losses: int, rng: random.Random, folder: StudyFolder
    ) -> None:
        self.cluster, self.n_losses, self.rng, self.folder = cluster, n_losses, rng, folder
        self.counts, self.n_lost, self.n_owners = Counts(), 0, 0
        self._next = time.monotonic() + 5

    def __call__(self, queue: RunQueue) -> None:
        """Lose a node if it is time to."""
        if self.n_lost >= self.n_losses or time.monotonic() < self._next or not queue.reached:
            return
        self.counts.look(self.folder)
        owners = self._owners(queue)
        nodes = sorted(self.cluster.worker_nodes, key=lambda each: each.unique_id)
        self.rng.shuffle(nodes)
        found = ((node, processes_of(node)) for node in nodes)
        busy = [(node, lost) for node, lost in found if not owners.isdisjoint(lost)]
        if not busy:
            return
        node, lost = busy[0]
        self._next = time.monotonic() + self.rng.uniform(5, 12)
        self.n_owners += len(owners.intersection(lost))
        for pid in lost:  # the raylet first, so that it reports nothing
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)
        self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        self.n_lost += 1

    def _owners(self, queue: RunQueue) -> set[int]:
        """The processes that train the runs that have been sent."""
        runs = [queue.folders[name].path for name in queue.running]
        owners = [holder(run / "lease") for run in runs]
        return {owner.pid for owner in owners if owner is not None}


def processes_of(node: Any) -> list[int]:
    """The processes of a Ray node, its raylet first."""
    raylet = node.all_processes["raylet"][0].process.pid
    return [raylet, *descendants(raylet)]


def descendants(pid: int) -> list[int]:
    """All processes below a process."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for above in found:
        found += parents.get(above, [])
    return found[1:]


def run_campaign(study: Path, given: argparse.Namespace) -> tuple[Outcome, Faults]:
    """Train all runs on a cluster that loses nodes."""
    check_installed()
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(given.nodes):
            cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        section = RaySection(address=cluster.address, nodes=given.nodes, max_retries=given.losses)
        folder = StudyFolder(study)
        faults = Faults(cluster, given.losses, random.Random(given.seed), folder)
        slots = slots_of(EngineSection(kind="ray", ray=section), None)
        engine = CountingEngine(folder, section, slots, faults)
        return engine.run(planned_of(study, given.runs)), faults
    finally:
        cluster.shutdown()


def describe(study: Path, runs: int, outcome: Outcome, faults: Faults) -> list[tuple[str, str]]:
    """What came of the campaign, as rows of a table."""
    folder = StudyFolder(study)
    faults.counts.look(folder)
    for name, words in outcome.failed.items():
        print(f"{name}: {words}", file=sys.stderr)
    return [
        *describe_runs(study, runs, len(outcome.failed)),
        ("nodes lost", f"{faults.n_lost}"),
        ("runs in training on them", f"{faults.n_owners}"),
        *describe_repeats(study, faults.counts, runs),
        describe_left(study, runs),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--losses", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    # The actors import the stand-in.
    os.environ["PYTHONPATH"] = path_of_standins()
    with tempfile.TemporaryDirectory(prefix="dcpt-faults-") as place:
        study = make_trunks(Path(place), 1)
        began = time.monotonic()
        outcome, faults = run_campaign(study, given)
        minutes = (time.monotonic() - began) / 60
        rows = describe(study, given.runs, outcome, faults)
        table = markdown(("", "count"), [*rows, ("minutes", f"{minutes:.0f}")])
    import ray

    words = " ".join(["OMP_NUM_THREADS=1 python experiments/ray_faults.py", *sys.argv[1:]])
    page = (
        f"# ray_faults: a Ray cluster whose nodes are lost\n\nWritten by `{words}` (Ray "
        f"{ray.__version__}, {given.nodes} nodes on 2 cores of a shared machine); its docstring "
        f"states the question and how it is measured.\n\n{table}\n"
    )
    print(page)
    (HERE / "ray_faults.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
