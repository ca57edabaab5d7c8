"""What a job of a cluster does on its node: check the node, and train some runs there."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dcpt
from dcpt.atomic_files import write_text
from dcpt.errors import InputError
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import Outcome
from dcpt.grid.slots import Slot, choose_slots
from dcpt.own_folders import is_marked, mark_folder
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.study.folder import StudyFolder


@dataclass(frozen=True)
class Order:
    """What a job has to do; plain values, so that a node with another dcpt can read it and refuse.

    Attributes:
        study: Path of the study file, the same on all nodes.
        version: The version of dcpt that planned the runs.
        marker: What the file ``marker_file`` holds where the study's folder is the same.
        marker_file: A file in the study's folder.
        runs: The runs to train, from :func:`describe_run`.
        needed: The runs outside the job that they start from.
        gpus: GPUs of the job; 0 trains on the CPU.
        cpus: Cores of the job.
        warned_after_s: Seconds after which a warning means that the job's time is up; before them
            the job is preempted.
    """

    study: str
    version: str
    marker: str
    marker_file: str
    runs: Sequence[Mapping[str, Any]]
    needed: Sequence[Mapping[str, Any]]
    gpus: int
    cpus: int
    warned_after_s: float = 0.0


def describe_run(run: PlannedRun) -> dict[str, Any]:
    """A planned run as plain values."""
    return {
        "config": run.config.model_dump(mode="json"),
        "needs": list(run.needs),
        "about_n_params": run.about_n_params,
        "n_devices": run.n_devices,
    }


def read_run(record: Mapping[str, Any]) -> PlannedRun:
    """The planned run that :func:`describe_run` described."""
    return PlannedRun(
        config=RunConfig.model_validate(record["config"]),
        needs=tuple(record["needs"]),
        about_n_params=record["about_n_params"],
        n_devices=record["n_devices"],
    )


def engine_marker(path: Path, what: str) -> Path:
    """Make a folder for the files of an engine, with the marker that nodes look for.

    Args:
        path: The folder, in that of the study.
        what: What it holds, for the message.

    Returns:
        The marker.

    Raises:
        InputError: If a folder of that name is not dcpt's.
    """
    if path.exists() and not is_marked(path) and any(path.iterdir()):
        raise InputError(
            f"{path}: dcpt keeps {what} in a folder of this name and did not make this one; "
            "rename it"
        )
    path.mkdir(exist_ok=True)
    marker = path / "marker"
    if not marker.is_file():
        mark_folder(path)
        write_text(marker, secrets.token_hex(8))
    return marker


def check_node(order: Order, node: str) -> None:
    """Refuse a node that would train something else than was asked.

    Args:
        order: What the job has to do.
        node: Name of the node.

    Raises:
        InputError: If it has another version of dcpt, or another folder at the study's path.
    """
    if dcpt.__version__ != order.version:
        raise InputError(
            f"node {node} has dcpt {dcpt.__version__}, and the study was submitted with "
            f"{order.version}; install the same version on all nodes, and rerun"
        )
    marker = Path(order.marker_file)
    if not marker.is_file() or marker.read_text(encoding="utf-8") != order.marker:
        raise InputError(
            f"node {node} does not see the study's folder {Path(order.study).parent}; put the "
            "study on a file system that all nodes share, and rerun"
        )


def slots_here(order: Order, node: str) -> list[Slot]:
    """The places for runs on this node.

    Raises:
        InputError: If the job has fewer GPUs than it asked for.
    """
    if not order.gpus:
        return [Slot() for _ in range(order.cpus)]
    slots = choose_slots()
    n_gpus = sum(slot.is_accelerator for slot in slots)
    if n_gpus < order.gpus:
        raise InputError(
            f"node {node} shows a job {n_gpus} GPUs, and the study asks for {order.gpus} per node; "
            "check its driver and the CUDA build of torch, or lower the number"
        )
    return slots[: order.gpus]


def train_here(order: Order, node: str) -> Outcome:
    """Train the runs of a job on this node, several at a time where it has the devices.

    A run whose base or trunk is not done fails; it is not trained here, since another job does.

    Raises:
        InputError: If the node does not fit.
        Stopped: If a signal stopped it; the runs in training were saved.
    """
    from dcpt.grid.local import LocalEngine

    check_node(order, node)
    folder = StudyFolder(Path(order.study))
    needed = [read_run(record) for record in order.needed]
    done = [run for run in needed if RunFolder.of(run.config, folder.runs).is_done(run.config)]
    runs = [read_run(record) for record in order.runs]
    return LocalEngine(folder, slots_here(order, node)).run([*done, *runs])
