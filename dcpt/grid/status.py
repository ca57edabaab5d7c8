"""Expected beside found: the state of every planned run, read from the run folders alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from dcpt.atomic_files import DamagedFileError
from dcpt.grid.local import Slot
from dcpt.grid.planned import PlannedRun
from dcpt.run_folders import RunFolder
from dcpt.study import StudyFolder

State = Literal["done", "running", "failed", "damaged", "interrupted", "waiting"]
_TAIL_BYTES = 16_384


@dataclass(frozen=True)
class RunStatus:
    """One planned run and what its folder says.

    Args:
        n_tokens: Tokens trained so far, as far as the folder tells.
        tokens_per_s: Speed at the last report; None before the first.
        losses: Last known loss of every channel: validation of a finished run, else training.
        words: Why it failed, or which of its files is damaged.
    """

    planned: PlannedRun
    name: str
    state: State
    n_tokens: int
    tokens_per_s: float | None
    losses: dict[str, float]
    words: str = ""

    @property
    def left_tokens(self) -> int:
        """Tokens still to train."""
        end = self.planned.config.recorded.n_tokens
        left = min(self.planned.trained_tokens, end - self.n_tokens)
        return 0 if self.state == "done" else left


def read_status(planned: Sequence[PlannedRun], folder: StudyFolder) -> list[RunStatus]:
    """The state of every planned run, in the order of the plan."""
    return [_status(run, RunFolder.of(run.config, folder.runs)) for run in planned]


def _status(planned: PlannedRun, folder: RunFolder) -> RunStatus:
    config, name = planned.config, folder.path.name
    result = sound_result(folder)
    if result is not None and folder.is_done(config):
        speed = result.get("tokens_per_s")
        return RunStatus(planned, name, "done", result["n_tokens"], speed, result["loss"])
    last = _last_training_event(folder)
    trained = last.get("n_tokens", 0) if last else (result or {}).get("n_tokens", 0)
    about: dict[str, Any] = {
        "n_tokens": trained,
        "tokens_per_s": last.get("tokens_per_s") if last else None,
        "losses": last.get("channel_loss", {}) if last else {},
    }
    if folder.is_locked():
        return RunStatus(planned, name, "running", **about)
    damaged = folder.damage()
    if damaged is not None:
        return RunStatus(planned, name, "damaged", words=str(damaged), **about)
    error = folder.error()
    if error is not None:
        return RunStatus(planned, name, "failed", words=error["message"], **about)
    return RunStatus(planned, name, "interrupted" if trained else "waiting", **about)


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
    for run in planned:
        result = sound_result(RunFolder.of(run.config, folder.runs)) or {}
        for channel, seen in result.get("epochs", {}).items():
            if seen > 1:
                epochs.setdefault(channel, []).append(seen)
    return [
        f"the text of channel {channel} was repeated in {len(seen)} of {len(planned)} runs, "
        f"up to {max(seen):.1f} epochs"
        for channel, seen in epochs.items()
    ]


def seconds_left(statuses: Sequence[RunStatus], slots: Sequence[Slot]) -> float | None:
    """Time until all runs are done, from the speeds seen so far; None before any is known.

    A size that has not run yet is taken to be slower in proportion to its parameters.
    """
    seen = [(status.planned.about_n_params, status) for status in statuses if status.tokens_per_s]
    if not seen:
        return None
    total = 0.0
    for status in statuses:
        if status.left_tokens <= 0:
            continue
        own = status.planned.about_n_params
        like, peer = min(seen, key=lambda pair: abs(pair[0] - own))
        speed = peer.tokens_per_s or 1.0
        at_once = sum(slot.lanes_for(own) for slot in slots)
        total += status.left_tokens / speed * max(1.0, own / like) / at_once
    return total
