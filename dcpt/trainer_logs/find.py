"""Find logs in files and folders, tell their format, and read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcpt.errors import InputError
from dcpt.trainer_logs import (
    hf_trainer,
    json_lines,
    megatron,
    olmix,
    olmo_core,
    tensorboard,
    torchtitan,
    wandb_csv,
    wandb_offline,
)
from dcpt.trainer_logs.records import Format, RunLog, merge_logs
from dcpt.trainer_logs.text_files import without_colours

FORMATS: tuple[Format, ...] = (
    json_lines.SWIFT,
    hf_trainer.FORMAT,
    json_lines.LLAMA_FACTORY,
    wandb_offline.FORMAT,
    olmo_core.FORMAT,
    tensorboard.FORMAT,
    olmix.FORMAT,
    megatron.FORMAT,
    torchtitan.FORMAT,
    wandb_csv.FORMAT,
)
"""In the order in which a folder is searched; where it has logs of several, the first is read."""

HEAD = 1 << 20
"""Bytes of a file that tell its format."""

READ_FORMATS = (
    "trainer_state.json (HF Trainer), logging.jsonl (ms-swift), trainer_log.jsonl (LLaMA-Factory), "
    "TensorBoard folders, W&B exports and offline runs, logs of Megatron-LM and torchtitan, "
    "metrics_step*.json (OLMo-core), ratios.csv and metrics.csv (olmix)"
)

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_GENERIC = re.compile(
    r"checkpoint-\d+|trainer_state|trainer_log|logging|logs?|train|stdout|output|runs|tb|"
    r"tensorboard|wandb|metrics|[A-Z][a-z]{2}\d{2}_\d{2}-\d{2}-\d{2}_.*"
)
"""Parts of paths that name no run."""


@dataclass(frozen=True)
class Source:
    """A log: its file or folder, and its format."""

    path: Path
    format: Format


def read_logs(paths: Sequence[Path]) -> tuple[list[RunLog], list[str]]:
    """Read the logs in files and folders.

    Args:
        paths: Files of logs, or folders that are searched for them.

    Returns:
        One log per run, and notes on logs that were found and not read.

    Raises:
        InputError: If a path has no log, or a log cannot be read.
    """
    sources, notes = find_logs(paths)
    names = _name_runs([source.path for source in sources])
    logs: dict[str, RunLog] = {}
    for source, name in zip(sources, names, strict=True):
        for run, builder in source.format.read(source.path):
            log = builder.build(run or name, source.format.trainer, source.path)
            if log.metrics:
                logs[log.run] = merge_logs(logs[log.run], log) if log.run in logs else log
    if not logs:
        raise InputError(
            f"{_join(paths)}: the logs hold no numbers yet; wait until the runs have logged a loss"
        )
    return list(logs.values()), notes


def find_logs(paths: Sequence[Path]) -> tuple[list[Source], list[str]]:
    """Find the logs in files and folders, as :func:`read_logs`."""
    found: dict[Path, Source] = {}
    notes: list[str] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; give the path of a log or of a folder")
        sources = _search(path, notes) if path.is_dir() else [_recognise(path)]
        found |= {source.path: source for source in sources}
    return _last_checkpoints(list(found.values()), notes), notes


def _recognise(path: Path) -> Source:
    source = _source(path, FORMATS)
    if source is None:
        raise InputError(
            f"{path} is not a log that dcpt import reads: {READ_FORMATS}; of another trainer, make "
            "a table with a row per evaluation (run, n_tokens, loss_<channel>, ratio ...)"
        )
    return source


def _source(path: Path, formats: Iterable[Format]) -> Source | None:
    with path.open("rb") as file:
        head = without_colours(file.read(HEAD).decode("utf-8", errors="replace"))
    for form in formats:
        if form.matches(path, head):
            return Source(path.parent if form.of_folder else path, form)
    return None


def _search(folder: Path, notes: list[str]) -> list[Source]:
    """The logs in a folder of the first format that it has."""
    by_format: dict[str, dict[Path, Source]] = {}
    for form in FORMATS:
        for path in sorted({p for pattern in form.patterns for p in folder.rglob(pattern)}):
            source = _source(path, (form,)) if path.is_file() else None
            if source is not None:
                by_format.setdefault(form.trainer, {})[source.path] = source
    if not by_format:
        raise InputError(
            f"{folder}: there is no log in this folder; dcpt import reads {READ_FORMATS}"
        )
    first, *others = by_format
    if others:
        counts = ", ".join(f"{len(by_format[name])} of {name}" for name in others)
        notes.append(
            f"{folder}: the logs of {first} are read. There are others, which are not: {counts}. "
            "To read those, give their paths."
        )
    return list(by_format[first].values())


def _last_checkpoints(sources: list[Source], notes: list[str]) -> list[Source]:
    """Only the last of the logs that the checkpoints of a run hold: each repeats the one before."""
    best: dict[Path, Source] = {}
    for source in sources:
        inside = _CHECKPOINT.fullmatch(source.path.parent.name)
        run = source.path.parent.parent if inside else source.path.parent
        key = run if source.format is hf_trainer.FORMAT else source.path
        if key not in best or _checkpoint(source.path) > _checkpoint(best[key].path):
            best[key] = source
    if len(best) < len(sources):
        notes.append(
            f"Logs of earlier checkpoints are not read ({len(sources) - len(best)}): the last log "
            "of a run repeats them."
        )
    return list(best.values())


def _checkpoint(path: Path) -> float:
    """The step of the checkpoint that a log is in; infinity for the log of the whole run."""
    inside = _CHECKPOINT.fullmatch(path.parent.name)
    return float(inside[1]) if inside else float("inf")


def _name_runs(paths: Sequence[Path]) -> list[str]:
    """Names of runs: the first parts of their paths that tell all of them apart."""
    parts = [_parts(path) for path in paths]
    if len(parts) == 1:
        return [next((part for part in reversed(parts[0]) if not _GENERIC.fullmatch(part)), "run")]
    shared = 0
    while len({p[shared : shared + 1] for p in parts}) == 1 and any(len(p) > shared for p in parts):
        shared += 1
    for size in range(1, max(len(p) for p in parts) + 1):
        names = ["/".join(p[shared : shared + size]) for p in parts]
        if max(Counter(names).values(), default=1) == 1:
            return names
    return [str(path) for path in paths]


def _parts(path: Path) -> tuple[str, ...]:
    resolved = path.resolve()
    *folders, last = resolved.parts
    return (*folders, last if resolved.is_dir() else resolved.stem)


def _join(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:3])) + (" ..." if len(paths) > 3 else "")
