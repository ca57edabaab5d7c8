"""What a study knows of its target and its bases, before anything is decided."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from dcpt.atomic_files import DamagedFileError, read_record
from dcpt.errors import InputError
from dcpt.limit import NO_LIMIT
from dcpt.pipeline.workspace import Place, Workspace
from dcpt.runs.identity import Identity, RunConfig, hash_record
from dcpt.runs.names import bases_by_size, table_names
from dcpt.runs.records import first_problem, on_text
from dcpt.study.bases import BaseBeforeDecay
from dcpt.study.folder import StudyFolder


def study_target(workspace: Workspace) -> dict[str, Any]:
    """The study's target section, with the base's own losses as measured."""
    study = workspace.study
    section = study.target
    if section is None:
        raise InputError(f"{workspace}: target: missing; name the large run that the answer is for")
    known = known_base(workspace, section.base) if section.base is not None else {}
    names = table_names(study.channels)
    given = {names.get(name, name): loss for name, loss in section.base_losses.items()}
    of_channels = {} if isinstance(section.limit, str) else section.limit
    return {
        "n_params": section.n_params or known.get("n_params"),
        "n_tokens": section.tokens,
        "limit": section.limit if isinstance(section.limit, str) else NO_LIMIT,
        "channel_limits": {names.get(name, name): limit for name, limit in of_channels.items()},
        "weights": {names.get(name, name): weight for name, weight in section.weights.items()},
        "confidence": section.confidence,
        "base_losses": {**table_losses(workspace, known), **given},
        "base_peak_learning_rate": section.base_peak_learning_rate or known.get("peak"),
        "base_n_tokens": section.base_n_tokens or known.get("n_tokens"),
        "learning_rate": section.learning_rate,
        "unique_tokens": {
            names[channel.name]: float(workspace.planner.prepared.unique_tokens(channel.name))
            for channel in study.channels
            if channel.name in names and channel.side in ("general", "domain")
        },
        "base": section.base,
        "section_sha256": hash_section(workspace),
    }


def table_losses(workspace: Workspace, known: Mapping[str, Any]) -> dict[str, float]:
    """Losses of a base by the channels of the table, with the total of several general ones.

    Args:
        workspace: The study.
        known: What :func:`known_base` gives; empty if nothing is known.
    """
    from dcpt.table.channels import GENERAL_TOTAL, weighted_total

    study, names = workspace.study, table_names(workspace.study.channels)
    measured = {names[name]: float(loss) for name, loss in known.get("loss", {}).items()}
    if len(study.general) > 1 and measured:
        weights = {channel.name: channel.weight for channel in study.general}
        measured[GENERAL_TOTAL] = weighted_total(measured, weights)
    return measured


def hash_section(workspace: Workspace) -> str | None:
    """Hash of the study's target section; None without one."""
    section = workspace.study.target
    return None if section is None else hash_record(section.model_dump(mode="json"))


def known_base(workspace: Workspace, label: str) -> dict[str, Any]:
    """Size, losses and history of a base.

    They come from its pre-training; those of a checkpoint from ``dcpt evaluate``, else from a trunk
    that started from it.

    Raises:
        InputError: If the base's losses on the study's validation text are not known, or the file
            that holds them is damaged.
    """
    bases, folder = workspace.study.bases, workspace.folder
    if bases.ladder is not None and label in bases.ladder.sizes:
        return _own_base(workspace, label)
    checkpoint = bases.checkpoints[label]
    wanted = measured_on(workspace)
    measured = read_measured(folder, label)
    run, start = None, None
    if isinstance(checkpoint, BaseBeforeDecay):
        run, start = checkpoint.run, checkpoint.n_tokens
    if measured is None or measured["measured_on"] != wanted or not _is_of(measured, run, start):
        measured = _start_of_trunks(workspace, label, wanted)
    if measured is None:
        raise InputError(
            f"base {label!r} is not measured on the study's validation text as it is now; run "
            f"`dcpt evaluate {checkpoint.model} --study {folder.file} --label {label}`"
        )
    about = {"peak": checkpoint.peak_learning_rate, "n_tokens": checkpoint.n_tokens}
    return {**on_text(measured, workspace.study.evaluation.text), **about}


def _own_base(workspace: Workspace, label: str) -> dict[str, Any]:
    """What is known of a base that the study pre-trains.

    Raises:
        InputError: If it is not trained yet, or not measured on the study's validation text.
    """
    run = pretraining_of(workspace, label)
    workspace.stored.folder_of(run).check()
    row = _measured_base(workspace, run)
    if row is None:
        raise InputError(
            f"base {label!r} is not trained yet, or not measured on the validation text as it is "
            f"now; run `dcpt run-grid {workspace.folder.file}`"
        )
    return {
        **on_text(row, workspace.study.evaluation.text),
        "peak": run.recorded.base_peak_learning_rate,
        "n_tokens": run.recorded.base_n_tokens,
    }


def pretraining_of(workspace: Workspace, label: str) -> RunConfig:
    """The planned run that pre-trains a base of the ladder."""
    return next(
        run.config
        for run in workspace.planned
        if run.config.identity.kind == "pretrain" and run.config.recorded.size == label
    )


