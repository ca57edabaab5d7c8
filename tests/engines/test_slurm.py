"""The Slurm engine on a real Slurm (``../shared/slurm`` starts one on a single machine)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conformance import EngineConformance, points, results

from dcpt.engines.choose import open_engine
from dcpt.engines.engine import Engine, Tick
from dcpt.engines.slurm import engine as slurm_engine
from dcpt.errors import InputError
from dcpt.grid.local import LocalEngine
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import Slot
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder
from dcpt.study.engine import EngineSection
from dcpt.study.folder import StudyFolder
from dcpt.training.loop import train


def has_slurm() -> bool:
    """Whether a Slurm answers here."""
    asked = ["sinfo", "--noheader"]
    return bool(shutil.which("sbatch")) and subprocess.run(asked, check=False).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_slurm(), reason="no Slurm answers on this machine"),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_engine, "_POLL_S", 1.0)
    # A job finds dcpt and the tests as this process does.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), str(Path.cwd() / "tests")]))


def open_slurm(study: Path, on_tick: Tick | None = None, **settings: object) -> Engine:
    section = EngineSection.model_validate({"kind": "slurm", "slurm": settings})
    return open_engine(section, StudyFolder(study), [], on_tick)


class TestSlurm(EngineConformance):
    def open(self, study: Path, on_tick: Tick | None = None) -> Engine:
        return open_slurm(study, on_tick)


def slurm(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def warn(job: str) -> None:
    """Tell a job that its time is up, as Slurm does before the time limit."""
    slurm("scancel", "--signal=USR2", job)


def requeue(job: str) -> None:
    slurm("scontrol", "requeue", job)


def preempt(_: str) -> None:
    """Take the nodes for a short job of the partition that goes first."""
    wrap = ["--wrap", "sleep 5", "--output", "/dev/null"]
    slurm("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", *wrap)


@pytest.fixture
def long_trunk(study: Path) -> Path:
    """A study of a single trunk that trains for ten seconds or more."""
    text = study.read_text(encoding="utf-8").replace("[0.25, 0.5]", "[0.25]")
    study.write_text(text.replace("tokens: 5120", "tokens: 409600"), encoding="utf-8")
    return study


@pytest.mark.parametrize("interrupt", [warn, requeue, preempt])
def test_an_interrupted_job_starts_again_and_loses_no_step(
    long_trunk: Path, tmp_path: Path, interrupt: Callable[[str], None]
) -> None:
    other = Path(shutil.copytree(long_trunk.parent, tmp_path / "other")) / long_trunk.name
    planned = Workspace(long_trunk).planned
    trunk = planned[1]

    def interrupt_once(queue: RunQueue) -> None:
        events = [e for e in queue.folders[trunk.name].events() if e["event"] == "train"]
        if events and not reached:
            reached.append(events[-1]["n_tokens"])
            record = json.loads((long_trunk.parent / "slurm" / "jobs.json").read_text())
            interrupt(record["submissions"][-1]["job_id"])

    reached: list[int] = []
    outcome = open_slurm(long_trunk, interrupt_once, partition="main").run(planned)
    assert reached
    assert sorted(outcome.finished) == sorted(run.name for run in planned)
    folder = RunQueue(planned, StudyFolder(long_trunk)).folders[trunk.name]
    logged = [event["n_tokens"] for event in folder.events() if event["event"] == "train"]
    assert logged == sorted(set(logged))  # no step was trained twice
    LocalEngine(StudyFolder(other), [Slot()]).run(Workspace(other).planned)
    assert points(long_trunk) == points(other)


def script_of_docs(folder: Path) -> Path:
    """The script of the docs for a run over two nodes, changed for nodes of this machine."""
    page = Path("docs/how-to/slurm.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    changes = {
        " --gpus-per-node=8 --cpus-per-task=16": "",
        "--nproc-per-node=8": "--nproc-per-node=1 --local-addr=127.0.0.1",
        "$first:29500": "127.0.0.1:29500",
        "torchrun": f"{sys.executable} -m torch.distributed.run",
    }
    for old, new in changes.items():
        assert script.count(old) == 1, old
        script = script.replace(old, new)
    path = folder / "train-run.sh"
    path.write_text(script, encoding="utf-8")
    return path


def test_the_script_of_the_docs_trains_a_run_over_two_nodes(
    long_trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    base, trunk = Workspace(long_trunk).planned[:2]
    train(base.config, long_trunk.parent)
    run = RunFolder.of(trunk.config, long_trunk.parent / "runs")
    output = tmp_path / "output"
    command = ["sbatch", "--parsable", "--partition=main", f"--output={output}"]
    command += [script_of_docs(tmp_path), long_trunk, trunk.name]
    job = subprocess.check_output(command, text=True).strip()
    is_warned, deadline = False, time.monotonic() + 300
    while run.result() is None:
        assert time.monotonic() < deadline, output.read_text(encoding="utf-8")
        if not is_warned and any(event["event"] == "train" for event in run.events()):
            slurm("scancel", "--batch", "--signal=USR2", job)
            is_warned = True
        time.sleep(0.5)
    said = output.read_text(encoding="utf-8")
    assert said.index(f"saved {trunk.name}") < said.index(f"finished {trunk.name}")
    logged = [event["n_tokens"] for event in run.events() if event["event"] == "train"]
    assert logged == sorted(set(logged))  # no step was trained twice
    result = run.result()
    assert result is not None
    assert result["gpus"] == 2


def test_jobs_go_on_without_the_process_that_submitted_them(study: Path) -> None:
    code = "from dcpt.cli import main; main()"
    command = [sys.executable, "-c", code, "run-grid", str(study), "--engine", "slurm"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    submitted = [process.stdout.readline() for _ in range(2)]
    process.kill()
    process.communicate()
    assert all(line.startswith("submitted") for line in submitted)
    said: list[str] = []
    planned = Workspace(study).planned
    section = EngineSection.model_validate({"kind": "slurm"})
    outcome = open_engine(section, StudyFolder(study), [], say=said.append).run(planned)
    assert not outcome.failed
    assert said[0] == "2 jobs of earlier calls with 5 runs"
    assert not any(line.startswith("submitted") for line in said)
    assert len(results(study)) == 5


def test_a_partition_that_does_not_exist_is_refused(study: Path) -> None:
    with pytest.raises(InputError, match=r"no partition 'mian' \(main, urgent\).*mean 'main'"):
        open_slurm(study, partition="mian").run(Workspace(study).planned)


def test_what_sbatch_refuses_is_told_in_its_words(study: Path) -> None:
    with pytest.raises(InputError, match=r"Slurm refused the jobs of .*Invalid feature"):
        open_slurm(study, extra={"constraint": "nonsense"}).run(Workspace(study).planned)
