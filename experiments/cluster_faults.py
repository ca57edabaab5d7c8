"""Is anything lost on a Slurm cluster whose jobs are preempted and killed?

Hypothesis: whatever is interrupted, every run finishes, none that finished is trained again, and an
interruption costs a run no more steps than lie between two of its checkpoints: none where the job
was warned.

Stand-in runs (``counted_runs.py``) count steps, with the workers, leases, signals and folders of
dcpt; real runs are the smallest that train. While jobs run, at random moments a job is put back
into the queue (``scontrol requeue``), warned as before a time limit (SIGUSR2), or displaced by a
job of a partition that goes first; a worker process is killed; and the process that submitted is
killed and started again. Steps that a run logged twice were repeated.

The cluster may be this machine: Slurm must answer, with a partition ``urgent`` that preempts. Only
worker processes of this machine can be killed. Command, a quarter of an hour on 2 cores::

    OMP_NUM_THREADS=1 python experiments/cluster_faults.py --standins 200 --preemptions 20

It writes ``cluster_faults.md`` in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from counted_runs import CHECKPOINT_STEPS, N_STEPS, STEP_S, count_job, read_steps
from pages import markdown

from dcpt.engines.slurm.client import live_jobs
from dcpt.engines.slurm.engine import SlurmEngine
from dcpt.engines.slurm.submissions import read_submissions
from dcpt.engines.slurm.submit import Submitter
from dcpt.grid.local import LocalEngine
from dcpt.grid.planned import PlannedRun, find_folders
from dcpt.grid.slots import Slot
from dcpt.leases import holder
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.identity import RunConfig
from dcpt.study.engine import SlurmSection
from dcpt.study.folder import StudyFolder

HERE = Path(__file__).parent
INTERRUPTIONS = ("scontrol requeue", "SIGUSR2", "urgent job")

STUDY = """
name: faults
channels:
  - {name: general, side: general, train: general.jsonl, valid_fraction: 10%}
  - {name: domain, side: domain, train: domain.jsonl, valid_fraction: 10%}
tokenizer: 300
bases:
  ladder: {tokens: 8192, learning_rate: 1e-2, sizes: {a: {width: 16, layers: 1, heads: 1}}}
grid:
  - {bases: [a], ratios: [0.5], learning_rates: [3e-3], seeds: [SEEDS]}
