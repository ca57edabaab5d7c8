"""Planned runs and what was done of each, read from the run folders alone."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from dcpt.atomic_files import DamagedFileError
from dcpt.flags import Flag
from dcpt.grid.planned import PlannedRun, find_folders
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import Slot
from dcpt.leases import holder, last_beat
from dcpt.quantities import count_things
from dcpt.runs.cancelled import is_cancelled
from dcpt.runs.folders import LEASE, RunFolder
from dcpt.study.folder import StudyFolder

State = Literal["done", "running", "failed", "interrupted", "waiting", "cancelled", "damaged"]
_TAIL_BYTES = 16_384

_SILENT_S = 600.0
"""Seconds without a sign of life that are named; clocks of machines may differ by minutes."""


@dataclass(frozen=True)
class RunStatus:
    """One planned run and what its folder says.

    Args:
        planned: The run.
        name: The name of its folder.
        state: Its state.
        n_tokens: Tokens trained so far, as far as the folder tells.
        tokens_per_s: Speed at the last report; None before the first.
        losses: Last known loss of every channel: validation of a finished run, else training.
        error: Why it failed, or which of its files is damaged; None for any other state.
        wall_s: Seconds that a finished run took; None for any other.
        host: The machine that a run is trained on; None for any other.
        beat: When its owner last gave a sign of life, in Unix seconds by the clock of that machine
            or of the file server; None for any other.
    """

    planned: PlannedRun
    name: str
    state: State
    n_tokens: int
    tokens_per_s: float | None
    losses: dict[str, float]
    error: Flag | None = None
    wall_s: float | None = None
    host: str | None = None
    beat: float | None = None

    @property
    def left_tokens(self) -> int:
        """Tokens still to train."""
        end = self.planned.config.recorded.n_tokens
        left = min(self.planned.trained_tokens, end - self.n_tokens)
        return 0 if self.state == "done" else left


class GridStatus:
    """The state of every planned run, kept up to date while the engine trains.

    Only the folders of runs that are in training or have just ended are read again.

    Args:
        queue: The engine's runs.
    """

    def __init__(self, queue: RunQueue) -> None:
        self._queue = queue
        self._statuses = {
            run.name: read_run_status(run, queue.folders[run.name]) for run in queue.planned
        }
        self._watched: set[str] = set()
        self._n_finished = self._n_failed = self._n_cancelled = 0
        self._note_ended()

    @property
    def statuses(self) -> list[RunStatus]:
        """All planned runs, in the order of the plan, as they were at the last update."""
        return list(self._statuses.values())

    @property
    def n_failed(self) -> int:
        """Runs that failed in this call, those that could not begin included."""
        return self._n_failed

    def update(self) -> list[RunStatus]:
        """Read what may have changed; returns the runs that ended since the last update."""
        before, ended = self._watched, self._note_ended()
        self._watched = {*self._queue.running, *self._queue.elsewhere}
        for name in {*before, *self._watched, *ended}:
            run = self._statuses[name].planned
            self._statuses[name] = read_run_status(run, self._queue.folders[name])
        return [self._statuses[name] for name in ended]

    def _note_ended(self) -> list[str]:
        outcome = self._queue.outcome
        ended = outcome.finished[self._n_finished :] + list(outcome.failed)[self._n_failed :]
        ended += outcome.cancelled[self._n_cancelled :]
        self._n_finished, self._n_failed = len(outcome.finished), len(outcome.failed)
        self._n_cancelled = len(outcome.cancelled)
        return ended


def is_silent(beat: float | None) -> bool:
    """Whether an owner's last sign of life is long ago; a lost node looks like this.

    Args:
        beat: As in ``RunStatus``.
    """
    return beat is not None and time.time() - beat >= _SILENT_S


def read_status(planned: Sequence[PlannedRun], folder: StudyFolder) -> list[RunStatus]:
    """The state of every planned run, in the order of the plan."""
    folders = find_folders(planned, folder.runs)
    return [read_run_status(run, folders[run.name]) for run in planned]


def read_run_status(planned: PlannedRun, folder: RunFolder) -> RunStatus:
    """The state of one planned run; a damaged folder is a state too."""
    config, name = planned.config, folder.path.name
    result = sound_result(folder)
    if result is not None and folder.is_done(config):
        speed, wall_s = result.get("tokens_per_s"), result.get("wall_s")
        loss = result["loss"]
        return RunStatus(planned, name, "done", result["n_tokens"], speed, loss, wall_s=wall_s)
    last = _last_training_event(folder)
    trained = last.get("n_tokens", 0) if last else (result or {}).get("n_tokens", 0)
    about: dict[str, Any] = {
        "n_tokens": trained,
        "tokens_per_s": last.get("tokens_per_s") if last else None,
        "losses": last.get("channel_loss", {}) if last else {},
    }
    if folder.is_locked():
        owner = holder(folder.path / LEASE)
        if owner is not None:  # None: it has just ended
            about |= {"host": owner.host, "beat": last_beat(folder.path / LEASE)}
        return RunStatus(planned, name, "running", **about)
    damaged = folder.damage()
    if damaged is not None:
        error = Flag("damaged", str(damaged), {"run": name})
        return RunStatus(planned, name, "damaged", error=error, **about)
    if is_cancelled(folder.path):
        return RunStatus(planned, name, "cancelled", **about)
    record = folder.error()
    if record is not None:
        error = Flag(record.get("kind", "other"), record["message"], {"run": name})
        return RunStatus(planned, name, "failed", error=error, **about)
    began = trained or folder.checkpoint.exists()
    return RunStatus(planned, name, "interrupted" if began else "waiting", **about)


def sound_result(folder: RunFolder) -> dict[str, Any] | None:
    """How a run ended, None if it did not, or if that file is damaged."""
    try:
        return folder.result()
    except DamagedFileError:
        return None


def _last_training_event(folder: RunFolder) -> dict[str, Any] | None:
    """The last whole line about training, read from the end of the file."""
    if not folder.metrics.is_file():
        return None
    with folder.metrics.open("rb") as handle:
        handle.seek(0, 2)
        handle.seek(max(0, handle.tell() - _TAIL_BYTES))
        lines = handle.read().split(b"\n")[:-1]
    for line in reversed(lines):
        if line.startswith(b'{"event": "train"'):
            with suppress(ValueError):  # a torn line is no report
                found: dict[str, Any] = json.loads(line)
                return found
    return None


def repeated_text(planned: Sequence[PlannedRun], folder: StudyFolder) -> list[str]:
    """One sentence per channel whose text ran dry in finished runs and came again, reshuffled."""
    epochs: dict[str, list[float]] = {}
    for run_folder in find_folders(planned, folder.runs).values():
        result = sound_result(run_folder) or {}
        for channel, seen in result.get("epochs", {}).items():
            if seen > 1:
                epochs.setdefault(channel, []).append(seen)
    return [
        f"the text of channel {channel} was repeated in {len(seen)} of "
        f"{count_things(len(planned), 'run')}, up to {max(seen):.1f} epochs"
        for channel, seen in epochs.items()
    ]


def seconds_left(statuses: Sequence[RunStatus], slots: Sequence[Slot]) -> float | None:
    """Time until all runs are done, from the speeds seen so far; None before any is known.

    Cancelled runs are not counted.

    A size that has not run yet is taken to be slower in proportion to its parameters.
    """
    speeds: dict[float, float] = {}
    left: dict[float, int] = {}
    for status in statuses:
        n_params = status.planned.about_n_params
        if status.tokens_per_s:
            speeds.setdefault(n_params, status.tokens_per_s)
        left_tokens = status.left_tokens
        if left_tokens > 0 and status.state != "cancelled":
            left[n_params] = left.get(n_params, 0) + left_tokens
    if not speeds:
        return None
    total = 0.0
    for n_params, n_tokens in left.items():
        like = min(speeds, key=lambda seen: abs(seen - n_params))
        at_once = sum(slot.lanes_for(n_params) for slot in slots)
        total += n_tokens / speeds[like] * max(1.0, n_params / like) / at_once
    return total
