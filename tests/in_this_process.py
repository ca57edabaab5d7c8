"""An engine without workers, which take seconds to start."""

from __future__ import annotations

from typing import Any

import torch

from dcpt.errors import Stopped
from dcpt.grid.queue import Outcome
from dcpt.runs.cancelled import is_cancelled
from dcpt.runs.folders import RunFolder
from dcpt.training.loop import train


class InThisProcess:
    """Trains in the process of the test; it stops before the run whose number ``stop_at`` is."""

    trained: list[str] = []  # noqa: RUF012
    stop_at: int | None = None

    def __init__(self, folder: Any, slots: Any, on_tick: Any) -> None:
        self.folder = folder

    def run(self, planned: Any) -> Outcome:
        outcome, threads = Outcome(), torch.get_num_threads()
        torch.set_num_threads(1)  # on a busy machine two threads take ten times as long
        left_out: set[str] = set()
        for run in planned:
            folder = RunFolder.of(run.config, self.folder.runs)
            if is_cancelled(folder.path) or left_out.intersection(run.needs):
                outcome.cancelled.append(run.name)
                left_out.add(run.identity_hash)
            elif not folder.is_done(run.config):
                if len(self.trained) == self.stop_at:
                    raise Stopped(2, "stopped")
                train(run.config, self.folder.path)
                self.trained.append(run.name)
                outcome.finished.append(run.name)
        torch.set_num_threads(threads)
        return outcome
