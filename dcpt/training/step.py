"""An optimizer step of a run; on CUDA it is recorded once and then replayed."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dcpt.runs.course import learning_rate_at
from dcpt.runs.identity import Identity
from dcpt.text.mixture import Batch
from dcpt.training.compiling import compiled_on_cuda
from dcpt.training.sharded.ranks import by_layout, whole
from dcpt.training.state import TrainingState, allocate_moments

FIRST_STEPS = 2
"""Steps before a graph is recorded: they compile, allocate, and choose kernels."""

MOST_PASSES = 8
"""Micro-batches of a recorded step. A batch is cut into more of them where a pass takes longer than
its launches, and a graph of thousands of kernels takes seconds and memory of its own."""


MOST_QUEUED_STEPS = 16
"""Steps that wait on a device. A device is busy with 2 of them; 256 of a 6.6M model in three lanes
took 10 s on an H200, so a stopped grid could not save its runs in the time that it has."""


class Step:
    """Takes the steps of a run: changes its state, and waits only for steps long launched.

    A small model's step is a few hundred kernels of a few microseconds each, and launching them
    from Python takes five times as long as running them. On CUDA the third step is recorded as a
    graph, and each later step is a single launch. Steps whose sequence of kernels varies are not
    recorded: mixtures of experts, and dropout, whose noise depends on seed and step so that a
    resumed run draws the same noise; and steps of many micro-batches, whose passes are long.

    Moments are allocated before the first step. So the first step needs as much memory as any
    other, and if it finds too little, the weights have not changed yet.

    Args:
        state: Weights, moments, sums of losses by channel, and the step.
        identity: The run.
        micro_batch_sequences: Most sequences in a forward and backward pass. With fewer than the
            batch has, the gradient of the mean over all tokens of the batch is added up in float32:
            the same up to rounding (and the noise of dropout).
        checkpointing: Whether the backward pass computes each layer again from its input.
    """

    def __init__(
        self,
        state: TrainingState,
        identity: Identity,
        micro_batch_sequences: int,
        *,
        checkpointing: bool = False,
    ) -> None:
        self._state, self._identity, self._checkpointing = state, identity, checkpointing
        self._weights = state.weights
        device = state.loss_sum_C.device
        sequences, tokens = identity.batch_sequences, identity.sequence_tokens
        # A recorded graph always reads and writes the same memory.
        self._tokens_BT = torch.zeros((sequences, tokens + 1), dtype=torch.int64, device=device)
        self._channel_B = torch.zeros(sequences, dtype=torch.int64, device=device)
        self._loss_and_norm = torch.zeros(2, device=device)
        self._micro_batches_BT = torch.split(self._tokens_BT, micro_batch_sequences)
        self._graph: Any = None
        self._taken = 0
        self._queued: deque[Any] = deque()
        allocate_moments(state)

    def __call__(self, batch: Batch) -> Tensor:
        """Train on a batch.

        Args:
            batch: Tokens of shape (B, T + 1) and the channel of each sequence.

        Returns:
            Mean loss over the batch's tokens and norm of the gradient before clipping, shape (2,).
        """
        state, device = self._state, self._tokens_BT.device
        if state.forward.draws:
            # Each process of a run draws its own noise.
            torch.manual_seed(
                self._identity.seed * 1_000_003 + state.step + (state.ranks.index << 40)
            )
        state.set_learning_rate(learning_rate_at(self._identity, state.step))
        for there, here in (
            (self._tokens_BT, batch.tokens),
            (self._channel_B, batch.channel_index),
        ):
            tensor = torch.from_numpy(here)
            # Copies from pinned memory do not wait; torch keeps it until the copy is done.
            there.copy_(tensor.pin_memory() if device.type == "cuda" else tensor, non_blocking=True)

        if self._graph is None and self._taken >= FIRST_STEPS and self._can_record():
            self._graph = self._record()
        if self._graph is None:
            self._compute()
        else:
            self._graph.replay()
        self._taken += 1
        state.step += 1
        self._wait_for_an_earlier_step()
        return self._loss_and_norm.clone()

    def _wait_for_an_earlier_step(self) -> None:
        """Wait until at most ``MOST_QUEUED_STEPS`` are launched and not done."""
        if not self._tokens_BT.is_cuda:
            return
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # sleeps, does not spin
        done.record()
        self._queued.append(done)
        if len(self._queued) > MOST_QUEUED_STEPS:
            self._queued.popleft().synchronize()

    def _compute(self) -> None:
        state = self._state
        mean, losses_BT = self._add_gradients()
        state.forward.sum_gradients(state.model.parameters())
        norm = clip_gradients(state.model.parameters(), self._identity.optimizer.clip_norm)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        self._loss_and_norm.copy_(torch.stack([mean, norm]))
        add = compiled_on_cuda(add_channel_losses, losses_BT)
        add(losses_BT, self._channel_B, state.loss_sum_C, state.loss_tokens_C)

    def _add_gradients(self) -> tuple[Tensor, Tensor]:
        """Compute the gradient of the mean loss, a micro-batch at a time.

        Returns:
            The mean over all tokens of the batch, and the losses, shape (B, T).
        """
        means, losses = [], []
        for tokens_BT in self._micro_batches_BT:
            mean, losses_BT = self._state.forward.losses(
                self._weights, tokens_BT, training=True, checkpointing=self._checkpointing
            )
            # Sequences are equally long, but the last micro-batch may have fewer of them.
            share = len(tokens_BT) / len(self._tokens_BT)
            part = mean if share == 1 else mean * share
            part.backward()  # type: ignore[no-untyped-call]
            means.append(part.detach())
            losses.append(losses_BT)
        if len(means) == 1:  # adds no kernel to the step of a small model
            return means[0], losses[0]
        return torch.stack(means).sum(), torch.cat(losses)

    def _can_record(self) -> bool:
        is_short = len(self._micro_batches_BT) <= MOST_PASSES
        return self._tokens_BT.is_cuda and is_short and self._state.forward.is_static

    def _record(self) -> Any:
        """Record a step on the current stream, which must not be the device's default one."""
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # frees memory of the first steps; a graph has its own memory
        graph = torch.cuda.CUDAGraph()
        gc.disable()  # nothing on the device may be freed during the capture
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            self._compute()
            graph.capture_end()
        finally:
            gc.enable()
        return graph


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale gradients down to a norm, as ``clip_grad_norm_``; some of them may be sharded.

    Args:
        parameters: Parameters of a model.
        most: The largest norm.

    Returns:
        The norm before, a scalar.
    """
    parts = by_layout(p for p in parameters if p.grad is not None)
    norms = [
        whole(nn.utils.get_total_norm([p.grad for p in part if p.grad is not None]))
        for part in parts
    ]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    for part in parts:
        nn.utils.clip_grads_with_norm_(part, most, norm)
    return norm


def add_channel_losses(
    losses_BT: Tensor, channel_B: Tensor, loss_sum_C: Tensor, loss_tokens_C: Tensor
) -> None:
    """Add the losses of a batch to the sums of its channels, and their tokens, in float64.

    Args:
        losses_BT: Loss of every target, nats.
        channel_B: The channel of each sequence.
        loss_sum_C: Sums, changed in place.
        loss_tokens_C: Number of their tokens, changed in place.
    """
    channels_C = torch.arange(len(loss_sum_C), device=channel_B.device)
    # A masked sum instead of a scattered sum has a fixed order, and so a fixed last bit.
    is_of_CB = (channel_B == channels_C[:, None]).double()
    sums_B = losses_BT.double().sum(dim=1)
    loss_sum_C += (is_of_CB * sums_B).sum(dim=1)
    loss_tokens_C += is_of_CB.sum(dim=1) * losses_BT.shape[1]
