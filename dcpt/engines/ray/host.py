"""What an actor does on its node: it holds a worker process and passes messages on.

The worker is a process of its own, as on a single machine: it handles signals itself, its watchdog
may end it, and it starts the further processes of a run over several devices.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, ClassVar

from dcpt.engines.node import Order, check_node, slots_here
from dcpt.errors import InputError
from dcpt.grid.messages import FromWorker, Stop, ToWorker
from dcpt.grid.slots import Slot
from dcpt.grid.worker import work
from dcpt.processes import block_signals

_LONGEST_WAIT_S = 5.0
"""Seconds after which an actor answers even if its worker had nothing to say."""

_LEAVE_S = 5.0


@dataclass(frozen=True)
class Report:
    """What an actor answers.

    Attributes:
        messages: What the worker said since the last answer.
        refused: Why the node does not fit the study.
        node: Id of the node in Ray; only in the first answer.
        exit_code: Exit code of the worker, once it ended.
        stacks: Where the worker's threads stood, if it was ended since it made no progress.
    """

    messages: Sequence[FromWorker] = ()
    refused: str | None = None
    node: str = ""
    exit_code: int | None = None
    stacks: str = ""


class Host:
    """Holds a worker process. Each group of its methods runs in a thread of its own."""

    _work: ClassVar[Callable[..., None]] = staticmethod(work)

    def start(self, order: Mapping[str, Any], slot: Mapping[str, Any]) -> Report:
        """Check the node, and start the worker.

        Args:
            order: The fields of ``dcpt.engines.node.Order``, without runs.
            slot: The fields of the worker's slot.
        """
        import ray

        node_order, node = Order(**order), socket.gethostname()
        try:
            check_node(node_order, node)
            if node_order.gpus:
                slots_here(node_order, node)
        except InputError as error:
            return Report(refused=str(error))
        self._start_worker(str(Path(node_order.study).parent), Slot(**slot))
        return Report(node=ray.get_runtime_context().get_node_id())

    def _start_worker(self, folder: str, slot: Slot) -> None:
        context = multiprocessing.get_context("spawn")
        self._temporary = tempfile.TemporaryDirectory(prefix="dcpt-")
        self._stacks = Path(self._temporary.name) / "stacks.txt"
        self._connection, theirs = context.Pipe()
        arguments = (theirs, folder, slot, os.getpid(), str(self._stacks))
        # A daemonic process may not start the processes of a run over several devices.
        is_daemon = len(slot.devices) == 1
        self._process = context.Process(target=self._work, args=arguments, daemon=is_daemon)
        with block_signals():
            self._process.start()
        theirs.close()

    def receive(self) -> Report:
        """Wait for messages of the worker, or for its end."""
        wait([self._connection], timeout=_LONGEST_WAIT_S)
        messages: list[FromWorker] = []
        try:
            while self._connection.poll():
                messages.append(self._connection.recv())
        except (EOFError, OSError):
            return self._report_end(messages)
        return Report(messages)

    def _report_end(self, messages: Sequence[FromWorker]) -> Report:
        self._process.join()
        stacks = self._stacks.read_text(encoding="utf-8") if self._stacks.is_file() else ""
        self._temporary.cleanup()
        return Report(messages, exit_code=self._process.exitcode, stacks=stacks)

    def deliver(self, message: ToWorker) -> None:
        """Send a message to the worker; what one that died does not get, its end tells."""
        try:
            self._connection.send(message)
        except OSError:
            return

    def close(self) -> None:
        """End the worker: it leaves by itself, so that it cleans up, or is killed."""
        self.deliver(Stop())
        self._process.join(_LEAVE_S)
        self._process.kill()
        self._process.join()
