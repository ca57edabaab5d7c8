"""Is anything lost on a Slurm cluster whose jobs are preempted and killed?

Hypothesis: whatever is interrupted, every run finishes, none that finished is trained again, and an
interruption costs a run no more steps than lie between two of its checkpoints: none where the job
was warned.

Stand-in runs (``counted_runs.py``) count steps, with the workers, leases, signals and folders of
dcpt; real runs are the smallest that train. While jobs run, at random moments a job is put back
into the queue (``scontrol requeue``), warned as before a time limit (SIGUSR2), or its node is taken
by a job of a partition that goes first; a worker process is killed; and, once in each part, the
process that submitted and Slurm's controller are killed and started again. Half of the other faults
meet stand-in runs, half real ones. Steps that a run logged twice were repeated.

The cluster is this machine: Slurm must answer, with a partition ``urgent`` that preempts, and its
controller and workers must be processes here that this user may kill. Command::

    OMP_NUM_THREADS=1 python experiments/cluster_faults.py

It writes ``cluster_faults.md`` in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from counted_runs import N_STEPS, STEP_S, count_job
from faults import (
    Counts,
    describe_left,
    describe_repeats,
    describe_runs,
    make_trunks,
    path_of_standins,
    planned_of,
    points_of,
)
from pages import markdown

from dcpt.engines.slurm.client import live_jobs
from dcpt.engines.slurm.engine import SlurmEngine
from dcpt.engines.slurm.submissions import read_submissions
from dcpt.engines.slurm.submit import Submitter
from dcpt.grid.local import LocalEngine
from dcpt.grid.planned import PlannedRun, find_folders
from dcpt.grid.slots import Slot
from dcpt.leases import holder
from dcpt.pipeline.workspace import Workspace
from dcpt.study.engine import SlurmSection
from dcpt.study.folder import StudyFolder

HERE = Path(__file__).parent
INTERRUPTIONS = ("scontrol requeue", "SIGUSR2", "urgent job")
CONTROLLER_AWAY_S = 15.0


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
    environment = {**os.environ, "PYTHONPATH": path_of_standins()}
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
        "urgent job": [*urgent, "--nodes=1", "--exclusive"],
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


def kill_controller() -> None:
    """Kill Slurm's controller, and start it again after some seconds."""
    asked = ["scontrol", "show", "config"]
    config = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    (pid_file,) = re.findall(r"^SlurmctldPidFile\s*=\s*(\S+)", config, re.MULTILINE)
    os.kill(int(Path(pid_file).read_text(encoding="utf-8")), signal.SIGKILL)
    time.sleep(CONTROLLER_AWAY_S)
    subprocess.run(["slurmctld"], check=True)


def resume_nodes() -> int:
    """Let drained nodes take jobs again; returns how many there were.

    Slurm drains a node where a job step could not report its end for a minute, as while the
    controller is away.
    """
    asked = ["sinfo", "--noheader", "--Node", "--states=drain", "--format=%N"]
    drained = set(subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split())
    for node in drained:
        change = ["scontrol", "update", f"nodename={node}", "state=resume"]
        subprocess.run(change, check=False, capture_output=True)
    return len(drained)


def faults_of(given: argparse.Namespace, rng: random.Random) -> list[str]:
    """The faults of a part, the last first: half of all, and those that each part has."""
    faults = [rng.choice(INTERRUPTIONS) for _ in range(given.preemptions // 2)]
    faults += ["worker killed"] * (given.kills // 2) + ["controller killed"]
    rng.shuffle(faults)
    return [*faults, "submitter killed"]  # while jobs wait for their base


def campaign(study: Path, standins: int, faults: Sequence[str], rng: random.Random) -> Counts:
    """Train all runs under faults, one every few seconds while a job runs."""
    folder, counts, left = StudyFolder(study), Counts(), list(faults)
    planned = planned_of(study, standins)
    process = start(study, standins)
    while process.poll() is None:
        time.sleep(rng.uniform(2, 6))
        counts.look(folder)
        counts.resumed_nodes += resume_nodes()
        jobs = running_jobs(folder)
        if not left or not jobs:
            continue
        fault = left[-1]
        if fault == "submitter killed":
            process.kill()
            process.wait()
            process = start(study, standins)
        elif fault == "controller killed":
            kill_controller()
        elif fault == "worker killed":
            if not kill_worker(folder, planned, rng):
                continue
        else:
            interrupt(fault, rng.choice(jobs))
        left.pop()
        counts.interruptions[fault] += 1
    counts.look(folder)
    return counts


def differing_runs(study: Path) -> int:
    """Real runs whose points differ from those of an undisturbed grid on this machine."""
    with tempfile.TemporaryDirectory() as other:
        same = make_trunks(Path(other), len(trunks_of(study)))
        LocalEngine(StudyFolder(same), [Slot()]).run(Workspace(same).planned)
        planned = Workspace(same).planned
        ours, theirs = (find_folders(planned, StudyFolder(of).runs) for of in (study, same))
        return sum(points_of(ours[run.name]) != points_of(theirs[run.name]) for run in planned)


def trunks_of(study: Path) -> list[PlannedRun]:
    """The trunks of a study."""
    return [run for run in Workspace(study).planned if run.config.identity.kind == "trunk"]


def describe(study: Path, standins: int, counts: Counts) -> list[tuple[str, str]]:
    """What came of a campaign, as rows of a table."""
    failed = json.loads((StudyFolder(study).path / "failed.json").read_text(encoding="utf-8"))
    rows = describe_runs(study, standins, len(failed))
    rows += [(kind, f"{times}") for kind, times in sorted(counts.interruptions.items())]
    rows += [*describe_repeats(study, counts, standins), describe_left(study, standins)]
    rows.append(("drained nodes that were resumed", f"{counts.resumed_nodes}"))
    if not standins:
        rows.append(("runs that differ from an undisturbed grid", f"{differing_runs(study)}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--standins", type=int, default=1000)
    parser.add_argument("--trunks", type=int, default=50, help="each with its decay")
    parser.add_argument("--preemptions", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("stand-in", "real"), help="this part alone")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive is not None:
        drive(given.drive, given.standins)
        return
    rng = random.Random(given.seed)
    parts = {}
    with tempfile.TemporaryDirectory(prefix="dcpt-faults-") as place:
        for name, standins in {"Stand-in runs": given.standins, "Real runs": 0}.items():
            if given.part and not name.lower().startswith(given.part):
                continue
            path = Path(place) / name.split()[0]
            path.mkdir()
            study = make_trunks(path, given.trunks)
            began = time.monotonic()
            counts = campaign(study, standins, faults_of(given, rng), rng)
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
