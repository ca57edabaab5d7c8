"""Messages of an engine that watches for hours: what changed, at most once a minute."""

from __future__ import annotations

import time

from dcpt.engines.engine import Say

SECONDS_BETWEEN = 60.0


class SeldomMessages:
    """Says a message if it differs from the last, at most once a minute.

    Args:
        say: What receives the messages.
    """

    def __init__(self, say: Say) -> None:
        self._say, self._last, self._said_at = say, "", float("-inf")

    def say(self, message: str) -> None:
        """Say a message, unless it is empty, the last one again, or too early."""
        if not message or message == self._last:
            return
        if time.monotonic() - self._said_at >= SECONDS_BETWEEN:
            self._say(message)
            self._last, self._said_at = message, time.monotonic()
