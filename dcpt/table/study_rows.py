"""Rows of the runs table, read from the run folders of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpt.runs import RunConfig, RunFolder, table_names

LARGEST_LOSS = 20.0
"""Nats per token; the table's door refuses more, and a run that goes there has diverged."""


@dataclass(frozen=True)
class StudyRows:
    """What the run folders of a study give.

    Args:
        rows: One dict a point, with the columns of the runs table; unknown values are absent.
        left_out: Names of runs that the study does not ask for (any more): of another text,
            tokenizer, batch or evaluation, or taken out of its grid.
    """

    rows: list[dict[str, Any]]
    left_out: list[str]


def read_study_rows(runs: Path, planned: Sequence[RunConfig]) -> StudyRows:
    """Read the points of every trunk and branch; unfinished runs give those they have.

    A row is excluded from fits, with the reason, if it verifies a recommendation (a law is proved
    on runs that its fit never saw), decays on a mixture of its own, lies beyond the study's trunk,
    or diverged. Losses of extra channels stay in the run folders.

    Args:
        runs: The study's ``runs`` folder.
        planned: What the study's grid asks for.
    """
    asked = {config.identity.hash: config for config in planned}
    folders = [RunFolder(path.parent) for path in sorted(runs.glob("*/config.json"))]
    stored = {folder.path.name: folder.config() for folder in folders}
    trunk_names = {
        config.identity.hash: name
        for name, config in stored.items()
        if config is not None and config.identity.kind == "trunk"
    }
    rows, left_out = [], []
    for folder in folders:
        config = stored[folder.path.name]
        if config is None or config.identity.kind == "pretrain":
            continue
        grid = asked.get(config.identity.hash)
        if grid is None and config.recorded.purpose != "verify":
            left_out.append(folder.path.name)
            continue
        trunk = config.identity.trunk or config.identity.hash
        for point in folder.points():
            row = _row(trunk_names.get(trunk, trunk), grid or config, point)
            reason = _reason_to_exclude(row, grid)
            rows.append(row if reason is None else {**row, "excluded": reason})
    rows.sort(key=lambda row: (row["run"], row["phase"], row["n_tokens"]))
    return StudyRows(rows, left_out)


def _reason_to_exclude(row: Mapping[str, Any], grid: RunConfig | None) -> str | None:
    if grid is None:
        return "verification run"
    if grid.recorded.mixture_name is not None:
        return f"decay with a mixture of its own: {grid.recorded.mixture_name}"
    if row["n_tokens"] > grid.recorded.n_tokens:
        return "beyond the study's trunk"
    losses = [value for name, value in row.items() if name.startswith("loss_")]
    if max(losses) > LARGEST_LOSS:
        return f"diverged: a loss above {LARGEST_LOSS:g}"
    return None


def _row(trunk: str, config: RunConfig, point: Mapping[str, Any]) -> dict[str, Any]:
    one, recorded = config.identity, config.recorded
    row: dict[str, Any] = {
        "run": trunk,
        "base": one.base,
        "size": recorded.size,
        "n_params": point["n_params"],
        "n_params_non_embedding": point["n_params_non_embedding"],
        "n_tokens": point["n_tokens"],
        "ratio": one.ratio,
        "learning_rate": one.learning_rate,
        "phase": point["phase"],
        "seed": one.seed,
        "base_peak_learning_rate": recorded.base_peak_learning_rate,
        "base_n_tokens": recorded.base_n_tokens,
        "warmup_tokens": one.warmup_tokens,
        "batch_tokens": one.batch_tokens,
        "eval_id": point["eval_id"],
    }
    if one.decay is not None:
        row["branch_n_tokens"] = one.decay.start_tokens
    names = table_names([channel for channel in one.channels if channel.side != "extra"])
    for prefix in ("loss", "se", "train_loss", "share", "unique_tokens", "bytes_per_token"):
        told = point.get(prefix, {})
        row |= {f"{prefix}_{names[name]}": told[name] for name in told if name in names}
    general = [c for c in one.channels if c.side == "general"]
    if len(general) > 1:
        row |= {f"weight_{c.name}": c.weight for c in general}
    return {name: value for name, value in row.items() if _is_known(value)}


def _is_known(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))
