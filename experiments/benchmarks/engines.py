"""How much time does each engine add to runs of a second?

Stand-in runs (``counted_runs.py``) sleep for a second each, in the workers, leases and folders of
dcpt. Four slots share them on every engine: four workers of the local engine, four jobs of Slurm, a
Ray cluster of two nodes with two workers each. Ideal is runs / 4 seconds. "before the first run" is
the start of the processes, which import torch, and on Slurm the queue. "rest" is what then exceeds
the ideal time: slots that start later, what an engine does between two runs, and its end; Slurm
is asked every 10 s. Per run it is the time of a slot. The sleeping runs need no core, but the
processes around them share those of this machine.

Slurm must answer, with four free CPUs. Command::

    OMP_NUM_THREADS=1 PYTHONPATH=experiments python experiments/benchmarks/engines.py

Result in ``engines.md``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from counted_runs import STEP_S, count_in_worker, count_job
from faults import make_trunks, path_of_standins, planned_of
from pages import markdown
from ray_faults import STORE_BYTES, CountingEngine

from dcpt.engines.choose import slots_of
from dcpt.engines.ray.cluster import check_installed
from dcpt.engines.slurm.engine import SlurmEngine
from dcpt.engines.slurm.submit import Submitter
from dcpt.grid.local import LocalEngine
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import Outcome
from dcpt.grid.slots import Slot
from dcpt.study.engine import EngineSection, RaySection, SlurmSection
from dcpt.study.folder import StudyFolder

HERE = Path(__file__).parent
N_SLOTS, N_NODES = 4, 2
RUN_S = 1.0

Train = Callable[[Path, Sequence[PlannedRun]], tuple[Outcome, float]]


def train_local(study: Path, planned: Sequence[PlannedRun]) -> tuple[Outcome, float]:
    """Train on this machine; returns the outcome and the seconds."""
    engine = LocalEngine(StudyFolder(study), [Slot()] * N_SLOTS)
    setattr(engine, "_work", count_in_worker)  # noqa: B010 (mypy knows the type)
    began = time.monotonic()
    return engine.run(planned), time.monotonic() - began


def train_slurm(study: Path, planned: Sequence[PlannedRun]) -> tuple[Outcome, float]:
    """Train in a job of equal length for each slot."""
    minutes = len(planned) * RUN_S / N_SLOTS / 60 + 1e-3
    submitter = Submitter(StudyFolder(study), SlurmSection(job_time=minutes), count_job)
    engine = SlurmEngine(submitter, lambda runs, *_: dict.fromkeys((r.name for r in runs), RUN_S))
    began = time.monotonic()
    return engine.run(planned), time.monotonic() - began


def train_ray(study: Path, planned: Sequence[PlannedRun]) -> tuple[Outcome, float]:
    """Train on a cluster that is started before the clock."""
    check_installed()
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    n_cores = N_SLOTS // N_NODES
    try:
        for _ in range(N_NODES):
            cluster.add_node(num_cpus=n_cores, object_store_memory=STORE_BYTES)
        section = RaySection(address=cluster.address, nodes=N_NODES, cpus_per_node=n_cores)
        slots = slots_of(EngineSection(kind="ray", ray=section), None)
        engine = CountingEngine(StudyFolder(study), section, slots, lambda _: None)
        began = time.monotonic()
        return engine.run(planned), time.monotonic() - began
    finally:
        cluster.shutdown()


ENGINES: dict[str, Train] = {"local": train_local, "slurm": train_slurm, "ray": train_ray}


def measure(name: str, n_runs: int) -> tuple[str, ...]:
    """A row: the engine, finished runs, ideal and measured seconds, and what was added."""
    with tempfile.TemporaryDirectory(prefix="dcpt-engines-") as folder:
        study = make_trunks(Path(folder), 1)
        clock = time.time()
        outcome, seconds = ENGINES[name](study, planned_of(study, n_runs))
        runs = StudyFolder(study).runs
        first = min(path.stat().st_mtime for path in runs.glob("*/config.json")) - clock
    ideal = n_runs * RUN_S / N_SLOTS
    rest = seconds - first - ideal
    return (
        name,
        f"{len(outcome.finished)} of {n_runs}",
        f"{ideal:.0f} s",
        f"{seconds:.0f} s",
        f"{first:.0f} s",
        f"{rest:.0f} s",
        f"{rest * N_SLOTS / n_runs:.2f} s",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", nargs="*", default=list(ENGINES), help="local, slurm, ray")
    parser.add_argument("--runs", type=int, default=1000)
    given = parser.parse_args()
    # For the processes that train.
    os.environ["PYTHONPATH"] = path_of_standins()
    os.environ["STANDIN_STEPS"] = f"{round(RUN_S / STEP_S)}"
    head = (
        "engine",
        "finished",
        "ideal",
        "wall time",
        "before the first run",
        "rest",
        "rest per run",
    )
    rows = []
    for name in cast(list[str], given.engines):
        rows.append(measure(name, given.runs))
        print(*rows[-1], flush=True)
    words = " ".join(["experiments/benchmarks/engines.py", *sys.argv[1:]])
    import ray

    asked = subprocess.run(["sinfo", "--version"], capture_output=True, text=True, check=True)
    page = (
        f"# engines: what an engine adds to {given.runs} runs of a second\n\nWritten by "
        f"`OMP_NUM_THREADS=1 PYTHONPATH=experiments python {words}` ({asked.stdout.strip()}, Ray "
        f"{ray.__version__}, 2 cores of a shared machine); its docstring states how it is "
        f"measured.\n\n{markdown(head, rows)}\n"
    )
    (HERE / "engines.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
