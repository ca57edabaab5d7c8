"""A study as one command opens it: read, checked and planned once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dcpt.errors import InputError
from dcpt.flags import Flag
from dcpt.grid.plan import Planner
from dcpt.grid.planned import PlannedRun, Trunk
from dcpt.grid.warmup import damaged_warmup
from dcpt.runs.identity import Purpose
from dcpt.runs.stored import StoredRuns, read_stored
from dcpt.study.files import load_study
from dcpt.study.folder import StudyFolder
from dcpt.study.schema import Study

if TYPE_CHECKING:
    from dcpt.table.study_rows import StudyRows


class Workspace:
    """A study, its plan, and what its run folders hold; every step of the pipeline takes one.

    Each part is read when it is first asked for, and kept. Reading writes nothing. Whoever trains
    calls :meth:`forget_runs` afterwards.

    Args:
        file: The study file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.folder = StudyFolder(file)

    def __str__(self) -> str:
        return str(self.file)

    @property
    def fit_folder(self) -> Path:
        """Where the study's table, laws, recommendation and report lie."""
        return self.folder.path / "fit"

    @cached_property
    def study(self) -> Study:
        """The study file, checked."""
        return load_study(self.file)

    @cached_property
    def stored(self) -> StoredRuns:
        """What the run folders hold, from one pass over them."""
        return read_stored(self.folder.runs)

    @cached_property
    def planner(self) -> Planner:
        """What lists the study's runs; its texts must be prepared."""
        return Planner(self.study, self.folder, self.stored)

    @cached_property
    def planned(self) -> list[PlannedRun]:
        """Every run that the study asks for."""
        return self.planner.plan()

    def plan_trunks(self, trunks: Sequence[Trunk], purpose: Purpose) -> list[PlannedRun]:
        """The runs of some trunks alone, with the bases they start from.

        Args:
            trunks: The trunks.
            purpose: Why they are trained.
        """
        return self.planner.plan(trunks, purpose)

    @cached_property
    def rows(self) -> StudyRows:
        """The rows of the runs table that the run folders hold."""
        from dcpt.table.study_rows import read_study_rows

        return read_study_rows(
            self.stored, [run.config for run in self.planned], self.study.evaluation.text
        )

    @property
    def near_copies(self) -> list[Flag]:
        """What the screen of the prepared text for near-duplicates found."""
        found = self.planner.prepared.near_duplicates
        return [] if found is None else found.flags()

    @property
    def damaged(self) -> list[str]:
        """A sentence on each damaged file of the runs, whose rows no table has."""
        return [*damaged_warmup(self.folder), *self.rows.damaged]

    def forget_runs(self) -> None:
        """Read the run folders again when they are next asked for; the plan stays."""
        self.__dict__.pop("stored", None)
        self.__dict__.pop("rows", None)


Place = Workspace | Path
"""What a fit can be of: a study, or a table of runs or a folder made by a fit."""


def open_place(path: Path) -> Place:
    """Open a study file; the path of a table or of a fit folder stays as it is."""
    return Workspace(path) if path.suffix in {".yaml", ".yml"} else path


def fit_folder(place: Place) -> Path:
    """Where the fit of a study lies; a folder made by a fit is taken as it is.

    Raises:
        InputError: If the place is a file.
    """
    if isinstance(place, Workspace):
        return place.fit_folder
    if place.is_file():
        raise InputError(f"{place} is a file; name a study's YAML file, or the folder of a fit")
    return place


def left_out_runs(place: Place) -> list[str]:
    """Runs in the study's folder that the study does not ask for, so that no table has them."""
    return place.rows.left_out if isinstance(place, Workspace) else []


def chosen_runs(place: Place) -> list[str]:
    """Runs in a study's table that ``dcpt refine`` chose."""
    return place.rows.chosen if isinstance(place, Workspace) else []


def damaged_files(place: Place) -> list[str]:
    """A sentence on each damaged file of a study's runs, whose rows no table has."""
    return place.damaged if isinstance(place, Workspace) else []
