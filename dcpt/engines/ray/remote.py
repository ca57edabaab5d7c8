"""A worker in the cluster, for the local engine's eyes: a process and a connection to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dcpt.engines.node import Order
from dcpt.engines.ray.host import Host, Report
from dcpt.engines.ray.nodes import Node
from dcpt.errors import InputError
from dcpt.grid.messages import FromWorker, ToWorker
from dcpt.grid.slots import Slot

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.exceptions import RayError

_GROUPS = {"to": 1, "from": 1}
"""Messages to the worker keep their order, and none waits for those from it."""


class RemoteWorker:
    """Has the methods of a ``Connection`` and of a ``Process`` that the local engine calls.

    Args:
        order: What the worker's node is told.
        slot: Its devices.
        node: Where it is placed.
        host: The class of its actor.

    Attributes:
        node: Where it is placed.
        stacks: Where its threads stood, if it was ended since it made no progress.
        exitcode: Its exit code, once it ended by itself.
        loss: Why it was lost with its actor; None if it was not.
        is_node_lost: Whether it was lost since its node was.
    """

    def __init__(self, order: Order, slot: Slot, node: Node, host: type[Host] = Host) -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.node, self.stacks = node, ""
        self.exitcode: int | None = None
        self.loss: str | None = None
        self.is_node_lost = False
        self._is_doubtful = False
        self._inbox: deque[FromWorker] = deque()
        self._node_id = ""
        self._closed: ObjectRef | None = None
        n_gpus = len(slot.devices) if slot.is_accelerator else 0
        self._actor: Any = (
            ray.remote(concurrency_groups=_GROUPS)(host)
            .options(
                num_gpus=n_gpus,
                # The cores of a worker on GPUs are those that its node reserves.
                num_cpus=0 if n_gpus else len(slot.devices),
                scheduling_strategy=PlacementGroupSchedulingStrategy(node.group, 0),
            )
            .remote()
        )
        self._answer = self._call("to", "start", asdict(order), asdict(_as_seen_there(slot)))

    # ------------------------------------------------------------- as a connection
    @property
    def awaited(self) -> ObjectRef | None:
        """What ``ray.wait`` waits for; None once the worker is gone."""
        return None if self._is_gone else self._answer

    def send(self, message: ToWorker) -> None:
        """Send a message, without waiting."""
        if self._is_gone:
            raise OSError("the worker is gone")
        self._call("to", "deliver", message)

    def poll(self) -> bool:
        """Whether a message is there.

        Raises:
            EOFError: If the worker is gone, and all its messages were received.
            InputError: If its node does not fit the study.
        """
        import ray

        if not self._inbox and not self._is_gone and ray.wait([self._answer], timeout=0)[0]:
            self._take()
        if not self._inbox and self._is_gone:
            raise EOFError
        return bool(self._inbox)

    def recv(self) -> FromWorker:
        """The next message; ``poll`` says whether there is one."""
        return self._inbox.popleft()

    def close(self) -> None:
        """Let the worker leave by itself."""
        if self._node_id and not self._is_gone:
            self._closed = self._call("to", "close")

    # ---------------------------------------------------------------- as a process
    def join(self, timeout: float | None = None) -> None:
        """Wait until the worker has left after ``close``, at most so many seconds."""
        import ray

        if self._closed is not None and timeout is not None:
            ray.wait([self._closed], timeout=timeout)

    def kill(self) -> None:
        """End the actor, and its worker with it; the devices are free then."""
        import ray

        ray.kill(self._actor)

    # ---------------------------------------------------------------------- inside
    @property
    def _is_gone(self) -> bool:
        return self.exitcode is not None or self.loss is not None

    def _call(self, group: str, method: str, *arguments: object) -> ObjectRef:
        called: ObjectRef = (
            getattr(self._actor, method).options(concurrency_group=group).remote(*arguments)
        )
        return called

    def _take(self) -> None:
        """Take the answer of the actor, and ask for the next."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayActorError, RayError

        try:
            report: Report = ray.get(self._answer)
        except ActorUnavailableError:
            # Of a lost node this comes before the cluster knows why: the next answer says it.
            self._is_doubtful = True
            self._answer = self._call("from", "receive")
            return
        except RayError as error:
            self.loss = _reason(error)
            self.is_node_lost = isinstance(error, RayActorError) and self._has_lost_node()
            self.kill()
            return
        if self._is_doubtful:  # the actor lives, and what it said before may be lost
            self.loss = "the connection to its actor was interrupted"
            self.kill()
            return
        if report.refused is not None:
            self.loss = report.refused
            raise InputError(report.refused)
        self._node_id = report.node or self._node_id
        self._inbox.extend(report.messages)
        self.stacks, self.exitcode = report.stacks, report.exit_code
        if self.exitcode is None:
            self._answer = self._call("from", "receive")
        else:
            self.kill()

    def _has_lost_node(self) -> bool:
        import ray

        alive = {node["NodeID"]: node["Alive"] for node in ray.nodes()}
        return bool(self._node_id) and not alive.get(self._node_id, False)


def _as_seen_there(slot: Slot) -> Slot:
    """The slot on its node, where Ray shows the actor's GPUs alone."""
    if not slot.is_accelerator:
        return slot
    devices = tuple(f"cuda:{index}" for index in range(len(slot.devices)))
    return Slot(devices, slot.threads, slot.lanes)


def _reason(error: RayError) -> str:
    """The words of Ray, on a line."""
    lines: Mapping[str, None] = dict.fromkeys(
        line.strip() for line in str(error).splitlines() if line.strip()
    )
    return " ".join(lines)[:300]
