"""The limit after which a process without a step is ended."""

from __future__ import annotations

from pathlib import Path

from dcpt.training.watchdog import LONG_S, STEP_S, Watchdog


def test_a_step_after_a_pause_has_the_usual_limit(tmp_path: Path) -> None:
    watchdog = Watchdog()
    with (tmp_path / "stacks.txt").open("w") as file:
        watchdog.start(file, on_accelerator=True)
        assert watchdog.limit_s == LONG_S
        watchdog.pause()
        watchdog.note_step()
        assert watchdog.limit_s == STEP_S
        watchdog.pause()
        assert watchdog.limit_s == 0
