"""Gradients of processes that divide a batch are summed, whoever has them (gloo on the CPU)."""

from __future__ import annotations

import multiprocessing
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from dcpt.training.forward import Forward
from dcpt.training.sharded.divided import ReplicatedForward
from dcpt.training.sharded.ranks import Ranks

N_EXPERTS = 3


def sum_of_experts(rank: int, folder: str) -> None:
    """Process ``rank`` reaches the expert of its number; the last expert is reached by none."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    shared, experts = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1), requires_grad=False)
    own = [nn.Parameter(torch.ones(2)) for _ in range(N_EXPERTS)]
    ((shared * own[rank]).sum() * (rank + 1)).backward()
    forward = object.__new__(Forward)
    forward.draws = False
    ReplicatedForward(forward, Ranks(rank, 2)).sum_gradients([shared, experts, *own])
    torch.save([None if p.grad is None else p.grad for p in (shared, *own)], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_an_expert_without_tokens_on_a_process_is_summed_with_zeros(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=sum_of_experts, args=(rank, str(tmp_path))) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    expected = [torch.full((2,), 3.0), torch.full((2,), 1.0), torch.full((2,), 2.0), None]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found[-1] is None
        for gradient, sum_of_both in zip(found[:-1], expected[:-1], strict=True):
            assert torch.equal(gradient, sum_of_both)
