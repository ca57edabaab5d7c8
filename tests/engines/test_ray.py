"""The Ray engine on a cluster of several local nodes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance import EngineConformance, points, results

from dcpt.engines.choose import open_engine, slots_of
from dcpt.engines.engine import Engine, Tick
from dcpt.grid.local import LocalEngine
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import Slot
from dcpt.pipeline.workspace import Workspace
from dcpt.study.engine import EngineSection
from dcpt.study.folder import StudyFolder

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    # The sockets of Ray's own processes and files, which it leaves to Python's end.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

STORE = 80 * 2**20


def open_ray(study: Path, on_tick: Tick | None = None, **settings: object) -> Engine:
    section = EngineSection.model_validate({"kind": "ray", "ray": settings})
    return open_engine(section, StudyFolder(study), slots_of(section, None), on_tick)


class TestRay(EngineConformance):
    def open(self, study: Path, on_tick: Tick | None = None) -> Engine:
        return open_ray(study, on_tick)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Ray cluster whose head takes no work, with two nodes of a core each."""
    from ray.cluster_utils import Cluster

    started = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False},
    )
    for _ in range(2):
        started.add_node(num_cpus=1, object_store_memory=STORE)
    yield started
    started.shutdown()


def test_the_runs_of_a_lost_node_go_on_elsewhere(study: Path, cluster: Any, tmp_path: Path) -> None:
    other = Path(shutil.copytree(study.parent, tmp_path / "other")) / study.name
    planned = Workspace(study).planned
    written: dict[str, int] = {}

    def lose(queue: RunQueue) -> None:
        if queue.reached and len(queue.running) == 2 and not written:
            written.update(results(study))
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)

    outcome = open_ray(study, lose, address=cluster.address, nodes=2).run(planned)
    assert not outcome.failed
    assert sorted(outcome.finished) == sorted(run.name for run in planned)
    assert written
    assert written.items() <= results(study).items()
    LocalEngine(StudyFolder(other), [Slot()]).run(Workspace(other).planned)
    assert points(study) == points(other)
