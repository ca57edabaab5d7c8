"""Start the processes of a run over several devices, and end them together."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from dcpt.errors import InputError
from dcpt.leases import no_owner
from dcpt.processes import (
    STOP_SIGNALS,
    block_signals,
    end_with_parent,
    ignore_signals,
    run_and_exit,
)
from dcpt.runs.failures import add_stacks
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training.loop import train_stepwise
from dcpt.training.sharded.ranks import Ranks, join_ranks
from dcpt.training.watch import TrainingError, kind_of
from dcpt.training.watchdog import WATCHDOG

_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"

_POLL_S = 0.2
"""Seconds between two looks at the processes."""

_MOST_LETTERS = 8000
"""Letters of an error that are passed on: a pipe takes 64 kB before somebody reads it."""


@dataclass(frozen=True)
class _Job:
    """What every process of a run is told."""

    config: RunConfig
    study: Path
    devices: tuple[str, ...]
    stop_at_step: int | None
    check_owner: Callable[[], None]
    note: str | None
    always_shards: bool
    threads: int
    meeting_place: str
    parent: int


@dataclass(frozen=True)
class _Links:
    """What connects the processes of a run with the one that started them.

    Attributes:
        stop: An event that asks the run to save and end.
        reached: A shared integer: tokens that the run has reached, -1 before its first step.
        failures: Takes the kind, the words and the trace of an error.
        stacks: Folder for the stacks of processes that make no progress.
    """

    stop: Any
    reached: Any
    failures: Any
    stacks: Path


def train_over(
    config: RunConfig,
    study: Path,
    devices: Sequence[str],
    *,
    stop_at_step: int | None = None,
    must_stop: Callable[[], bool] = lambda: False,
    check_owner: Callable[[], None] = no_owner,
    note: str | None = None,
    always_shards: bool = False,
) -> Iterator[int | None]:
    """Train a run over several devices, a process for each.

    Yields several times a second: the tokens reached, None before the first step.

    Losses are those of ``train`` on a single device, and a run may go on with another number of
    devices. If a process ends, the others are ended too.

    Args:
        config: The run.
        study: The study's folder.
        devices: A device for each process: ``cuda:0``, ``cuda:1``, or ``cpu`` several times.
        stop_at_step: As in ``train``.
        must_stop: As in ``train_stepwise``.
        check_owner: As in ``train_stepwise``; it is sent to the processes.
        note: As in ``train_stepwise``.
        always_shards: As in ``Ranks``.

    Raises:
        InputError: As ``train``.
        TrainingError: As ``train``; its kind is ``killed`` if a process was.
    """
    WATCHDOG.announce()  # the processes load torch before the first look at them
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="dcpt-") as folder:
        links = _Links(context.Event(), context.Value("q", -1), context.SimpleQueue(), Path(folder))
        job = _Job(
            config,
            study,
            tuple(devices),
            stop_at_step,
            check_owner,
            note,
            always_shards,
            threads=max(1, torch.get_num_threads() // len(devices)),
            meeting_place=f"file://{folder}/meeting",
            parent=os.getpid(),
        )
        processes = [
            context.Process(target=run_and_exit, args=(_train_rank, job, index, links))
            for index in range(len(devices))
        ]
        try:
            with block_signals():
                for process in processes:
                    process.start()
            while any(process.exitcode is None for process in processes):
                wait([p.sentinel for p in processes if p.exitcode is None], timeout=_POLL_S)
                _check(config, study, processes, links)
                if must_stop():
                    links.stop.set()
                yield links.reached.value if links.reached.value >= 0 else None
            _check(config, study, processes, links)
        finally:
            _end(processes)


def _end(processes: Sequence[Any]) -> None:
    """End the processes that were started and have not ended."""
    for process in processes:
        if process.pid is not None:
            process.kill()
            process.join()


def _check(config: RunConfig, study: Path, processes: Sequence[Any], links: _Links) -> None:
    """Raise the error of the process that failed first."""
    codes = [process.exitcode for process in processes]
    if not any(codes):  # all run or ended well
        return
    place = f"run {config.name}"
    for index, code in enumerate(codes):
        if code is not None and code < 0:  # the others only miss it
            raise TrainingError(
                f"{place}: process {index} of {len(codes)} was killed by signal {-code}; rerun to "
                "resume from the last checkpoint",
                "killed",
            )
    stacks = [path.read_text(encoding="utf-8") for path in sorted(links.stacks.glob("*.txt"))]
    if any(stacks):
        add_stacks(RunFolder.of(config, study / "runs"), "\n".join(stacks))
        raise TrainingError(
            f"{place}: a process made no progress and was ended; stacks.txt in the run's folder "
            "shows where it stood; rerun to resume from the last checkpoint",
            "killed",
        )
    if links.failures.empty():
        raise TrainingError(f"{place}: a process ended with exit codes {codes}", "killed")
    kind, words, trace = links.failures.get()
    error = InputError(words) if kind == "input" else TrainingError(words, kind)
    error.add_note(trace)  # error.json shows where in the process it was raised
    raise error


def _train_rank(job: _Job, index: int, links: _Links) -> None:
    """The process of a rank."""
    ignore_signals(STOP_SIGNALS)
    end_with_parent(job.parent)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK)  # a host's name may have no address
    torch.set_num_threads(job.threads)
    device = job.devices[index]
    ranks = Ranks(index, len(job.devices), job.always_shards)
    with (links.stacks / f"{index}.txt").open("w", encoding="utf-8") as stacks:
        with join_ranks(ranks, device, job.meeting_place):
            WATCHDOG.start(stacks, on_accelerator=device != "cpu")
            try:
                for n_tokens in train_stepwise(
                    job.config,
                    job.study,
                    device=device,
                    stop_at_step=job.stop_at_step,
                    must_stop=links.stop.is_set,
                    check_owner=job.check_owner,
                    note=job.note,
                    ranks=ranks,
                ):
                    WATCHDOG.note_step()
                    if ranks.is_first:
                        links.reached.value = n_tokens
                ranks.gather(None)  # no process leaves before the first has written the result
            except Exception as error:
                words = str(error)[:_MOST_LETTERS] or type(error).__name__
                trace = traceback.format_exc()[-_MOST_LETTERS:]
                links.failures.put((kind_of(error), words, trace))
                # The others may never answer, so the group is not closed; they are ended from
                # outside.
                os._exit(1)
        WATCHDOG.pause()  # only now: leaving the group may wait for the others
