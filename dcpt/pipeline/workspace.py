"""A study as a command opens it: read, checked and planned once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dcpt.errors import InputError
from dcpt.grid.plan import Planner
from dcpt.grid.planned import PlannedRun, Trunk
from dcpt.grid.warmup import damaged_warmup
from dcpt.runs.stored import StoredRuns, read_stored
from dcpt.study.files import load_study
from dcpt.study.folder import StudyFolder
from dcpt.study.schema import Study

if TYPE_CHECKING:
    from dcpt.table.study_rows import StudyRows


class Workspace:
    """A study, its plan, and its run folders, for all steps of the pipeline.

    Each part is read at its first use and then kept. Reading writes nothing. Code that trains
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
        """Folder of the study's table, laws, recommendation and report."""
        return self.folder.path / "fit"

    @cached_property
    def study(self) -> Study:
        """The study file, checked."""
        return load_study(self.file)

    @cached_property
    def stored(self) -> StoredRuns:
        """The run folders, read in a single pass."""
        return read_stored(self.folder.runs)

    @cached_property
    def planner(self) -> Planner:
        """Plans the study's runs; the text must be prepared."""
        return Planner(self.study, self.folder, self.stored)

    @cached_property
    def planned(self) -> list[PlannedRun]:
        """All runs of the study."""
        return self.planner.plan()

    def plan_trunks(self, trunks: Sequence[Trunk]) -> list[PlannedRun]:
        """The runs of some trunks only, with the bases they start from."""
        return self.planner.plan(trunks)

    @cached_property
    def rows(self) -> StudyRows:
        """The rows of the runs table, from the run folders."""
        from dcpt.table.study_rows import read_study_rows

        return read_study_rows(self.stored, [run.config for run in self.planned])

    @property
    def damaged(self) -> list[str]:
        """A sentence on each damaged file of the runs; the table has no rows of such runs."""
        return [*damaged_warmup(self.folder), *self.rows.damaged]

    def forget_runs(self) -> None:
        """Read the run folders again at the next use; the plan is kept."""
        self.__dict__.pop("stored", None)
        self.__dict__.pop("rows", None)


Place = Workspace | Path
"""A study, or the path of a table of runs or of a fit folder."""


def open_place(path: Path) -> Place:
    """Open a study file; the path of a table or of a fit folder is returned unchanged."""
    return Workspace(path) if path.suffix in {".yaml", ".yml"} else path


def fit_folder(place: Place) -> Path:
    """The folder of a study's fit; a fit folder is returned unchanged.

    Raises:
        InputError: If the place is a file.
    """
    if isinstance(place, Workspace):
        return place.fit_folder
    if place.is_file():
        raise InputError(f"{place} is a file; name a study's YAML file, or the folder of a fit")
    return place


def left_out_runs(place: Place) -> list[str]:
    """Runs in the study's folder that are not in the study; its table does not contain them."""
    return place.rows.left_out if isinstance(place, Workspace) else []


def unfinished_runs(place: Place) -> list[str]:
    """A sentence on how many of a study's planned runs are done; none if all are."""
    if not isinstance(place, Workspace):
        return []
    planned = [run.config for run in place.planned]
    n_done = sum(place.stored.folder_of(config).is_done(config) for config in planned)
    if n_done == len(planned):
        return []
    return [
        f"{n_done} of {len(planned)} planned runs are done; the fit uses the points measured so far"
    ]


def damaged_files(place: Place) -> list[str]:
    """A sentence on each damaged file of a study's runs; none for a table or a fit folder."""
    return place.damaged if isinstance(place, Workspace) else []
