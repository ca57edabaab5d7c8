"""Runs of a study that a person names: find them, cancel them, ask for them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dcpt.errors import InputError, did_you_mean
from dcpt.grid.planned import PlannedRun, find_folders
from dcpt.grid.status import is_silent
from dcpt.leases import last_beat
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.cancelled import cancel, is_cancelled, take_back
from dcpt.runs.folders import LEASE, RunFolder


@dataclass(frozen=True)
class Cancelled:
    """The runs that were cancelled, by the names of their folders.

    Args:
        running: Runs in training; their owners save them and stop.
        waiting: Runs that nobody trains now.
        silent: Runs whose owner gave no sign of life for long. It was lost, and they stay as they
            are, or it is paused, and it saves them when it goes on.
    """

    running: list[str]
    waiting: list[str]
    silent: list[str]


def find_run(workspace: Workspace, name: str) -> PlannedRun:
    """The run that a person means: of the study, else one that has a folder of its own.

    Args:
        workspace: The study.
        name: Name of its folder, its hash, or the start of its name. A start that a trunk and its
            decays share means the trunk.

    Raises:
        InputError: If no run, or more than one, is meant.
    """
    names: dict[str, PlannedRun] = {}
    for runs in (workspace.planned, _other_runs(workspace)):
        folders = find_folders(runs, workspace.folder.runs)
        these = {folders[run.name].path.name: run for run in runs}
        exact = these | {run.identity_hash: run for run in runs}
        if name in exact:
            return exact[name]
        found = [run for known, run in these.items() if known.startswith(name)]
        hashes = {run.identity_hash for run in found}
        first = [run for run in found if not hashes.intersection(run.needs)]
        if len(first) == 1:
            return first[0]
        if first:
            raise InputError(
                f"{name}: {len(first)} runs of {workspace} begin like this; name a run as "
                f"`dcpt status {workspace} --all` does"
            )
        names |= these
    raise InputError(
        f"{name}: no run of {workspace} is named like this{did_you_mean(name, names)}; "
        f"`dcpt status {workspace} --all` lists them"
    )


def _other_runs(workspace: Workspace) -> list[PlannedRun]:
    """Runs with a folder that the study does not ask for, such as those of ``dcpt refine``.

    A run comes after those it needs.
    """
    planned = {run.identity_hash for run in workspace.planned}
    configs = [c for c in workspace.stored.configs if c.identity.hash not in planned]
    configs.sort(key=lambda config: config.identity.trunk is not None)
    return [PlannedRun(c, needs=(c.identity.trunk,) if c.identity.trunk else ()) for c in configs]


def cancel_runs(workspace: Workspace, names: Sequence[str] = ()) -> Cancelled:
    """Ask that runs and those that start from them are not trained, or not further.

    Args:
        workspace: The study.
        names: As in ``find_run``; empty takes all runs that are not done, and the runs in training
            that the study does not ask for, such as those of ``dcpt verify``.

    Raises:
        InputError: If a name means no run, or a run that is done.
    """
    others = _other_runs(workspace)
    known = [*workspace.planned, *others]
    folders = find_folders(known, workspace.folder.runs)
    done = {run.name for run in known if folders[run.name].is_done(run.config)}
    asked = [find_run(workspace, name) for name in names]
    if ended := [run.name for run in asked if run.name in done]:
        raise InputError([f"{name}: the run is done; leave it out" for name in ended])
    if not names:
        asked = [run for run in workspace.planned if run.name not in done]
        asked += [run for run in others if folders[run.name].is_locked()]
    chosen = {run.identity_hash for run in asked}
    for run in known:  # a run comes after those it needs
        if chosen.intersection(run.needs):
            chosen.add(run.identity_hash)
    wanted = [
        folders[run.name] for run in known if run.identity_hash in chosen and run.name not in done
    ]
    return _cancel([folder for folder in wanted if not is_cancelled(folder.path)])


def _cancel(folders: Sequence[RunFolder]) -> Cancelled:
    """Write the requests; those of runs in training last, so that no other starts instead."""
    owned = [folder for folder in folders if folder.is_locked()]
    silent = [folder for folder in owned if is_silent(last_beat(folder.path / LEASE))]
    running = [folder for folder in owned if folder not in silent]
    waiting = [folder for folder in folders if folder not in owned]
    for folder in [*waiting, *owned]:
        cancel(folder.path)
    names = ([folder.path.name for folder in some] for some in (running, waiting, silent))
    return Cancelled(*names)


def ask_again(workspace: Workspace, planned: Sequence[PlannedRun]) -> None:
    """Take back what was cancelled, so that it is trained.

    Args:
        workspace: The study.
        planned: The runs.
    """
    for folder in find_folders(planned, workspace.folder.runs).values():
        take_back(folder.path)