def _measured_base(workspace: Workspace, run: RunConfig) -> Mapping[str, Any] | None:
    """The losses of a pre-trained base on the study's validation text, where they were measured.

    They are from the start of a trunk, from its evaluation after its training, or, where an earlier
    version trained the base for this domain, from its own point.

    Args:
        workspace: The study.
        run: The run that pre-trains the base.
    """
    wanted, label = measured_on(workspace), run.recorded.size
    row = read_measured(workspace.folder, label)
    start = run.recorded.base_n_tokens
    if row is not None and row["measured_on"] == wanted and _is_of(row, run.identity.hash, start):
        return row
    if _text_of(run.identity) == wanted:
        points = workspace.stored.folder_of(run).points()
        # CPT takes the base up here, which may be before its decay.
        own = [point for point in points if point["n_tokens"] == run.recorded.base_n_tokens]
        if own:
            return own[0]
    return _start_of_trunks(workspace, label, wanted)


def _is_of(row: Mapping[str, Any], run: str | None, start_tokens: int | None) -> bool:
    """Whether a measured base is what a run had trained at ``start_tokens``; None: a checkpoint.

    Rows of earlier versions do not say where their base was taken up.
    """
    return row.get("run") == run and row.get("start_tokens", start_tokens) == start_tokens


class _Measured(BaseModel):
    """What is read of a base's row at D = 0."""

    model_config = ConfigDict(extra="allow", strict=True)

    measured_on: str
    n_params: int
    loss: dict[str, float]


def measured_file(folder: StudyFolder, label: str) -> Path:
    """Where ``dcpt evaluate`` keeps the row of a base of the study."""
    return folder.path / "bases" / f"{label}.json"


def read_measured(folder: StudyFolder, label: str) -> dict[str, Any] | None:
    """Read the row that ``dcpt evaluate`` kept of a base, None if there is none.

    Raises:
        DamagedFileError: If it is not as dcpt writes it.
    """
    file = measured_file(folder, label)
    remedy = f"delete it and run `dcpt evaluate` on base {label} again"
    row = read_record(file, remedy)
    if row is not None:
        try:
            _Measured.model_validate(row)
        except ValidationError as error:
            raise DamagedFileError(file, first_problem(error), remedy) from None
    return row


def _start_of_trunks(workspace: Workspace, label: str, wanted: str) -> dict[str, Any] | None:
    """The point at D = 0 of the trunks of a base; None if there is none, or two bases had its name.

    Args:
        workspace: The study.
        label: The base.
        wanted: What it has to be measured on.
    """
    # A label that no planned run starts from may mean any base: verification alone uses it.
    bases = bases_by_size(run.config for run in workspace.planned).get(label)
    found: dict[str, Any] = {}
    for folder, config in workspace.stored.sound:
        run = config.identity
        same_base = config.recorded.size == label and (bases is None or run.base in bases)
        if run.kind == "trunk" and same_base and _text_of(run) == wanted:
            found.update((run.base, point) for point in folder.points() if point["n_tokens"] == 0)
    return next(iter(found.values())) if len(found) == 1 else None


def check_fit(place: Place) -> None:
    """Refuse a study's fit of runs from bases that the study's labels no longer mean.

    Raises:
        InputError: Names the base, or the table if it is damaged.
    """
    if not isinstance(place, Workspace) or not (place.fit_folder / "runs.csv").exists():
        return
    fitted = place.fit_folder / "runs.csv"
    bases = bases_by_size(run.config for run in place.planned)
    try:
        with fitted.open(encoding="utf-8", newline="") as lines:
            seen = {(row["size"], row["base"]) for row in csv.DictReader(lines, strict=True)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        remedy = f"run `dcpt fit {place}` again"
        raise DamagedFileError(fitted, str(error), remedy) from None
    changed = sorted({size for size, base in seen if base not in bases.get(size, {base})})
    if changed:
        raise InputError(
            f"{fitted.parent}: the fit is of other weights of base {', '.join(changed)} than the "
            f"study's now; run `dcpt run-grid {place}` and `dcpt fit {place}` again"
        )


def measured_on(workspace: Workspace) -> str:
    """Names the validation text and how it is cut: losses of equal names may be compared.

    Channels of side ``extra`` are left out: no run but a decay reads them.
    """
    from dcpt.text.manifest import load_prepared

    study = workspace.study
    prepared, training = load_prepared(workspace.folder.prepared), study.training
    names = [channel.name for channel in study.channels if channel.side != "extra"]
    shards = {name: prepared.evaluated(name).sha256 for name in names}
    cut = training.sequence_tokens, training.packing, study.evaluation.tokens
    return _name_text(shards, *cut)


def _text_of(run: Identity) -> str:
    """Names the validation text of a run as :func:`measured_on` names that of the study."""
    shards = {channel.name: channel.valid_sha256 for channel in run.channels}
    return _name_text(shards, run.sequence_tokens, run.packing, run.validation_tokens)


def _name_text(
    shards: Mapping[str, str], sequence_tokens: int, packing: str, validation_tokens: int
) -> str:
    return hash_record([shards, sequence_tokens, packing, validation_tokens])
