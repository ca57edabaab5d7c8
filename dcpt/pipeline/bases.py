"""What a study knows of its target and its bases, before anything is decided."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from dcpt.atomic_files import DamagedFileError, read_record
from dcpt.errors import InputError
from dcpt.grid.plan import plan_runs
from dcpt.pipeline.workspace import fit_folder, is_study, open_study
from dcpt.runs.folders import RunFolder, stored_runs
from dcpt.runs.identity import hash_record
from dcpt.runs.names import bases_by_size, table_names
from dcpt.runs.records import first_problem
from dcpt.study.files import load_study
from dcpt.study.folder import StudyFolder
from dcpt.study.schema import Study


def study_target(file: Path) -> dict[str, Any]:
    """The study's target section, with the base's own losses as measured."""
    from dcpt.table.channels import GENERAL_TOTAL, weighted_total

    study, folder = load_study(file), StudyFolder(file)
    section = study.target
    if section is None:
        raise InputError(f"{file}: target: missing; name the large run that the answer is for")
    known = known_base(study, folder, section.base) if section.base is not None else {}
    names = table_names(study.channels)
    measured = {names[name]: loss for name, loss in known.get("loss", {}).items()}
    given = {names.get(name, name): loss for name, loss in section.base_losses.items()}
    if len(study.general) > 1 and measured:
        weights = {channel.name: channel.weight for channel in study.general}
        measured[GENERAL_TOTAL] = weighted_total(measured, weights)
    return {
        "n_params": section.n_params or known.get("n_params"),
        "n_tokens": section.tokens,
        "limit": section.limit,
        "base_losses": {**measured, **given},
        "base_peak_learning_rate": section.base_peak_learning_rate or known.get("peak"),
        "base_n_tokens": section.base_n_tokens or known.get("n_tokens"),
        "learning_rate": section.learning_rate,
        "base": section.base,
    }


def known_base(study: Study, folder: StudyFolder, label: str) -> dict[str, Any]:
    """Size, losses and history of a base.

    They come from its pre-training; those of a checkpoint from ``dcpt evaluate``, else from a trunk
    that started from it.

    Raises:
        InputError: If the base's losses on the study's validation text are not known, or the file
            that holds them is damaged.
    """
    if study.bases.ladder is not None and label in study.bases.ladder.sizes:
        run = next(
            run.config
            for run in plan_runs(study, folder)
            if run.config.identity.kind == "pretrain" and run.config.recorded.size == label
        )
        trained = RunFolder.of(run, folder.runs)
        trained.check()
        points = {point["n_tokens"]: point for point in trained.points()}
        start = points.get(run.recorded.base_n_tokens)  # where CPT takes the base up
        if start is None:
            raise InputError(
                f"base {label!r} is not trained yet; run `dcpt run-grid {folder.file}`"
            )
        return {
            "loss": start["loss"],
            "n_params": start["n_params"],
            "peak": run.recorded.base_peak_learning_rate,
            "n_tokens": run.recorded.base_n_tokens,
        }
    checkpoint = study.bases.checkpoints[label]
    wanted = measured_on(study, folder)
    measured = read_measured(folder, label)
    if measured is None or measured["measured_on"] != wanted:
        planned = bases_by_size(run.config for run in plan_runs(study, folder))
        measured = _start_of_trunks(folder, label, wanted, planned.get(label))
    if measured is None:
        raise InputError(
            f"base {label!r} is not measured on the study's validation text as it is now; run "
            f"`dcpt evaluate {checkpoint.model} --study {folder.file} --label {label}`"
        )
    about = {"peak": checkpoint.peak_learning_rate, "n_tokens": checkpoint.n_tokens}
    return {**measured, **about}


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


def _start_of_trunks(
    folder: StudyFolder, label: str, wanted: str, bases: set[str] | None
) -> dict[str, Any] | None:
    """The point at D = 0 of the trunks of a base; None if there is none, or two bases had its name.

    Args:
        folder: The study.
        label: The base.
        wanted: What it has to be measured on.
        bases: Which bases the label means now; None where only verification starts from it.
    """
    found: dict[str, Any] = {}
    for run, config in stored_runs(folder.runs):
        one = config.identity
        shards = {channel.name: channel.valid_sha256 for channel in one.channels}
        same_text = wanted == _name_text(
            shards, one.sequence_tokens, one.packing, one.validation_tokens
        )
        same_base = config.recorded.size == label and (bases is None or one.base in bases)
        if one.kind == "trunk" and same_base and same_text:
            found.update((one.base, point) for point in run.points() if point["n_tokens"] == 0)
    return next(iter(found.values())) if len(found) == 1 else None


def check_bases(study: Study, folder: StudyFolder, fitted: Path) -> None:
    """Refuse a fit of runs from bases that the study's labels no longer mean.

    Args:
        study: The study.
        folder: Where it lives.
        fitted: The table that was fitted.

    Raises:
        InputError: Names the base, or the table if it is damaged.
    """
    bases = bases_by_size(run.config for run in plan_runs(study, folder))
    try:
        with fitted.open(encoding="utf-8", newline="") as lines:
            seen = {(row["size"], row["base"]) for row in csv.DictReader(lines, strict=True)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        remedy = f"run `dcpt fit {folder.file}` again"
        raise DamagedFileError(fitted, str(error), remedy) from None
    changed = sorted({size for size, base in seen if base not in bases.get(size, {base})})
    if changed:
        raise InputError(
            f"{fitted.parent}: the fit is of other weights of base {', '.join(changed)} than the "
            f"study's now; run `dcpt run-grid {folder.file}` and `dcpt fit {folder.file}` again"
        )


def measured_on(study: Study, folder: StudyFolder) -> str:
    """Names the validation text and how it is cut: losses of equal names may be compared.

    Channels of side ``extra`` are left out: no run but a decay reads them.
    """
    from dcpt.text.manifest import load_prepared

    prepared, training = load_prepared(folder.prepared).channels, study.training
    names = [channel.name for channel in study.channels if channel.side != "extra"]
    shards = {name: prepared[name].valid.sha256 for name in names}
    cut = training.sequence_tokens, training.packing, study.evaluation.tokens
    return _name_text(shards, *cut)


def _name_text(
    shards: Mapping[str, str], sequence_tokens: int, packing: str, validation_tokens: int
) -> str:
    return hash_record([shards, sequence_tokens, packing, validation_tokens])


def check_fit(place: Path) -> None:
    """Refuse the fit of a study whose bases have changed since."""
    fitted = fit_folder(place) / "runs.csv"
    if is_study(place) and fitted.exists():
        check_bases(*open_study(place), fitted)
