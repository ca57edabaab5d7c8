"""What the experiments that interrupt runs share: their studies, and what they count.

Stand-in runs are those of ``counted_runs.py``.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from counted_runs import CHECKPOINT_STEPS, read_steps
from fuzz_study import write_sources

from dcpt.grid.planned import PlannedRun, find_folders
from dcpt.leases import holder
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.study.folder import StudyFolder

HERE = Path(__file__).parent

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


def make_study(folder: Path, content: str) -> Path:
    """Write and prepare a study with two small texts."""
    write_sources(folder)
    study = folder / "study.yaml"
    study.write_text(content, encoding="utf-8")
    prepare_study(Workspace(study), workers=1)
    return study


def make_trunks(folder: Path, n_trunks: int) -> Path:
    """Write and prepare a study of some trunks that differ in their seeds."""
    return make_study(folder, STUDY.replace("SEEDS", ", ".join(map(str, range(n_trunks)))))


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


def path_of_standins() -> str:
    """``PYTHONPATH`` of the processes that train stand-in runs, so that they find their module."""
    return os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])


@dataclass
class Counts:
    """What was seen of a campaign."""

    interruptions: Counter[str] = field(default_factory=Counter)
    finished: dict[str, int] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    resumed_nodes: int = 0

    def look(self, folder: StudyFolder) -> None:
        """Note the runs that finished, and those whose result was written again."""
        for path in folder.runs.glob("*/result.json"):
            written = path.stat().st_mtime_ns
            if self.finished.setdefault(path.parent.name, written) != written:
                self.changed.add(path.parent.name)


def repeated_steps(folder: StudyFolder) -> list[int]:
    """Steps that each interrupted stand-in counted again, for each time."""
    found = []
    for run in sorted(folder.runs.iterdir()):
        steps = read_steps(run)
        found += [last - step + 1 for last, step in pairwise(steps) if step <= last]
    return found


def points_of(folder: RunFolder) -> list[dict[str, Any]]:
    """The points of a run, without times."""
    return [{**point, "wall_s": None} for point in folder.points()]


def describe_runs(study: Path, standins: int, n_failed: int) -> list[tuple[str, str]]:
    """How many runs there are and how they ended, as rows of a table."""
    planned = planned_of(study, standins)
    found = find_folders(planned, StudyFolder(study).runs)
    n_done = sum(found[run.name].is_done(run.config) for run in planned)
    return [("runs", f"{len(planned)}"), ("finished", f"{n_done}"), ("failed", f"{n_failed}")]


def describe_repeats(study: Path, counts: Counts, standins: int) -> list[tuple[str, str]]:
    """What was trained twice, as rows of a table; repeated steps of stand-ins alone."""
    rows = [("finished runs that were written again", f"{len(counts.changed)}")]
    if not standins:
        return rows
    again = repeated_steps(StudyFolder(study))
    worst = f"{max(again, default=0)} of {CHECKPOINT_STEPS} between checkpoints"
    return [
        *rows,
        ("interruptions that repeated steps", f"{len(again)}"),
        ("most steps repeated by an interruption", worst),
    ]


def describe_left(study: Path, standins: int) -> tuple[str, str]:
    """Processes of this machine that still hold a run, as a row of a table."""
    found = find_folders(planned_of(study, standins), StudyFolder(study).runs)
    owners = [holder(run.path / "lease") for run in found.values()]
    n_left = sum(owner is not None and Path(f"/proc/{owner.pid}").exists() for owner in owners)
    return "processes of workers left", f"{n_left}"
