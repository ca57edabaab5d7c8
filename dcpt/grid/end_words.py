"""What the local engine says of workers that died and of a call that was stopped."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from dcpt.quantities import count_things


def death_words(exit_code: int) -> str:
    """Message of a run whose process died twice."""
    remedy = "rerun the same command to resume from the last checkpoint"
    if exit_code >= 0:
        return f"its process ended twice, the last time with exit code {exit_code}; {remedy}"
    cause = ""
    if -exit_code == signal.SIGKILL:
        cause = ", probably because memory ran out"
        remedy = f"use fewer --workers or free memory, then {remedy}"
    name = signal.Signals(-exit_code).name
    return f"its process was killed twice, the last time by {name}{cause}; {remedy}"


def hang_words() -> str:
    """Message of a run whose process made no progress twice."""
    return (
        "its process made no progress twice and was ended; stacks.txt in the run's folder shows "
        "where it stood; rerun the same command to resume from the last checkpoint"
    )


def stop_words(number: int, saved: Sequence[str], unsaved: Sequence[str]) -> str:
    """Message of a stopped call."""
    runs = count_things(len(saved), "run")
    words = f"stopped by {signal.Signals(number).name}; saved {runs} in training"
    if unsaved:
        words += (
            f"; not saved in time, so reset to their last checkpoint: {', '.join(sorted(unsaved))}"
        )
    return f"{words}; rerun the same command to resume"
