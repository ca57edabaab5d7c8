"""A study as an object for notebooks: the steps after training, a method each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from dcpt.errors import InputError
from dcpt.pipeline.answer import (
    FitOptions,
    TargetFields,
    collect_runs,
    fit_runs,
    read_target,
    recommend_for,
    report_on,
)
from dcpt.pipeline.next_runs import choose_next
from dcpt.pipeline.refine import refine_study
from dcpt.pipeline.rounds import Goal
from dcpt.pipeline.target import complete_target
from dcpt.pipeline.verify import verify_study
from dcpt.pipeline.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from dcpt.decide.next_runs import NextRuns
    from dcpt.decide.records import Recommendation, Verification
    from dcpt.grid.queue import Outcome
    from dcpt.laws import Fit


class OpenStudy:
    """A study whose runs are trained: fit, recommend, verify and report.

    Every method does what the command of its name does, and writes the same files.

    Args:
        file: The study's YAML file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        _ = self._workspace.study  # a wrong file is refused now, not at the first method

    @property
    def _workspace(self) -> Workspace:
        """The study as it is now: runs may have been trained since the last call."""
        return Workspace(self.file)

    def __repr__(self) -> str:
        return f"OpenStudy({str(self.file)!r})"

    def runs(self) -> pd.DataFrame:
        """The runs table of the study.

        Raises:
            InputError: If no run has a point yet, or the texts are not prepared.
        """
        return collect_runs(self._workspace)

    def fit(self, **options: Unpack[FitOptions]) -> Fit:
        """Fit laws to the runs; writes the folder ``fit``.

        Args:
            options: Those of :func:`dcpt.fit`.

        Raises:
            InputError: As :meth:`runs` and :func:`dcpt.fit`.
        """
        return fit_runs(self.runs(), self._workspace.fit_folder, **options)

    def recommend(self, level: float = 0.9, **target: Unpack[TargetFields]) -> Recommendation:
        """Recommend a share and a learning rate; writes ``fit/recommendation.json``.

        Args:
            level: Probability of the intervals.
            target: Fields of :class:`dcpt.Target` that replace those of the study's target.

        Raises:
            InputError: If there is no fit, or something that a decision needs is not known.
        """
        workspace = self._workspace
        asked, _ = complete_target(workspace, read_target(workspace, **target))
        return recommend_for(workspace, asked, level)

    def next_runs(
        self,
        budget: str = "50%",
        level: float = 0.9,
        lengths: Sequence[float] | None = None,
        **target: Unpack[TargetFields],
    ) -> NextRuns:
        """Choose the few further runs that narrow the share most; trains nothing.

        Args:
            budget: What the runs may cost: a share of the cost of the target's run such as ``50%``,
                or GPU-hours such as ``20h``.
            level: Interval probability.
            lengths: Lengths of runs, as shares of the target's tokens; None takes a quarter.
            target: Fields of :class:`dcpt.Target` that replace those of the study's target.

        Raises:
            InputError: If there is no fit of all runs, no base can be trained, or the budget is too
                small.
        """
        workspace = self._workspace
        asked, _ = complete_target(workspace, read_target(workspace, **target))
        return choose_next(workspace, asked, budget, level=level, lengths=lengths)

    def refine(
        self,
        budget: str = "50%",
        width: float = 0.2,
        level: float = 0.9,
        workers: int | None = None,
    ) -> Recommendation:
        """Choose runs, train, fit and recommend again, then verify; needs the training part.

        Args:
            budget: What the runs may cost, as for :meth:`next_runs`.
            width: Width of the share's interval that is narrow enough.
            level: Interval probability.
            workers: Number of parallel processes; None takes one per GPU, or one per core.

        Returns:
            The last recommendation. ``fit/verification.json`` has what was measured.

        Raises:
            InputError: If a run failed or was cancelled, or as :meth:`next_runs`.
        """
        from dcpt.decide.budget import Budget
        from dcpt.grid.slots import choose_slots

        goal = Goal(Budget.parse(budget), width, level)
        refined = refine_study(self._workspace, choose_slots(workers), goal)
        missing = _missing_runs(refined.outcome)
        if missing or refined.answer is None:
            raise InputError(missing)
        return refined.answer

    def verify(self, workers: int | None = None) -> Verification:
        """Train at the recommendation and next to it, and compare; needs the training part.

        Args:
            workers: Number of parallel processes; None takes one per GPU, or one per core.

        Raises:
            InputError: If there is no recommendation, or a run failed or was cancelled.
        """
        from dcpt.grid.slots import choose_slots

        checked, outcome = verify_study(self._workspace, choose_slots(workers))
        if checked is None:
            raise InputError(_missing_runs(outcome))
        return checked

    def report(self, out: str | os.PathLike[str] | None = None) -> list[Path]:
        """Write the report; returns its HTML, Markdown and JSON file.

        Args:
            out: Folder; None takes ``fit/report``.

        Raises:
            InputError: If there is no recommendation of this fit.
        """
        return report_on(self._workspace, out=None if out is None else Path(out))


def _missing_runs(outcome: Outcome) -> list[str]:
    """A sentence on each run that was not trained to its end."""
    failed = [f"{name} failed: {why}" for name, why in outcome.failed.items()]
    cancelled = [
        f"{name} was cancelled; the same call again trains it from where it was saved"
        for name in outcome.cancelled
    ]
    return failed + cancelled


def open_study(file: str | os.PathLike[str]) -> OpenStudy:
    """Open a study in Python.

    Args:
        file: The study's YAML file, as ``dcpt init`` writes it.

    Returns:
        An object with the methods ``runs``, ``fit``, ``recommend``, ``next_runs``, ``refine``,
        ``verify`` and ``report``.

    Raises:
        InputError: If the file does not exist or is not a valid study.

    Examples:
        >>> study = dcpt.open_study("study.yaml")  # doctest: +SKIP
        >>> fit = study.fit()  # doctest: +SKIP
        >>> print(study.recommend(limit="+5%").best.ratio)  # doctest: +SKIP
        0.62
        >>> dcpt.open_study("absent.yaml")
        Traceback (most recent call last):
        dcpt.errors.InputError: absent.yaml does not exist; write one with `dcpt init absent.yaml`
    """
    return OpenStudy(Path(file))
