"""A run over the processes of torchrun, on two "nodes" of this machine (gloo on the loopback)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from made_runs import points_of
from test_micro_batches import assert_close_points
from tiny_study import STUDY, write_tiny_study
from typer.testing import CliRunner

from dcpt.cli import app
from dcpt.errors import InputError
from dcpt.pipeline.train_run import train_run
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.cancelled import cancel
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training.loop import train

pytestmark = pytest.mark.long

ENVIRONMENT = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with one trunk, whose base is trained."""
    folder = tmp_path_factory.mktemp("study")
    study = write_tiny_study(folder)
    small = STUDY.replace("bases: [a, b], ratios: [0.25, 0.5, 0.75]", "bases: [a], ratios: [0.5]")
    study.write_text(small.replace("tokens: 5120", "tokens: 153600"), encoding="utf-8")
    assert CliRunner().invoke(app, ["prepare", str(study), "--workers", "1"]).exit_code == 0
    workspace = Workspace(study)
    workspace.planner.settle_warmup()
    base = next(run for run in workspace.planned if run.config.identity.kind == "pretrain")
    train(base.config, folder)
    return folder


@pytest.fixture
def study(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "shared")
    return tmp_path / "shared" / "study.yaml"


def trunk_of(study: Path) -> tuple[RunConfig, RunFolder]:
    runs = Workspace(study).planned
    config = next(run.config for run in runs if run.config.identity.kind == "trunk")
    return config, RunFolder.of(config, study.parent / "runs")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def two_nodes(study: Path, run: str) -> Iterator[list[subprocess.Popen[str]]]:
    """torchrun on two nodes, each with a process that trains the run."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    command += ["--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "test"]
    command += ["--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--local-addr", "127.0.0.1"]
    command += ["-m", "dcpt", "train-run", str(study), run]
    pipe = subprocess.PIPE
    nodes = [
        subprocess.Popen(
            command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        for _ in range(2)
    ]
    try:
        yield nodes
    finally:
        for node in nodes:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
            node.communicate()


def outcome(nodes: list[subprocess.Popen[str]]) -> tuple[list[int], str, str]:
    """Exit codes, and all that was printed and written to stderr."""
    said = [node.communicate(timeout=240) for node in nodes]
    return [node.returncode for node in nodes], *("".join(each) for each in zip(*said, strict=True))


def test_a_run_over_two_nodes_is_saved_and_ends_as_on_one_device(
    study: Path, prepared: Path
) -> None:
    config, run = trunk_of(study)
    with two_nodes(study, run.path.name) as nodes:
        while not run.metrics.exists():
            assert all(node.poll() is None for node in nodes), outcome(nodes)
            time.sleep(0.02)
        for node in nodes:
            node.terminate()
        _, out, _ = outcome(nodes)
    assert f"saved {run.path.name}; the same command goes on" in out
    assert run.checkpoint.exists()
    assert run.result() is None
    assert not run.is_locked()

    with two_nodes(study, run.path.name) as nodes:
        codes, out, err = outcome(nodes)
    assert codes == [0, 0], err
    assert f"finished {run.path.name}: 153,600 tokens" in out
    result = run.result()
    assert result is not None
    assert result["gpus"] == 2
    _, alone = trunk_of(prepared / "study.yaml")
    train(config, prepared)
    assert_close_points(points_of(run), points_of(alone), within=1e-5)


def test_two_nodes_refuse_a_cancelled_run_once(study: Path) -> None:
    _, run = trunk_of(study)
    cancel(run.path)
    with two_nodes(study, run.path.name) as nodes:
        codes, _, err = outcome(nodes)
    assert 0 not in codes
    assert err.count("dcpt: run") == 1
    assert f"dcpt: run {run.path.name} is cancelled; to train it, delete" in err


def test_a_run_that_another_process_trains_is_refused(study: Path) -> None:
    """A single process, with the environment that torchrun would give it."""
    _, run = trunk_of(study)
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "dcpt", "train-run", str(study), run.path.name]
    with run.lock():
        done = subprocess.run(
            command, env={**ENVIRONMENT, **place}, capture_output=True, text=True, timeout=240
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"dcpt: run {run.path.name}: another process trains it")


def test_a_process_without_torchrun_is_refused(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="'RANK' is not set; start it with torchrun"):
        train_run(study, "a")