tokens: 65536
branches: {decay: 20%}
training: {batch_sequences: 8, sequence_tokens: 32, warmup: 5%, checkpoint_every_s: 1}
evaluation: {tokens: 1024, points_per_doubling: 1, first_tokens: 1024}
"""


@dataclass
class Counts:
    """What was seen of a campaign."""

    interruptions: Counter[str] = field(default_factory=Counter)
    finished: dict[str, int] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    def look(self, folder: StudyFolder) -> None:
        """Note the runs that finished, and those whose result was written again."""
        for path in folder.runs.glob("*/result.json"):
            written = path.stat().st_mtime_ns
            if self.finished.setdefault(path.parent.name, written) != written:
                self.changed.add(path.parent.name)


def write_study(folder: Path, n_trunks: int) -> Path:
    """Write and prepare a study of some trunks that differ in their seeds."""
    rng = random.Random(0)
    for name, words in {"general": "house river law year man", "domain": "bone lung fever"}.items():
        texts = [" ".join(rng.choices(words.split(), k=120)) for _ in range(150)]
        lines = (json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    study = folder / "study.yaml"
    seeds = ", ".join(map(str, range(n_trunks)))
    study.write_text(STUDY.replace("SEEDS", seeds), encoding="utf-8")
    prepare_study(Workspace(study), workers=1)
    return study


def planned_of(study: Path, standins: int) -> list[PlannedRun]:
    """The runs of a study, or stand-ins that differ in their seeds."""
    planned = Workspace(study).planned
    if not standins:
        return planned
    config = next(run.config for run in planned if run.config.identity.kind == "trunk")
    recorded = config.recorded.model_copy(update={"keep_state_at": ()})
    seeds = range(1000, 1000 + standins)
    identities = [config.identity.model_copy(update={"seed": seed}) for seed in seeds]
    return [PlannedRun(RunConfig(identity=identity, recorded=recorded)) for identity in identities]


def drive(study: Path, standins: int) -> None:
    """Submit and watch, as ``run-grid`` does; this process may be killed."""
    section = SlurmSection(partition="main", job_time=0.5)
    folder = StudyFolder(study)
    submitter = Submitter(folder, section, *([count_job] if standins else []))
    engine = SlurmEngine(submitter, lambda runs, *_: {run.name: N_STEPS * STEP_S for run in runs})
    outcome = engine.run(planned_of(study, standins))
    (folder.path / "failed.json").write_text(json.dumps(outcome.failed), encoding="utf-8")


def start(study: Path, standins: int) -> subprocess.Popen[bytes]:
    """Start the process that submits."""
    command = [sys.executable, __file__, "--drive", str(study), "--standins", str(standins)]
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(command, env=environment, start_new_session=True)


def running_jobs(folder: StudyFolder) -> list[str]:
    """Jobs of the study that a node has."""
    live = live_jobs()
    ours = [job.id for each in read_submissions(folder) for job in each.jobs]
    return [job for job in ours if job in live and live[job].state == "RUNNING"]


def interrupt(kind: str, job: str) -> None:
    """Take a job its node."""
    urgent = ["sbatch", "--partition=urgent", "--wrap", "sleep 3", "--output", "/dev/null"]
    command = {
        "scontrol requeue": ["scontrol", "requeue", job],
        "SIGUSR2": ["scancel", "--signal=USR2", job],
        "urgent job": [*urgent, "--nodes=2", "--exclusive"],
    }[kind]
    subprocess.run(command, check=False, capture_output=True)


def kill_worker(folder: StudyFolder, planned: Sequence[PlannedRun], rng: random.Random) -> bool:
    """Kill the process that trains one of the runs; returns whether there was one."""
    found = find_folders(planned, folder.runs).values()
    owners = [owner for run in found if (owner := holder(run.path / "lease")) is not None]
    if not owners:
        return False
    with suppress(ProcessLookupError):  # it ended in between
        os.kill(rng.choice(owners).pid, signal.SIGKILL)
        return True
    return False


def campaign(study: Path, standins: int, faults: Sequence[str], rng: random.Random) -> Counts:
    """Train all runs under faults, one every few seconds while a job runs."""
    folder, counts, left = StudyFolder(study), Counts(), list(faults)
    planned = planned_of(study, standins)
    process = start(study, standins)
    while process.poll() is None:
        time.sleep(rng.uniform(3, 8))
        counts.look(folder)
        jobs = running_jobs(folder)
        if not left or not jobs:
            continue
        fault = left[-1]
        if fault == "submitter killed":
            process.kill()
            process.wait()
            process = start(study, standins)
        elif fault == "worker killed":
            if not kill_worker(folder, planned, rng):
                continue
        else:
            interrupt(fault, rng.choice(jobs))
        left.pop()
        counts.interruptions[fault] += 1
    counts.look(folder)
    return counts


def repeated_steps(folder: StudyFolder) -> list[int]:
    """Steps that each interrupted stand-in counted again, for each time."""
    found = []
    for run in sorted(folder.runs.iterdir()):
        steps = read_steps(run)
        found += [last - step + 1 for last, step in pairwise(steps) if step <= last]
    return found


def differing_runs(study: Path) -> int:
    """Real runs whose points differ from those of an undisturbed grid on this machine."""
    with tempfile.TemporaryDirectory() as other:
        same = write_study(Path(other), len(trunks_of(study)))
        LocalEngine(StudyFolder(same), [Slot()]).run(Workspace(same).planned)
        return sum(points_of(study, run) != points_of(same, run) for run in Workspace(same).planned)


def trunks_of(study: Path) -> list[PlannedRun]:
    """The trunks of a study."""
    return [run for run in Workspace(study).planned if run.config.identity.kind == "trunk"]


def points_of(study: Path, run: PlannedRun) -> list[dict[str, object]]:
    """The points of a run, without times."""
    points = find_folders([run], StudyFolder(study).runs)[run.name].points()
    return [{**point, "wall_s": None} for point in points]


def describe(study: Path, standins: int, counts: Counts) -> list[tuple[str, str]]:
    """What came of a campaign, as rows of a table."""
    folder, planned = StudyFolder(study), planned_of(study, standins)
    found = find_folders(planned, folder.runs)
    failed = json.loads((folder.path / "failed.json").read_text(encoding="utf-8"))
    n_done = sum(found[run.name].is_done(run.config) for run in planned)
    rows = [("runs", f"{len(planned)}"), ("finished", f"{n_done}"), ("failed", f"{len(failed)}")]
    rows += [(kind, f"{times}") for kind, times in sorted(counts.interruptions.items())]
    rows.append(("finished runs that were written again", f"{len(counts.changed)}"))
    if standins:
        again = repeated_steps(folder)
        rows.append(("interruptions that repeated steps", f"{len(again)}"))
        worst = f"{max(again, default=0)} of {CHECKPOINT_STEPS} between checkpoints"
        rows.append(("most steps repeated by an interruption", worst))
    else:
        rows.append(("runs that differ from an undisturbed grid", f"{differing_runs(study)}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--standins", type=int, default=1000)
    parser.add_argument("--trunks", type=int, default=10, help="each with its decay")
    parser.add_argument("--preemptions", type=int, default=100)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive is not None:
        drive(given.drive, given.standins)
        return
    rng = random.Random(given.seed)
    faults = [rng.choice(INTERRUPTIONS) for _ in range(given.preemptions)]
    faults += ["worker killed"] * given.kills
    rng.shuffle(faults)
    faults.append("submitter killed")  # the first, while jobs wait for their base
    parts = {}
    with tempfile.TemporaryDirectory(prefix="dcpt-faults-") as place:
        for name, standins in {"Stand-in runs": given.standins, "Real runs": 0}.items():
            path = Path(place) / name.split()[0]
            path.mkdir()
            study = write_study(path, given.trunks)
            began = time.monotonic()
            half = faults[::2] if standins else faults[1::2] + faults[-1:]
            counts = campaign(study, standins, half, rng)
            minutes = (time.monotonic() - began) / 60
            rows = [*describe(study, standins, counts), ("minutes", f"{minutes:.0f}")]
            parts[name] = markdown(("", "count"), rows)
            print(parts[name], flush=True)
    words = " ".join(["OMP_NUM_THREADS=1 python experiments/cluster_faults.py", *sys.argv[1:]])
    version = subprocess.run(["sinfo", "--version"], capture_output=True, text=True, check=True)
    head = (
        f"# cluster_faults: a Slurm whose jobs are preempted and killed\n\nWritten by `{words}` "
        f"({version.stdout.strip()}, two nodes on 2 cores of a shared machine); its docstring "
        "states the question and how it is measured.\n"
    )
    page = head + "".join(f"\n## {name}\n\n{part}\n" for name, part in parts.items())
    (HERE / "cluster_faults.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
