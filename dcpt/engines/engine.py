"""What every engine is: it takes a plan, reports through a queue, and returns the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import Outcome, RunQueue

Tick = Callable[[RunQueue], None]
"""Called with the queue whenever something may have changed, at least every few seconds."""

Say = Callable[[str], None]
"""Called with a sentence for the person who waits: what was submitted, what is waited for."""


class Engine(Protocol):
    """Trains planned runs somewhere.

    An engine keeps the runs of a call in a ``RunQueue`` and reports what happens to it: ``take``
    when a run is sent off, ``note_progress``, and ``end``. The views, the deletion of states and
    the outcome read the queue alone. Everything that must outlive the call is in the run folders:
    a run is done if ``RunFolder.is_done`` says so, and whoever trains a run holds its lock.
    """

    def run(self, planned: Sequence[PlannedRun]) -> Outcome:
        """Train all runs that are not done; a failed one does not stop the others.

        Returns:
            Which runs finished and which failed, with the reason; a run whose base or trunk
            failed counts as failed.

        Raises:
            InputError: If the runs cannot be trained there as asked.
            Stopped: If a signal stopped the call; what was trained is kept.
        """
        ...
