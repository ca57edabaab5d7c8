"""Nodes of a Ray cluster, reserved by placement groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dcpt.study.engine import RaySection


@dataclass(frozen=True)
class Node:
    """A part of a node that is reserved; after the loss of its node Ray reserves it on another.

    Attributes:
        index: Its place in the list of all.
        group: Its placement group.
        n_devices: GPUs, or cores if there are none.
    """

    index: int
    group: Any
    n_devices: int


@contextmanager
def reserve_nodes(section: RaySection) -> Iterator[list[Node]]:
    """Reserve parts of nodes inside the ``with`` statement, without waiting for them.

    Each is a placement group with a single bundle, so all its devices are on one node: a run over
    several of them needs no network. Several bundles would not do, since an actor takes its devices
    from a single one.
    """
    from ray.util import placement_group, remove_placement_group

    bundle: dict[str, float] = {"CPU": section.cpus_per_node}
    if section.gpus_per_node:
        bundle["GPU"] = section.gpus_per_node
    n_devices = section.gpus_per_node or section.cpus_per_node
    nodes = []
    try:
        for index in range(section.nodes):
            group = placement_group([bundle], strategy="STRICT_PACK")
            nodes.append(Node(index, group, n_devices))
        yield nodes
    finally:
        for node in nodes:
            remove_placement_group(node.group)
