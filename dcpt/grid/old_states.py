"""Delete the states of trunks that no planned run needs any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dcpt.atomic_files import DamagedFileError
from dcpt.grid.planned import PlannedRun, find_folders
from dcpt.grid.queue import RunQueue
from dcpt.runs.folders import RunFolder
from dcpt.study.folder import StudyFolder


class StateCleaner:
    """Deletes states while a grid trains; the engine calls it with its queue.

    A state takes three times the bytes of the weights: 36 runs of 135M parameters wrote 58 GB.
    """

    def __init__(self) -> None:
        self._n_finished = -1

    def __call__(self, queue: RunQueue) -> None:
        """Delete what is not needed since another run finished."""
        if len(queue.outcome.finished) != self._n_finished:
            self._n_finished = len(queue.outcome.finished)
            _delete(queue.planned, queue.folders, queue.done)


def delete_unneeded(planned: Sequence[PlannedRun], folder: StudyFolder) -> None:
    """Delete the states of the trunks that are done and whose branches are all done.

    Bases keep their states, and every run keeps its model.

    Args:
        planned: All runs of the study.
        folder: The study.
    """
    folders = find_folders(planned, folder.runs)
    done = {run.identity_hash for run in planned if _is_done(run, folders[run.name])}
    _delete(planned, folders, done)


def _is_done(run: PlannedRun, folder: RunFolder) -> bool:
    """Whether the run's folder is complete; a damaged one is not."""
    try:
        return folder.is_done(run.config)
    except DamagedFileError:
        return False


def _delete(
    planned: Sequence[PlannedRun], folders: Mapping[str, RunFolder], done: Collection[str]
) -> None:
    behind = defaultdict(list)
    for run in planned:
        for needed in run.needs:
            behind[needed].append(run.identity_hash)
    for run in planned:
        branches = behind[run.identity_hash]
        is_trunk = run.config.identity.kind == "trunk"
        if is_trunk and branches and {run.identity_hash, *branches} <= set(done):
            _delete_own(run, folders[run.name])


def _delete_own(run: PlannedRun, folder: RunFolder) -> None:
    """Delete the states that a run kept for its branches; other files stay where they are."""
    kept = [n for n in run.config.recorded.keep_state_at if folder.state(n).exists()]
    if not kept:  # taking a lease writes a file
        return
    with folder.lock() as lease:  # another call may delete them, or train the trunk further
        kept = kept if lease else []
        own = [n for n in kept if _run_of(folder.state(n)) == run.identity_hash]
        if own and _is_done(run, folder):
            folder.delete_states(own)


def _run_of(path: Path) -> str | None:
    """The hash of the run that a state belongs to; None if the file is no state."""
    from safetensors import SafetensorError, safe_open

    if path.is_symlink() or not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            found: str | None = (file.metadata() or {}).get("identity")
    except (SafetensorError, OSError, ValueError):
        return None
    return found
