"""Does anything get lost when the local engine is killed again and again?

Hypothesis: nothing that is finished is lost or trained again, an interruption costs at most one
checkpoint interval, Ctrl-C costs nothing, no process stays behind, and the runs end as those of an
undisturbed grid, to the last bit.

Two engines of one worker each train one study of tiny runs at the same time. At random moments one
of them is interrupted and started again: by SIGKILL to the engine alone, whose worker then saves by
itself; by SIGKILL to the engine and its worker, as when a machine is lost; and by Ctrl-C. The
workers write a line with the time after every step, and note every checkpoint, so the steps that
are repeated are counted exactly.

Command, about 20 minutes on 2 cores of a shared machine; it writes ``local_faults.md`` in this
folder at its end::

    OMP_NUM_THREADS=1 python experiments/local_faults.py --kills 20 --stops 6
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from pages import markdown

HERE = Path(__file__).parent
STUDY = """
name: faults
channels:
  - {name: en, side: general, train: general.jsonl, valid_fraction: 10%}
  - {name: law, side: domain, train: domain.jsonl, valid_fraction: 10%}
tokenizer: 300
bases:
  ladder:
    tokens: 256k
    learning_rate: 1e-2
    sizes:
      a: {width: 16, layers: 1, heads: 1}
      b: {width: 24, layers: 1, heads: 1}
grid:
  - {bases: [a, b], ratios: [0.25, 0.5, 0.75], learning_rates: [3e-3]}
tokens: 1152k
branches: {decay: 20%}
training: {batch_sequences: 8, sequence_tokens: 32, warmup: 5%, checkpoint_every_s: 1}
evaluation: {tokens: 1024, points_per_doubling: 1, first_tokens: 1024}
"""
KINDS = ("engine alone", "engine and worker", "Ctrl-C")
MARK = "DCPT_LOCAL_FAULTS"

ABOUT = """# local_faults: the local engine, killed at random moments

Written by `OMP_NUM_THREADS=1 python experiments/local_faults.py {arguments}`; its docstring
states the question and how it is measured. A checkpoint is due a second after the last, or 20 times
as long after it as that took to save. 2 cores of a shared machine.

