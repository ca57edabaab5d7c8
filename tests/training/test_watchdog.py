"""The limit after which a process without a step is ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from made_runs import Made

from dcpt.leases import no_owner
from dcpt.training.sharded import launch
from dcpt.training.watchdog import LONG_S, STEP_S, WATCHDOG, Watchdog


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


def leave_at_once(*_: Any) -> None:
    """A process of a run that does nothing."""


def test_the_start_of_processes_is_announced(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchdog = Watchdog()
    monkeypatch.setattr(launch, "WATCHDOG", watchdog)
    monkeypatch.setattr(launch, "_train_rank", leave_at_once)
    with (tmp_path / "stacks.txt").open("w") as file:
        watchdog.start(file, on_accelerator=True)
        watchdog.pause()
        for _ in launch.train_over(made.trunk(2), made.study, ["cpu"]):
            pass
        assert watchdog.limit_s == LONG_S
        watchdog.pause()


def test_a_process_is_watched_until_it_has_left_its_group(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    @contextmanager
    def join_ranks(*_: Any) -> Iterator[None]:
        yield
        limits.append(WATCHDOG.limit_s)

    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    for name in ("ignore_signals", "end_with_parent"):
        monkeypatch.setattr(launch, name, lambda *_: None)
    monkeypatch.setattr(launch, "train_stepwise", lambda *_, **__: iter(()))
    monkeypatch.setattr(launch, "join_ranks", join_ranks)
    job = launch._Job(
        made.trunk(2),
        made.study,
        ("cpu",),
        stop_at_step=None,
        check_owner=no_owner,
        note=None,
        always_shards=False,
        threads=torch.get_num_threads(),
        meeting_place="",
        parent=os.getppid(),
    )
    links: Any = launch._Links(threading.Event(), None, None, tmp_path)
    launch._train_rank(job, 0, links)
    assert limits == [LONG_S]
    assert WATCHDOG.limit_s == 0
