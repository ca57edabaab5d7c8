"""A micro-batch whose sequences are divided over the processes of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from dcpt.training.forward import Forward, Weights
from dcpt.training.sharded.ranks import Ranks


class ReplicatedForward:
    """Losses of a model that each process of a run holds whole.

    Nothing is gathered during a pass, and the gradients of a step are summed once. So it is faster
    than a sharded model, where the memory of a device suffices.

    Args:
        forward: The losses of the model on this device.
        ranks: The processes.

    Attributes:
        draws: Whether training draws random numbers (dropout).
        is_static: Always False: steps with collective operations are not recorded.
    """

    is_static = False

    def __init__(self, forward: Forward, ranks: Ranks) -> None:
        self._forward, self._ranks = forward, ranks
        self.draws = forward.draws

    def losses(
        self,
        weights: Weights,
        tokens: Tensor,
        *,
        training: bool = False,
        checkpointing: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """As ``ShardedForward.losses``, at the weights of this process."""

        def own_losses(own: Tensor) -> tuple[Tensor, Tensor]:
            return self._forward.losses(
                weights, own, training=training, checkpointing=checkpointing
            )

        return divided_losses(tokens, self._ranks, own_losses)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of all processes."""
        sum_over_ranks(parameters)


def sum_over_ranks(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients of parameters that each process holds whole.

    An expert that no token of a process reached has no gradient there. The process takes part with
    zeros, since each sum waits for all of them. An expert that no token reached anywhere stays
    without one, as in a single process: AdamW would decay its weights otherwise.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    without = [i for i, parameter in enumerate(trained) if parameter.grad is None]
    there = torch.ones(len(trained))
    there[without] = 0.0
    there = there.to(trained[0].device)
    dist.all_reduce(there)
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
    if without:  # reading waits for the device, and most steps need not
        counts = there.tolist()
        for i in without:
            if not counts[i]:
                trained[i].grad = None


def divided_losses(
    tokens: Tensor, ranks: Ranks, own_losses: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Compute the losses of a micro-batch, each process those of its sequences.

    Args:
        tokens: Ids of shape (B, T + 1), the same on all processes.
        ranks: The processes.
        own_losses: Mean and losses of some sequences.

    Returns:
        The mean over all B x T targets and the loss of each, shape (B, T), the same on all
        processes. The gradient of the mean is that of the targets of this process: the sum over the
        processes is the gradient of the whole.
    """
    B = len(tokens)
    per_rank = -(-B // ranks.count)
    own = tokens[ranks.index * per_rank : (ranks.index + 1) * per_rank]
    # A process without a sequence takes part in the collective operations, with weight 0.
    mean, losses = own_losses(own if len(own) else tokens[:1])
    part = mean * (len(own) / B)
    every = _gather(losses[: len(own)].detach(), per_rank, ranks)[:B]
    return part + (every.mean() - part).detach(), every


def _gather(losses: Tensor, per_rank: int, ranks: Ranks) -> Tensor:
    """The losses of all processes; each gives at most ``per_rank`` rows."""
    filled = functional.pad(losses, (0, 0, 0, per_rank - len(losses))).contiguous()
    every = [torch.empty_like(filled) for _ in range(ranks.count)]
    dist.all_gather(every, filled)
    return torch.cat(every)