"""


# ----------------------------------------------------------------------------------- in the engines
def work_and_note(connection: Connection, study: str, *arguments: Any) -> None:
    """The engine's worker, which writes a line with the time after every step."""
    from dcpt.grid.worker import work
    from dcpt.training import loop, state, watch
    from dcpt.training.journal import Journal

    watch.LOG_EVERY_S = 0.0
    write, save = Journal.write_training, state.save_state

    def write_with_time(journal: Journal, event: dict[str, Any]) -> None:
        write(journal, {**event, "at": time.time()})

    def save_and_note(path: Path, saved: Any, *about: Any) -> None:
        began = time.time()
        save(path, saved, *about)
        record = {"run": path.parent.name, "step": saved.step, "began": began, "at": time.time()}
        with (Path(study) / "saves.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    Journal.write_training = write_with_time  # type: ignore[assignment,method-assign]
    vars(loop)["save_state"] = save_and_note
    work(connection, study, *arguments)


def run_engine(file: Path) -> None:
    """Train the study with one worker, as ``dcpt run-grid`` does."""
    from dcpt.errors import Stopped
    from dcpt.grid.local import LocalEngine
    from dcpt.grid.slots import Slot
    from dcpt.pipeline.workspace import Workspace

    class Noting(LocalEngine):
        _work = staticmethod(work_and_note)  # type: ignore[assignment]

    workspace = Workspace(file)
    try:
        outcome = Noting(workspace.folder, [Slot()]).run(workspace.planned)
    except Stopped as stop:
        sys.exit(stop.exit_code)
    sys.exit(1 if outcome.failed else 0)


# ------------------------------------------------------------------------------------- the campaign
@dataclass
class Counts:
    """What went wrong, and how often it could have.

    Args:
        interrupted: Interruptions of each kind.
        finished: Runs that were finished at some interruption.
        changed: Finished runs whose files changed after that.
        left: Processes that were still there 30 s after their engine.
    """

    interrupted: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    changed: int = 0
    left: int = 0


@dataclass(frozen=True)
class Repeat:
    """Steps of a run that were taken again after an interruption.

    Args:
        kind: The kind of interruption.
        steps: How many steps.
        seconds: Time from the state that it went on from to the last step before the interruption.
        interval_s: The checkpoint interval at that moment, with a save.
    """

    kind: str
    steps: int
    seconds: float
    interval_s: float


def start_engine(file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--engine", str(file)]
    return subprocess.Popen(
        command, start_new_session=True, env={**os.environ, MARK: str(file.parent)}
    )


def interrupt(engine: subprocess.Popen[bytes], kind: str) -> None:
    """Interrupt an engine, and wait until it is gone."""
    if kind == "engine alone":
        os.kill(engine.pid, signal.SIGKILL)
    else:
        number = signal.SIGINT if kind == "Ctrl-C" else signal.SIGKILL
        os.killpg(engine.pid, number)
    engine.wait()


def marked_processes(folder: Path) -> list[int]:
    """Processes of the campaign's engines in a study's folder."""
    mark, found = f"{MARK}={folder}".encode(), []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdecimal() and mark in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:  # it has just ended
            continue
    return found


def finished_files(file: Path) -> dict[str, bytes]:
    """The result and the journal of every finished run."""
    found = {}
    for result in sorted((file.parent / "runs").glob("*/result.json")):
        journal = result.with_name("metrics.jsonl").read_bytes()
        found[result.parent.name] = result.read_bytes() + journal
    return found


def campaign(file: Path, kinds: list[str], rng: Random) -> tuple[Counts, list[tuple[float, str]]]:
    """Train the study while its engines are interrupted; returns counts, and when what happened."""
    counts, moments = Counts(), list[tuple[float, str]]()
    engines = [start_engine(file) for _ in range(2)]
    known: dict[str, bytes] = {}
    for kind in kinds:
        wait_for_steps(file, rng.uniform(1.0, 5.0), engines)
        index = rng.randrange(2)
        if engines[index].poll() is not None:  # nothing is left to train
            break
        moments.append((time.time(), kind))
        interrupt(engines[index], kind)
        counts.interrupted[kind] += 1
        now = finished_files(file)
        counts.changed += sum(now.get(name) != content for name, content in known.items())
        known |= now
        print(f"{kind}: {len(known)} runs finished", flush=True)
        engines[index] = start_engine(file)
    for engine in engines:
        assert engine.wait() == 0
    now = finished_files(file)
    counts.changed += sum(now.get(name) != content for name, content in known.items())
    counts.finished = len(known)
    deadline = time.monotonic() + 30
    while (left := marked_processes(file.parent)) and time.monotonic() < deadline:
        time.sleep(1)
    counts.left = len(left)
    return counts, moments


def wait_for_steps(file: Path, seconds: float, engines: list[subprocess.Popen[bytes]]) -> None:
    """Wait until both engines train, and then for some time."""
    runs = file.parent / "runs"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and all(engine.poll() is None for engine in engines):
        fresh = [p for p in runs.glob("*/metrics.jsonl") if time.time() - p.stat().st_mtime < 0.5]
        if len(fresh) >= 2:
            break
        time.sleep(0.1)
    time.sleep(seconds)


def find_repeats(file: Path, moments: list[tuple[float, str]]) -> Iterator[Repeat]:
    """Every place in the journals where a run went back."""
    lines = (file.parent / "saves.jsonl").read_text(encoding="utf-8").splitlines()
    saves = [json.loads(line) for line in lines]
    for journal in sorted((file.parent / "runs").glob("*/metrics.jsonl")):
        events = [json.loads(line) for line in journal.read_bytes().split(b"\n")[:-1]]
        steps = [event for event in events if event["event"] == "train"]
        own = [save for save in saves if save["run"] == journal.parent.name]
        for last, first in pairwise(steps):
            if first["step"] != last["step"] + 1:
                kind = next(kind for at, kind in moments if last["at"] <= at <= first["at"])
                yield describe_repeat(kind, last, first, steps, own)


def describe_repeat(
    kind: str,
    last: dict[str, Any],
    first: dict[str, Any],
    steps: list[dict[str, Any]],
    saves: list[dict[str, Any]],
) -> Repeat:
    """How far a run went back between two lines of its journal."""
    n_repeated = last["step"] - first["step"] + 1
    before = [save for save in saves if save["at"] <= first["at"]]
    took_s = max((save["at"] - save["began"] for save in before[-2:]), default=0.0)
    began = [s["at"] for s in steps if s["step"] == first["step"] and s["at"] <= last["at"]]
    seconds = last["at"] - began[-1] if began else 0.0
    return Repeat(kind, n_repeated, max(0.0, seconds), max(1.0, 20 * took_s) + took_s)


def compare(file: Path, other: Path) -> int:
    """Number of runs whose points or states differ from those of the undisturbed grid."""
    import torch
    from faults import points_of
    from safetensors.torch import load_file

    from dcpt.runs.folders import RunFolder

    differ = 0
    for journal in sorted((other.parent / "runs").glob("*/metrics.jsonl")):
        folder = file.parent / "runs" / journal.parent.name
        is_same = points_of(RunFolder(folder)) == points_of(RunFolder(journal.parent))
        for path in journal.parent.glob("*.safetensors"):
            ours, theirs = load_file(folder / path.name), load_file(path)
            is_same &= all(torch.equal(ours[name], theirs[name]) for name in theirs)
        differ += not is_same
    return differ


def make_own_study(folder: Path) -> Path:
    """Write and prepare the study, so that both of its copies have the same warmup."""
    from faults import make_study

    from dcpt.pipeline.workspace import Workspace

    folder.mkdir()
    file = make_study(folder, STUDY)
    Workspace(file).planner.settle_warmup()
    return file


def write_page(
    arguments: str, counts: Counts, repeats: list[Repeat], n_runs: int, differ: int
) -> str:
    """The page, with a row for each kind of interruption."""
    rows = []
    for kind in KINDS:
        own = [repeat for repeat in repeats if repeat.kind == kind]
        over = sum(repeat.seconds > repeat.interval_s for repeat in own)
        rows.append((
            kind,
            str(counts.interrupted[kind]),
            str(len(own)),
            f"{max((repeat.steps for repeat in own), default=0):,}",
            f"{max((repeat.seconds for repeat in own), default=0.0):.2f}",
            f"{max((repeat.interval_s for repeat in own), default=0.0):.2f}",
            str(over),
        ))  # fmt: skip
    head = (
        "interruption", "times", "with steps repeated", "most steps repeated",
        "most seconds repeated", "longest interval, s", "beyond an interval",
    )  # fmt: skip
    facts = [
        f"- Runs: {n_runs}; finished at an interruption: {counts.finished}; of these changed or "
        f"trained again: {counts.changed}.",
        f"- Runs that differ from the undisturbed grid in a point or a bit of a state: {differ}.",
        f"- Processes left 30 s after the end: {counts.left}.",
    ]
    return ABOUT.format(arguments=arguments) + markdown(head, rows) + "\n".join(facts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill the local engine at random moments.")
    parser.add_argument("--kills", type=int, default=20, help="interruptions by SIGKILL")
    parser.add_argument("--stops", type=int, default=6, help="interruptions by Ctrl-C")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", type=Path, help="used by the campaign itself")
    chosen = parser.parse_args()
    if chosen.engine is not None:
        with suppress(KeyboardInterrupt):  # before the engine handles it
            signal.signal(signal.SIGINT, signal.default_int_handler)
            run_engine(chosen.engine)
        sys.exit(128 + signal.SIGINT)
    rng = Random(chosen.seed)
    kinds = [KINDS[number % 2] for number in range(chosen.kills)] + [KINDS[2]] * chosen.stops
    rng.shuffle(kinds)
    with tempfile.TemporaryDirectory(prefix="local-faults-") as scratch:
        file = make_own_study(Path(scratch) / "disturbed")
        shutil.copytree(file.parent, Path(scratch) / "undisturbed")
        other = Path(scratch) / "undisturbed" / file.name
        counts, moments = campaign(file, kinds, rng)
        assert start_engine(other).wait() == 0
        repeats = list(find_repeats(file, moments))
        n_runs = len(finished_files(file))
        arguments = f"--kills {chosen.kills} --stops {chosen.stops}"
        page = write_page(arguments, counts, repeats, n_runs, compare(file, other))
    (HERE / "local_faults.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
