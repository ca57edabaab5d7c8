"""The processes of a run, and what they agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those of its run.

    Only the first process writes files, and it takes every decision that rests on a clock, a signal
    or a disk: all processes must take part in the same collective operations.

    Attributes:
        index: Number of this process, from 0.
        count: Number of processes.
        always_shards: Whether the model is sharded even where a device holds all of it.
    """

    index: int = 0
    count: int = 1
    always_shards: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's files."""
        return self.index == 0

    def decide(self, function: Callable[[], T]) -> T:
        """Call a function on the first process; all return its result or raise its error.

        The result goes through pickle, between processes that dcpt started itself.
        """
        if self.count == 1:
            return function()
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome[0] = function()
            except Exception as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in their order."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values


ALONE = Ranks()
"""The only process of a run."""


@contextmanager
def join_ranks(ranks: Ranks, device: str, meeting_place: str) -> Iterator[None]:
    """Connect the processes of a run on this machine.

    Args:
        ranks: The place of this process.
        device: Its device: tensors go over NCCL on CUDA, over gloo on the CPU.
        meeting_place: Where they find each other, a URL that torch knows: ``file://`` with a file
            that does not exist yet, or ``env://`` under torchrun.
    """
    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_cuda else "gloo",
        init_method=meeting_place,
        rank=ranks.index,
        world_size=ranks.count,
        device_id=torch.device(device) if on_cuda else None,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def by_layout(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Separate sharded from whole parameters: torch's functions of many tensors take no mixture."""
    sharded: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in parameters:
        (sharded if isinstance(parameter, DTensor) else others).append(parameter)
    return [part for part in (sharded, others) if part]


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the rows of all processes; they must all call this. Plain tensors are whole."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: DTensor) -> slice:
    """The rows of a sharded tensor that this process holds, as ``fully_shard`` cuts them."""
    n, rank = tensor.shape[0], tensor.device_mesh.get_local_rank()
    per_rank = -(-n // tensor.device_mesh.size())
    rows = slice(min(rank * per_rank, n), min((rank + 1) * per_rank, n))
    assert tensor.to_local().shape[0] == rows.stop - rows.start, "another way of sharding"
    return rows
