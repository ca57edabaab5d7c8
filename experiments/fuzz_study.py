"""A small study that ``fuzz.py`` trains once, for the parts that need files or a folder."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.context import ForkContext
from pathlib import Path
from random import Random
from typing import Any

from fuzz_cases import Printed, call_dcpt

STUDY = """
name: small
channels:
  - {name: en, side: general, train: general.jsonl, valid_fraction: 10%}
  - {name: law, side: domain, train: domain.jsonl, valid_fraction: 10%}
tokenizer: 300
bases:
  ladder:
    tokens: 8192
    learning_rate: 1e-2
    sizes:
      a: {width: 16, layers: 1, heads: 1}
      b: {width: 24, layers: 1, heads: 1}
grid:
  - {bases: [a, b], ratios: [0.25, 0.5, 0.75], learning_rates: [3e-3]}
tokens: 5120
branches: {decay: 20%}
training: {batch_sequences: 8, sequence_tokens: 32, warmup: 5%, checkpoint_every_s: 0.001}
evaluation: {tokens: 1024, points_per_doubling: 1, first_tokens: 1024}
target: {base: b, tokens: 6144, limit: +20%}
"""
LAWS = ["--law", "joint-general", "--law", "paced-domain", "--draws", "20"]
BASE = "runs/pretrain-a-*"
STEPS = (
    ["prepare", "study.yaml", "--workers", "1"],
    ["run-grid", "study.yaml", "--workers", "2"],
    ["evaluate", "runs/pretrain-b-*/model", "--study", "study.yaml", "--label", "b"],
    ["fit", "study.yaml", *LAWS],
    ["recommend", "study.yaml"],
    ["verify", "study.yaml", "--workers", "2"],
    ["report", "study.yaml"],
)
TRIES = 40


class _ForkedWorkers:
    """Replaces multiprocessing's spawn context: workers are forks, which do not import again.

    A fork inherits the engine's ends of the pipes and would never see them closed, so it closes
    them first.
    """

    def __init__(self, fork: ForkContext) -> None:
        self._fork, self._ours = fork, list[Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fork, name)

    def Pipe(self, duplex: bool = True) -> tuple[Any, Any]:
        """Make a pipe; the parent keeps the first end."""
        ours, theirs = self._fork.Pipe(duplex)
        self._ours.append(ours)
        return ours, theirs

    def Process(self, *, target: Any, args: tuple[Any, ...] = (), **options: Any) -> Any:
        """Make a worker."""

        def close_and_work(*given: Any) -> None:
            for end in self._ours:
                with suppress(OSError):
                    end.close()
            target(*given)

        return self._fork.Process(target=close_and_work, args=args, **options)


def fork_workers() -> None:
    """Let the engine fork its workers, which takes 1 s each instead of 5 s, mostly imports."""
    ordinary = multiprocessing.get_context
    workers = _ForkedWorkers(ordinary("fork"))

    def get_context(method: str | None = None) -> Any:
        return workers if method == "spawn" else ordinary(method)

    multiprocessing.get_context = get_context


def call_in_study(words: Sequence[str], folder: Path) -> Printed:
    """Run a command in a study's folder; a word with a star stands for a matching path."""
    os.chdir(folder)
    found = [str(next(iter(sorted(folder.glob(word))), word)) if "*" in word else word
             for word in words]  # fmt: skip
    return call_dcpt([word.removeprefix(f"{folder}/") for word in found], folder)


# --------------------------------------------------------------------------------- making the study
def write_sources(folder: Path) -> None:
    """Write the study file and two texts of random sentences over a few words."""
    texts = {
        "general": "the of and to a in house river people law state union year work peace war man",
        "domain": "fever bone tooth lung other unspecified initial encounter left right acute",
    }
    for name, vocabulary in texts.items():
        rng, words = Random(name), vocabulary.split()
        chances = [1 / rank for rank in range(1, len(words) + 1)]
        lines = [json.dumps({"text": " ".join(rng.choices(words, chances, k=120))})
                 for _ in range(120)]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")


def make_study(folder: Path) -> None:
    """Run every command on the study, and put notes of the user into its folders."""
    fork_workers()
    write_sources(folder)
    for words in STEPS:
        printed = call_in_study(words, folder)
        if printed.code != 0:
            raise RuntimeError(f"{' '.join(words)} ended with {printed.code}: {printed.words}")
    call_dcpt(["runs", "study.yaml", "--out", "table.csv"], folder)
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        if len(place.relative_to(folder).parts) <= 2:
            (place / "notes.txt").write_text("a person's own\n", encoding="utf-8")


def interrupt_study(folder: Path) -> None:
    """Turn a copy of the trained study into one whose training was killed at a checkpoint.

    Another trunk lacks its decay, so its state and its base are needed as well.
    """
    fork_workers()
    trunks = sorted(path for path in folder.glob("runs/a-*") if "branch" not in path.name)
    stopped, other = trunks[:2]
    for _ in range(TRIES):
        for trunk in (stopped, other):
            for branch in folder.glob(f"runs/{trunk.name.rpartition('-')[0]}-branch*"):
                shutil.rmtree(branch)
        shutil.rmtree(stopped)
        if _train_and_kill(folder, stopped):
            break
    else:
        raise RuntimeError("no run could be stopped half-way: each had already finished")
    for branch in folder.glob(f"runs/{other.name.rpartition('-')[0]}-branch*"):
        shutil.rmtree(branch)
    failure = {"message": "OSError: no space left on device", "traceback": "..."}
    (stopped / "error.json").write_text(json.dumps(failure), encoding="utf-8")
    (stopped / "notes.txt").write_text("a person's own\n", encoding="utf-8")


def _train_and_kill(folder: Path, run: Path) -> bool:
    """Train until the run has a checkpoint, then kill; returns whether the kill was in time."""
    pid = os.fork()
    if not pid:
        os.setsid()
        call_dcpt(["run-grid", "study.yaml", "--workers", "1"], folder)
        os._exit(0)
    checkpoint, until = run / "checkpoint.safetensors", time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < until:
        if (run / "result.json").exists():
            break
        time.sleep(0.0005)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    time.sleep(0.1)  # Wait for its workers, whose group was killed too.
    return checkpoint.exists() and not (run / "result.json").exists()


# ---------------------------------------------------------------------------- files of the user
def is_of_user(path: Path) -> bool:
    """Whether a file in the study's folder belongs to the user."""
    own = ("notes.txt", "study.yaml", "general.jsonl", "domain.jsonl", "table.csv", "theirs.txt")
    return path.name in own


def hash_own_files(folder: Path) -> dict[str, str]:
    """Hash each file of the user, by path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and is_of_user(path)
    }


def find_lost_file(folder: Path, before: dict[str, str]) -> str | None:
    """Find a file of the user that changed or is missing; it may move with its folder."""
    after = hash_own_files(folder)
    for name, digest in before.items():
        kept = [
            path
            for path, found in after.items()
            if Path(path).name == Path(name).name and found == digest
        ]
        moved = [path for path in kept if path not in before]
        if after.get(name) != digest and not moved:
            return name
    return None
