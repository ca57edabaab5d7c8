"""Requests to stop a run: a file in its folder, which whoever trains the run looks for.

It works from any machine that sees the folder, and ends no process: the owner saves the run and
stops by itself. The file stays, so that no later call trains the run until it is asked for again.
"""

from __future__ import annotations

import getpass
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from dcpt.atomic_files import write_record

CANCELLED = "cancelled.json"
"""Name of the request in a run's folder."""

LOOK_S = 2.0
"""Seconds between two looks for a request; a look takes 1 ms where the folder is on a server."""


def cancel(folder: Path) -> None:
    """Ask that a run is not trained; its folder is made if the run has none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        user = "unknown"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    write_record(folder / CANCELLED, {"by": user, "host": socket.gethostname(), "at": at})


def is_cancelled(folder: Path) -> bool:
    """Whether somebody asked that the run is not trained."""
    return (folder / CANCELLED).exists()


def take_back(folder: Path) -> None:
    """Take back the request, so that the run is trained again."""
    (folder / CANCELLED).unlink(missing_ok=True)


class CancelWatch:
    """Looks now and then whether a run in training was cancelled; remembers that it was.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._looked, self._found = folder, float("-inf"), False

    def __call__(self) -> bool:
        """Whether the run was cancelled."""
        now = time.monotonic()
        if not self._found and now - self._looked >= LOOK_S:
            self._looked, self._found = now, is_cancelled(self._folder)
        return self._found
