"""A study, its folders, its planned runs and its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dcpt.errors import InputError
from dcpt.grid.plan import plan_runs
from dcpt.grid.planned import PlannedRun, Trunk
from dcpt.grid.warmup import damaged_warmup
from dcpt.study.files import load_study
from dcpt.study.folder import StudyFolder
from dcpt.study.schema import Study

if TYPE_CHECKING:
    from dcpt.table.study_rows import OwnDecay, StudyRows


def open_study(file: Path) -> tuple[Study, StudyFolder]:
    """Read a study file and name its folders."""
    return load_study(file), StudyFolder(file)


def is_study(place: Path) -> bool:
    """Whether a path names a study file (else it is a table, or a folder made by a fit)."""
    return place.suffix in {".yaml", ".yml"}


def fit_folder(place: Path) -> Path:
    """Where the fit of a study file lies; a folder made by a fit is taken as it is.

    Raises:
        InputError: If the place is some other file.
    """
    if is_study(place):
        return place.parent / "fit"
    if place.is_file():
        raise InputError(f"{place} is a file; name a study's YAML file, or the folder of a fit")
    return place


def plan_study(file: Path, trunks: Sequence[Trunk] | None = None) -> list[PlannedRun]:
    """Every run the study asks for, or only those of some trunks."""
    study, folder = open_study(file)
    return plan_runs(study, folder, trunks)


def left_out_runs(place: Path) -> list[str]:
    """Runs in the study's folder that the study does not ask for, so that no table has them."""
    return study_rows(place).left_out if is_study(place) else []


def damaged_files(place: Path) -> list[str]:
    """A sentence on each damaged file of a study's runs, whose rows no table has."""
    if not is_study(place):
        return []
    return [*damaged_warmup(StudyFolder(place)), *study_rows(place).damaged]


def study_rows(file: Path) -> StudyRows:
    """The rows of the runs table that the study's run folders hold."""
    from dcpt.table.study_rows import read_study_rows

    return read_study_rows(StudyFolder(file).runs, [run.config for run in plan_study(file)])


def own_decays(place: Path) -> list[OwnDecay]:
    """The study's decays with mixtures of their own, as measured; a table or a folder has none."""
    return study_rows(place).own_decays if is_study(place) else []
