"""The parts of the Ray engine, with workers that a test plays."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import dcpt
from dcpt.engines.choose import gpus_of, slots_of
from dcpt.engines.node import Order, engine_marker
from dcpt.engines.ray import cluster
from dcpt.engines.ray.cluster import check_answers, check_installed, check_machine
from dcpt.engines.ray.engine import RayEngine
from dcpt.engines.ray.host import Host
from dcpt.engines.ray.nodes import Node
from dcpt.errors import InputError
from dcpt.grid.local import Worker
from dcpt.grid.messages import Ready
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import Slot
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder
from dcpt.study.engine import EngineSection, RaySection
from dcpt.study.folder import StudyFolder


class LostWorker:
    """A worker that is gone."""

    def __init__(self, loss: str | None, *, is_node_lost: bool = False, node: int = 0) -> None:
        self.loss, self.is_node_lost = loss, is_node_lost
        self.node = Node(node, None, 4)
        self.exitcode, self.stacks = 1, ""


def lose(engine: RayEngine, queue: RunQueue, run: PlannedRun, lost: LostWorker) -> None:
    """Let a worker take a run, and be lost."""
    queue.take(run)
    worker = Worker(slot=Slot(), process=lost, connection=lost, is_ready=True)
    worker.busy_with[run.name] = run
    engine._bury(queue, worker)


def opened(study: Path, **settings: Any) -> tuple[RayEngine, RunQueue, PlannedRun]:
    """An engine, a queue, and the base of a study."""
    planned, folder = Workspace(study).planned, StudyFolder(study)
    engine = RayEngine(folder, RaySection(**settings), [Slot()])
    return engine, RunQueue(planned, folder), planned[0]


def order(study: Path, **changed: Any) -> dict[str, Any]:
    marker = engine_marker(study.parent / "ray", "the marker of the Ray engine")
    order = Order(
        study=str(study),
        version=dcpt.__version__,
        marker=marker.read_text(),
        marker_file=str(marker),
        runs=(),
        needed=(),
        gpus=0,
        cpus=1,
    )
    return {**asdict(order), **changed}


# ----------------------------------------------------------------------- losses
def test_a_run_goes_on_as_often_as_retries_allow_after_its_node_was_lost(study: Path) -> None:
    engine, queue, base = opened(study, max_retries=2)
    for _ in range(2):
        lose(engine, queue, base, LostWorker("node died", is_node_lost=True))
        assert base.name in queue.pending
    assert base.name not in queue.alone
    lose(engine, queue, base, LostWorker("node died", is_node_lost=True))
    assert queue.outcome.failed[base.name].startswith("its node was lost 3 times")
    error = RunFolder.of(base.config, StudyFolder(study).runs).error()
    assert error is not None
    assert error["kind"] == "killed"


def test_a_run_whose_actor_was_killed_is_tried_once_more_alone(study: Path) -> None:
    engine, queue, base = opened(study)
    lose(engine, queue, base, LostWorker("the actor died"))
    assert base.name in queue.alone
    lose(engine, queue, base, LostWorker("the actor died"))
    assert "its worker was lost twice (the actor died)" in queue.outcome.failed[base.name]


def test_a_worker_killed_for_memory_twice_is_one_sentence_in_the_end(study: Path) -> None:
    engine, queue, base = opened(study)
    for _ in range(2):
        lose(engine, queue, base, LostWorker("killed due to the node running low on memory"))
    (sentence,) = engine._memory
    assert "was killed for memory twice; what was trained is kept: raise" in sentence
    error = RunFolder.of(base.config, StudyFolder(study).runs).error()
    assert error is not None
    assert error["kind"] == "out_of_memory"


def test_workers_that_never_start_end_the_call(study: Path) -> None:
    engine, queue, _ = opened(study)
    worker = Worker(slot=Slot(), process=LostWorker("no module dcpt"), connection=None)
    for _ in range(4):
        engine._bury(queue, worker)
    with pytest.raises(InputError, match=r"5 workers of a node ended .*\(no module dcpt\)"):
        engine._bury(queue, worker)


class ReadyWorker(LostWorker):
    """A worker that says once that it is ready."""

    def __init__(self, node: int) -> None:
        super().__init__(None, node=node)
        self.messages: list[Ready] = [Ready()]

    def poll(self) -> bool:
        return bool(self.messages)

    def recv(self) -> Ready:
        return self.messages.pop()


class EndedWorker(LostWorker):
    """A worker that ended before it said anything."""

    def poll(self) -> bool:
        raise EOFError

    def join(self) -> None:
        """It has ended."""


def test_workers_that_are_ready_do_not_hide_a_node_that_starts_none(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, queue, _ = opened(study)
    good, ended = ReadyWorker(node=1), EndedWorker("no module dcpt", node=0)
    ready = Worker(slot=Slot(), process=good, connection=good)
    bad = Worker(slot=Slot(), process=ended, connection=ended)
    monkeypatch.setattr(engine, "_wait", lambda *_: None)
    monkeypatch.setattr(engine, "_start", lambda _: bad)
    for _ in range(4):
        engine._collect(queue, [ready, bad])
    with pytest.raises(InputError, match="5 workers of a node ended"):
        engine._collect(queue, [ready, bad])


def test_a_node_where_a_worker_started_may_fail_again(study: Path) -> None:
    engine, queue, _ = opened(study)
    bad = Worker(slot=Slot(), process=LostWorker("the actor died"), connection=None)
    for _ in range(3):
        for _ in range(4):
            engine._bury(queue, bad)
        player = ReadyWorker(node=0)
        engine._receive(queue, Worker(slot=Slot(), process=player, connection=player))
        assert not engine._failed_starts  # counted from zero again


# --------------------------------------------------------------- several devices
class IdleWorker(LostWorker):
    """A worker that leaves when it is asked to."""

    def close(self) -> None:
        self.loss = "left"

    def join(self, timeout: float | None = None) -> None:
        assert self.loss == "left"

    def kill(self) -> None:
        self.loss = "left"


def test_a_run_over_several_gpus_takes_those_of_one_node(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, queue, base = opened(study, nodes=2, gpus_per_node=2)
    engine._nodes = [Node(0, None, 2), Node(1, None, 2)]
    slots = slots_of(EngineSection(kind="ray", ray=engine.section), None)
    players = [IdleWorker(None, node=index // 2) for index in range(4)]
    for player in players:
        player.node = engine._nodes[player.node.index]
    workers = [
        Worker(slot=slot, process=player, connection=player, is_ready=True)
        for slot, player in zip(slots, players, strict=True)
    ]
    started: list[Slot] = []
    monkeypatch.setattr(engine, "_start", started.append)
    wide = PlannedRun(base.config, n_devices=2)
    # The first GPU of the first node has no room, so the second node alone has two.
    engine._make_room(wide, queue, workers, workers[1:])
    assert [slot.devices for slot in started] == [("cuda:2", "cuda:3")]
    assert [player.loss for player in players] == [None, None, "left", "left"]


def test_gpus_of_all_nodes_are_counted() -> None:
    section = EngineSection(kind="ray", ray=RaySection(nodes=3, gpus_per_node=2, gpu="a100"))
    assert len({slot.device for slot in slots_of(section, None)}) == 6
    assert str(gpus_of(section)) == "6 A100s"
    assert len(slots_of(EngineSection(kind="ray", ray=RaySection(cpus_per_node=2)), None)) == 2


# -------------------------------------------------------------------- bad input
def test_a_run_over_more_gpus_than_a_node_has_is_refused(study: Path) -> None:
    base = Workspace(study).planned[0]
    engine = RayEngine(StudyFolder(study), RaySection(nodes=4, gpus_per_node=2), [Slot()])
    with pytest.raises(InputError, match=r"over 4 devices, .* has 2; raise gpus_per_node"):
        engine.run([PlannedRun(base.config, n_devices=4)])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": "9.9"}, "the study was submitted with 9.9"),
        ({"marker": "another"}, "does not see the study's folder"),
        ({"gpus": 99}, "and the study asks for 99 per node"),
    ],
)
def test_a_node_that_does_not_fit_is_refused(
    study: Path, changed: dict[str, Any], words: str
) -> None:
    pytest.importorskip("ray")
    report = Host().start(order(study, **changed), asdict(Slot()))
    assert report.refused is not None
    assert words in report.refused


def test_an_installation_without_ray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'dcpt\[ray\]'"):
        check_installed()


def test_an_address_where_nothing_answers_is_refused() -> None:
    with pytest.raises(InputError, match=r"no Ray cluster answers at 127.0.0.1:1 within 20 s"):
        check_answers("127.0.0.1:1")


def test_a_cluster_that_says_no_is_refused_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = "raise RuntimeError('Version mismatch') #"
    monkeypatch.setattr(cluster, "_QUESTION", stand_in + "{address!r}")
    with pytest.raises(InputError, match=r"RuntimeError: Version mismatch\); check the address"):
        check_answers("auto")


def test_a_machine_that_is_too_small_is_refused() -> None:
    n = 1 + (os.cpu_count() or 1)
    with pytest.raises(InputError, match=rf"asks for {n} cores, and this machine has"):
        check_machine(RaySection(cpus_per_node=n))


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "http://head:8265"])
def test_what_is_no_address_of_a_cluster_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not host:port, nor auto"):
        RaySection(address=address)
