"""The table of ``dcpt status``: a trunk and its decays are one row; the last line is the total."""

from __future__ import annotations

import io
import time
from typing import Any

from rich.console import Console
from run_configs import run_config

from dcpt.cli.show_status import group_runs, status_table, total_lines
from dcpt.grid.planned import PlannedRun
from dcpt.grid.status import RunStatus
from dcpt.runs.identity import Decay

TRUNK = PlannedRun(run_config())


def status(planned: PlannedRun, state: Any, **about: Any) -> RunStatus:
    done = planned.config.recorded.n_tokens if state == "done" else 0
    known = {"n_tokens": done, "tokens_per_s": None, "losses": {}, **about}
    return RunStatus(planned, planned.name, state, **known)


def decay(after: int) -> PlannedRun:
    config = run_config(
        kind="branch",
        n_tokens=after + 10,
        base=f"run:{TRUNK.identity_hash}",
        decay=Decay(start_tokens=after, n_tokens=10),
    )
    return PlannedRun(config, needs=(TRUNK.identity_hash,))


def shown(*statuses: RunStatus, width: int = 200) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(status_table(group_runs(statuses)))
    return out.getvalue()


def test_a_trunk_and_its_decays_are_one_row() -> None:
    trunk = status(TRUNK, "done", losses={"en": 2.5, "law": 4.0}, tokens_per_s=1000.0)
    ended = status(decay(100), "done", losses={"en": 2.4, "law": 3.5})
    lines = shown(trunk, status(decay(50), "waiting"), ended).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"{TRUNK.name} + 2 decays")
    assert "2 of 3 done" in lines[1]
    assert lines[1].split()[-2:] == ["2.400", "3.500"]  # after the last decay
    assert "110 / 120" in lines[1]
    assert "failed" in shown(trunk, status(decay(50), "failed"), ended)


def test_every_channel_has_a_column() -> None:
    losses = {"en": 2.5, "zh-news": 3.0, "code-python": 1.5, "law": 4.0}
    head = shown(status(TRUNK, "done", losses=losses)).splitlines()[0]
    assert head.split() == ["run", "state", "tokens", "tokens/s", *losses]


def test_the_total_has_the_time_left() -> None:
    trunk = status(TRUNK, "done", tokens_per_s=10.0)
    rows = group_runs([trunk, status(decay(50), "running", tokens_per_s=10.0, host="node-7")])
    assert total_lines(rows) == [
        "total: 1 run (1 running); 100 of 110 tokens; about 1 s left (one run at a time)",
        "in training: 1 run at 10 tokens/s (1 on node-7)",
    ]
    both = group_runs([trunk, status(decay(50), "done")])
    assert total_lines(both)[0].endswith("nothing left to train")
    assert "time left unknown" in total_lines(group_runs([status(TRUNK, "waiting")]))[0]


def test_a_machine_without_a_sign_of_life_is_named() -> None:
    beats = [time.time() - 3600, time.time()]
    lost, sound = (
        status(TRUNK, "running", host=host, beat=beat)
        for host, beat in zip(("node-7", "node-8"), beats, strict=True)
    )
    training = total_lines(group_runs([lost]) + group_runs([sound]))[1]
    assert training.startswith("in training: 2 runs (1 on node-7, silent since 20")
    assert training.endswith(", 1 on node-8)")


def test_a_base_is_no_run_in_the_total() -> None:
    base = PlannedRun(run_config(kind="pretrain"))
    rows = group_runs([status(base, "done"), status(TRUNK, "waiting"), status(decay(50), "done")])
    assert total_lines(rows)[0].startswith("total: 1 run (1 partly done) and 1 base (1 done); ")


def test_cancelled_runs_take_no_time() -> None:
    trunk = status(TRUNK, "done", tokens_per_s=10.0)
    rows = group_runs([trunk, status(decay(50), "cancelled")])
    assert rows[0].state == "cancelled"
    assert total_lines(rows)[0].endswith("nothing left to train but what was cancelled")
    more = group_runs([trunk, status(decay(50), "cancelled"), status(decay(90), "waiting")])
    assert total_lines(more)[0].endswith("about 1 s left (one run at a time)")
