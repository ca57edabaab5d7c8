"""How much CPU time do the live view and the assignment of runs take with many runs?

The script writes a folder of synthetic runs, of which three quarters are done and two are in
training. It measures the first reading of all folders, a redraw, a round of assignment while all
workers are busy, a round in which a run ends and the next run is sent, and ``dcpt status``.

    python experiments/benchmarks/live_view.py

Result in ms of CPU time, on one core of an AMD EPYC with Python 3.11. Earlier, a redraw of 800
runs took 1,100 ms, because it listed all folders for each run:

    runs                              800    1,000    3,000
    first reading by the engine        53       68      192
    first redraw                       45       74      158
    redraw                            3.2      4.3      6.4
    assignment, all workers busy     0.00     0.00     0.00
    assignment after a run ended     0.02     0.01     0.01
    dcpt status, without the plan      67       85      345
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from dcpt.cli.show_grid import LiveView
from dcpt.grid.local import LocalEngine, Worker
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import Slot
from dcpt.grid.status import read_status
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import ChannelIdentity, Identity, Recorded, RunConfig
from dcpt.study.folder import StudyFolder

N_TOKENS = 1_000_000
TRAIN_LINES = 300
CHANNELS = (
    ChannelIdentity(name="en", side="general", weight=1, train_sha256="a", valid_sha256="b"),
    ChannelIdentity(name="law", side="domain", weight=1, train_sha256="a", valid_sha256="b"),
)


def make_run(seed: int, size: int) -> PlannedRun:
    """Make a trunk that differs from the others in its seed."""
    identity = Identity(
        kind="trunk",
        base="weights:00",
        tokenizer_sha256="c",
        channels=CHANNELS,
        ratio=0.5,
        learning_rate=1e-3,
        warmup_tokens=10_000,
        batch_sequences=10,
        sequence_tokens=100,
        validation_tokens=100,
        seed=seed,
    )
    recorded = Recorded(size=f"s{size}", n_tokens=N_TOKENS, evaluation_at=(N_TOKENS,))
    return PlannedRun(RunConfig(identity=identity, recorded=recorded), about_n_params=1e6 * size)


def write_folder(run: PlannedRun, folder: Path, is_done: bool) -> None:
    """Write the files of a run that is done or in training."""
    stored = RunFolder(folder)
    stored.write_config(run.config)
    losses = {"en": 3.0, "law": 2.0}
    line = {"event": "train", "n_tokens": 1000, "tokens_per_s": 5e4, "channel_loss": losses}
    stored.metrics.write_text((json.dumps(line) + "\n") * TRAIN_LINES)
    if is_done:
        result = {"n_tokens": N_TOKENS, "loss": losses, "tokens_per_s": 5e4, "wall_s": 20.0}
        stored.write_result(result)


class NullConnection:
    """A connection that discards what is sent."""

    def send(self, _: Any) -> None:
        """Discard a message."""


def cpu_ms(call: Callable[[], object], times: int = 1) -> float:
    """Measure the CPU time of a call in ms, averaged over ``times`` calls."""
    started = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - started) / times * 1e3


def measure(n_runs: int, folder: Path) -> dict[str, float]:
    """Measure all costs, in ms of CPU time."""
    study = StudyFolder(folder / "study.yaml")
    runs = [make_run(seed, 1 + seed % 8) for seed in range(n_runs)]
    n_done = n_runs * 3 // 4
    for index, run in enumerate(runs[: n_done + 2]):
        write_folder(run, study.runs / run.name, index < n_done)
    runs = [replace(run) for run in runs]  # Forget the hashes, as in a new process.
    costs = {}
    started = time.process_time()
    queue = RunQueue(runs, study)
    costs["first reading by the engine"] = (time.process_time() - started) * 1e3

    workers = [Worker(slot=Slot(), process=None, connection=NullConnection()) for _ in range(2)]
    engine = LocalEngine(study, [worker.slot for worker in workers])
    for worker, run in zip(workers, runs[n_done : n_done + 2], strict=True):
        queue.take(run)
        worker.busy_with[run.name] = run
    costs["assignment, all workers busy"] = cpu_ms(lambda: engine._assign(queue, workers), 100)

    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    live = Live(console=console, auto_refresh=False)
    with ExitStack() as locks, live:
        for run in queue.running.values():
            locks.enter_context(queue.folders[run.name].lock())
        view = LiveView(console, engine.slots, "grid", live)
        costs["first redraw"] = cpu_ms(lambda: view.tick(queue))
        status = view.status
        assert status is not None
        costs["redraw"] = cpu_ms(lambda: view.draw(status), 50)
        fresh = [replace(run) for run in runs]
        costs["dcpt status, without the plan"] = cpu_ms(lambda: read_status(fresh, study))

    def end_and_assign() -> None:
        (run,) = workers[0].busy_with.values()
        workers[0].busy_with.clear()
        queue.end(run, "finished")
        engine._assign(queue, workers)

    costs["assignment after a run ended"] = cpu_ms(end_and_assign, 20)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[800, 1000, 3000])
    for n_runs in parser.parse_args().runs:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{n_runs} runs, ms of CPU time")
            for what, cost in measure(n_runs, Path(folder)).items():
                print(f"  {what:32} {cost:10.2f}")


if __name__ == "__main__":
    main()
