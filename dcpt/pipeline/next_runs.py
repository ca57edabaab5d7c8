"""The runs that narrow a decision most: which bases can be trained, and how fast they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from dcpt.errors import InputError
from dcpt.grid.planned import Trunk
from dcpt.grid.status import sound_result
from dcpt.pipeline.answer import collect_runs
from dcpt.pipeline.bases import check_fit, known_base, table_losses
from dcpt.pipeline.listed_runs import write_listed
from dcpt.pipeline.workspace import Place, Workspace, fit_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from dcpt.decide.budget import Budget
    from dcpt.decide.next_runs import NextRuns
    from dcpt.decide.records import Target
    from dcpt.table.base_rows import TableBase


def choose_next(
    place: Place,
    target: Target,
    budget: str | Budget,
    *,
    level: float = 0.9,
    lengths: Sequence[float] | None = None,
    laws: Sequence[str] = (),
    most: int | None = None,
) -> NextRuns:
    """Choose the few runs that narrow the decision of a study, or of a fit folder, most.

    Args:
        place: The study, or the folder of a fit.
        target: The large run.
        budget: What the runs may cost together, such as ``50%`` or ``20h``.
        level: Interval probability.
        lengths: Lengths of runs, as shares of the target's tokens; None takes a quarter.
        laws: A person's own laws in the fit.
        most: Largest number of runs; None takes as many as the budget allows.

    Raises:
        InputError: If there is no fit, the fit is older than the study's runs, or the study has no
            base that can be trained.
    """
    from dcpt.decide.next_runs import SHORT, next_runs
    from dcpt.laws import load_fit
    from dcpt.table import load_runs

    check_fit(place)
    folder = fit_folder(place)
    fitted = load_fit(folder, laws)
    choose = partial(
        next_runs, fitted, target, budget, level=level, lengths=lengths or (SHORT,), most=most
    )
    if not isinstance(place, Workspace):
        return choose(runs=load_runs(folder / "runs.csv"))
    runs = collect_runs(place)
    check_current(place, runs)
    return choose(
        bases=trainable_bases(place, target),
        runs=runs,
        decay=place.study.branches.decay,
        speeds=measured_speeds(place),
    )


def check_current(workspace: Workspace, runs: pd.DataFrame) -> None:
    """Refuse a fit that lacks points of the study's runs.

    Raises:
        InputError: Names the runs.
    """
    newer = runs_not_fitted(workspace, runs)
    if newer:
        shown = ", ".join(newer[:3]) + (" ..." if len(newer) > 3 else "")
        raise InputError(
            f"{workspace.fit_folder}: the fit is older than the runs: it lacks points of "
            f"{len(newer)} of them ({shown}); run `dcpt fit {workspace}` first"
        )


def runs_not_fitted(workspace: Workspace, runs: pd.DataFrame) -> list[str]:
    """Runs with points that the fitted table lacks; all runs if there is no fit."""
    from dcpt.table import load_runs

    table = workspace.fit_folder / "runs.csv"
    if not table.exists() or not (workspace.fit_folder / "fit.json").exists():
        return sorted(runs["run"].unique())
    return sorted({point[0] for point in _points_of(runs) - _points_of(load_runs(table))})


def _points_of(runs: pd.DataFrame) -> set[tuple[str, str, int, int]]:
    """Run, phase, tokens and tokens before the decay (-1 without) of the points of a study."""
    tokens = runs.reindex(columns=["n_tokens", "branch_n_tokens"]).astype(float).fillna(-1)
    numbers = tokens.astype(int).itertuples(index=False, name=None)
    return {
        (run, phase, *point)
        for run, phase, point in zip(runs["run"], runs["phase"], numbers, strict=True)
    }


def trainable_bases(workspace: Workspace, target: Target) -> Mapping[str | None, TableBase]:
    """The bases that the next runs can start from: the target's own, else a third size.

    Without the target's base, these are the bases that the grid does not train yet, or else the
    largest base.

    Raises:
        InputError: If a base is not measured.
    """
    study = workspace.study
    if target.base in study.bases.names:
        return {target.base: _table_base(workspace, target.base)}
    in_grid = {label for part in study.grid for label in part.bases}
    others = [label for label in study.bases.checkpoints if label not in in_grid]
    labels = others or sorted(in_grid)
    bases: dict[str | None, TableBase] = {label: _table_base(workspace, label) for label in labels}
    smaller = {label: base for label, base in bases.items() if base.n_params < target.n_params}
    if not smaller:
        raise InputError(
            f"{workspace}: the study has no base of the target's size, nor a smaller one, so no "
            "run can be chosen; add the target's checkpoint under bases.checkpoints and name it in "
            "target.base"
        )
    if others:
        return smaller
    largest = max(smaller, key=lambda label: smaller[label].n_params)
    return {largest: smaller[largest]}


def _table_base(workspace: Workspace, label: str) -> TableBase:
    from dcpt.table.base_rows import TableBase

    known = known_base(workspace, label)
    return TableBase(
        known["n_params"], table_losses(workspace, known), known["peak"], known["n_tokens"]
    )


def measured_speeds(workspace: Workspace) -> dict[float, float]:
    """Tokens per second of the finished runs, by parameters: the median of each size."""
    speeds: dict[float, list[float]] = {}
    for folder, config in workspace.stored.sound:
        speed = (sound_result(folder) or {}).get("tokens_per_s")
        if config.identity.kind == "trunk" and speed:
            n_params = float(folder.points()[-1]["n_params"])
            speeds.setdefault(n_params, []).append(float(speed))
    return {n_params: median(found) for n_params, found in speeds.items()}


def next_trunks(workspace: Workspace, chosen: NextRuns) -> list[Trunk]:
    """The trunks of chosen runs, as the study trains them."""
    seed = workspace.study.grid[0].seeds[0]
    trunks = []
    for run in chosen.runs:
        assert run.base is not None  # every base of a study has a label
        assert run.learning_rate is not None  # and every run a learning rate
        n_tokens = round(run.n_tokens - run.decay_tokens)
        trunks.append(Trunk(run.base, run.ratio, run.learning_rate, seed, n_tokens))
    return trunks


def write_next(workspace: Workspace, chosen: NextRuns) -> Path:
    """Write chosen runs to ``next_runs.yaml``; returns the file.

    Raises:
        InputError: If dcpt did not write the file that is there, or it was changed since.
    """
    return write_listed(workspace, next_trunks(workspace, chosen))
