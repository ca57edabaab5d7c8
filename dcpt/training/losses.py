"""Cross entropy of every token without storing the logits of a whole batch.

A batch of 16,384 tokens has 10 GB of float32 logits at a vocabulary of 152,000. Here the logits of
a few thousand rows are computed at a time, together with their gradient (as in Liger's fused linear
cross entropy, arXiv 2410.10989): every product is computed once, and no logits are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dcpt.training.compiling import compiled_on_cuda

LOGITS = 2**25
"""Logits that are computed at a time: 4096 rows at a vocabulary of 8192."""

FEWEST_ROWS = 1024
"""Fewest rows that are computed at a time, however large the vocabulary is: with fewer, adding up
the gradient of the head (vocabulary x width numbers per chunk) would take longer than computing
it."""

FEWEST_ROWS_ON_CUDA = 4096
"""As ``FEWEST_ROWS``: a GPU is faster in its products than in its memory. At a vocabulary of
152,000 a chunk has 1.2 GB of logits in bfloat16."""


def mean_loss(hidden_MD: Tensor, head_VD: Tensor, targets_M: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the cross entropy after a linear head, in float32 whatever the dtype of the products.

    Args:
        hidden_MD: Inputs of the head, in the dtype of the products.
        head_VD: The head's weight; its gradient is added up in float32.
        targets_M: Token ids.

    Returns:
        The mean over tokens, a scalar, and the loss of each token in nats, shape (M,), without
        gradient.
    """
    if torch.is_grad_enabled():
        mean, losses_M = _MeanLoss.apply(hidden_MD, head_VD, targets_M)  # type: ignore[no-untyped-call]
        return mean, losses_M
    head, losses_in = head_VD.to(hidden_MD.dtype), compiled_on_cuda(_only_losses, hidden_MD)
    losses = [losses_in(hidden_MD[r], head, targets_M[r]) for r in _chunks(head, targets_M)]
    losses_M = torch.cat(losses)
    return losses_M.mean(), losses_M


class _MeanLoss(torch.autograd.Function):
    """Computes its gradient in the forward pass, since the loss is always differentiated next."""

    @staticmethod
    def forward(
        ctx: Any, hidden_MD: Tensor, head_VD: Tensor, targets_M: Tensor
    ) -> tuple[Tensor, Tensor]:
        hidden_MD, head_VD = hidden_MD.detach(), head_VD.detach()
        head, gradient_in = head_VD.to(hidden_MD.dtype), compiled_on_cuda(_gradient, hidden_MD)
        losses, hidden_grads, head_grad = [], [], None
        for rows in _chunks(head, targets_M):
            hidden, targets = hidden_MD[rows], targets_M[rows]
            some, at_target, grad = gradient_in(hidden, head, targets, 1 / len(targets_M))
            # Outside the compiled function, which would copy all of it to change a number per row.
            grad.scatter_(1, targets[:, None], at_target[:, None])
            losses.append(some)
            hidden_grads.append(grad @ head)
            part = grad.T @ hidden
            head_grad = part.float() if head_grad is None else head_grad.add_(part)
        losses_M = torch.cat(losses)
        ctx.save_for_backward(torch.cat(hidden_grads), head_grad)
        ctx.mark_non_differentiable(losses_M)
        return losses_M.mean(), losses_M

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        hidden_grad, head_grad = ctx.saved_tensors
        # In place: the gradient of a head has 2.2 GB at a width of 3584 and 152,000 ids.
        return hidden_grad.mul_(grads[0]), head_grad.mul_(grads[0]), None


def rows_at_a_time(n_rows: int, vocabulary: int, *, on_cuda: bool) -> int:
    """Rows of a chunk: as few chunks as possible, all but the last equally long.

    Args:
        n_rows: Rows of all chunks.
        vocabulary: Logits of a row.
        on_cuda: Whether they are computed on a GPU.
    """
    fewest = FEWEST_ROWS_ON_CUDA if on_cuda else FEWEST_ROWS
    n_chunks = -(-n_rows // max(fewest, LOGITS // vocabulary))
    return -(-n_rows // n_chunks)


def _chunks(head_VD: Tensor, targets_M: Tensor) -> Iterator[slice]:
    n = len(targets_M)
    rows = rows_at_a_time(n, len(head_VD), on_cuda=head_VD.is_cuda)
    return (slice(start, start + rows) for start in range(0, n, rows))


def _losses(hidden: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Losses of some rows, with their logits and log-sum-exps, in float32."""
    logits = (hidden @ head.T).float()
    sums = logits.logsumexp(dim=1)
    return sums - logits.gather(1, targets[:, None])[:, 0], logits, sums


def _only_losses(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Losses only, so that the compiled kernel need not write the rest."""
    return _losses(hidden, head, targets)[0]


def _gradient(
    hidden: Tensor, head: Tensor, targets: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses of some rows, and the gradient of their sum times ``scale`` by the logits.

    Returns:
        The losses; the gradient by the logit of each target; the gradient by all other logits.
    """
    losses, logits, sums = _losses(hidden, head, targets)
    # The scale goes into the exponent, which saves a pass over the logits.
    grad = (logits - (sums[:, None] - math.log(scale))).exp_().to(hidden.dtype)
    at_target = (((-losses).exp() - 1) * scale).to(hidden.dtype)
    return losses, at_target, grad
