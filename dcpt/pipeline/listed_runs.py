"""``next_runs.yaml``: the runs that ``dcpt next-runs`` chose, for a study to include."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from dcpt.atomic_files import write_text
from dcpt.errors import InputError
from dcpt.grid.planned import Trunk
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.identity import hash_record
from dcpt.study.files import load_included

FILE = "next_runs.yaml"
MARK = "# Written by `dcpt next-runs`, which adds runs to this file while nobody else changes it: "
"""The start of the first line; the hash of the other lines follows."""


def write_listed(workspace: Workspace, trunks: Sequence[Trunk]) -> Path:
    """Write runs into ``next_runs.yaml``, after those that are there.

    Args:
        workspace: The study, whose folder gets the file.
        trunks: The runs, each with a length of its own.

    Returns:
        The file.

    Raises:
        InputError: If dcpt did not write the file that is there, or it was changed since.
    """
    path = workspace.folder.path / FILE
    listed = [_as_run(trunk) for trunk in trunks]
    if path.exists():
        _check_own(path)
        runs = load_included(path, workspace.file).runs
        before = [run.model_dump() for run in runs]
        listed = [*before, *(run for run in listed if run not in before)]
    lines = [
        f"# To train these runs: write `include: {FILE}` into {workspace.file.name}, then call",
        f"# `dcpt run-grid {workspace.file.name}`. tokens count from 0 to the decay.",
        "runs:",
        *(f"  - {_in_a_line(run)}" for run in listed),
    ]
    body = "\n".join(lines) + "\n"
    write_text(path, f"{MARK}{hash_record(body)}\n{body}")
    return path


def _as_run(trunk: Trunk) -> dict[str, object]:
    return {
        "base": trunk.base,
        "ratio": trunk.ratio,
        "learning_rate": trunk.learning_rate,
        "tokens": trunk.n_tokens,
        "seed": trunk.seed,
    }


def _in_a_line(run: dict[str, object]) -> str:
    return yaml.safe_dump(run, default_flow_style=True, sort_keys=False, width=1000).strip()


def _check_own(path: Path) -> None:
    """Refuse a file that dcpt did not write, or that was changed since."""
    first, _, body = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    if first != f"{MARK}{hash_record(body)}":
        raise InputError(
            f"{path}: dcpt did not write this file, or it was changed since; rename it, and give "
            "its new name to `include` if the study includes it"
        )
