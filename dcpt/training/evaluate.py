"""Losses of every channel on fixed validation tokens, with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dcpt.errors import InputError
from dcpt.runs.identity import Packing, hash_record
from dcpt.text.manifest import Prepared, load_prepared
from dcpt.text.shard_files import largest_id, open_evaluated, open_shard
from dcpt.text.tokenizer import check_same_tokenizer
from dcpt.training.checkpoints import check_finite, checkpoint_files
from dcpt.training.forward import Dtype, Losses, Weights, forward_of, weights_of
from dcpt.training.models import check_positions, check_vocabulary, count_parameters, load_model
from dcpt.training.watchdog import WATCHDOG

EVALUATION_TOKENS = 16_384
"""Tokens of a forward pass; a constant, so that losses do not depend on the training batch."""


@dataclass(frozen=True)
class Validation:
    """The fixed text that every point evaluates.

    Attributes:
        windows: Token ids of each channel, shape (S, T + 1), int64: inputs and targets. Documents
            with near-copies in training text are left out, if the text was screened for them.
        all_windows: The same of all validation text, for channels that such documents are left
            out of.
        bytes_per_token: UTF-8 bytes of text per token of each channel.
        border_id: The token that ends a document, if documents are separated; else None.
        eval_id: Hash of tokens, windows and packing: losses with equal ids are comparable.
        all_eval_id: The same of all validation text; equal to ``eval_id`` if nothing is left out.
    """

    windows: dict[str, Tensor]
    all_windows: dict[str, Tensor]
    bytes_per_token: dict[str, float]
    border_id: int | None
    eval_id: str
    all_eval_id: str


@dataclass(frozen=True)
class ChannelLoss:
    """Validation loss of a channel.

    Args:
        mean: Mean loss, nats per token.
        se: Its standard error over sequences; None with a single sequence.
    """

    mean: float
    se: float | None


def open_validation(
    prepared: Prepared,
    channels: Sequence[str],
    sequence_tokens: int,
    validation_tokens: int,
    packing: Packing = "concatenated",
) -> Validation:
    """Read validation sequences of each channel, spread evenly over its shard.

    Args:
        prepared: The prepared text.
        channels: Names of the channels.
        sequence_tokens: T, targets in a sequence.
        validation_tokens: Tokens of each channel's shard to evaluate. Of a channel that is measured
            only and has fewer, all are evaluated.
        packing: Whether documents attend to the text before them in their sequence.

    Raises:
        InputError: If a channel is not prepared or has too few validation tokens.
    """
    shards = {name: open_evaluated(prepared, name) for name in channels}
    problems = [
        f"channel {name}: has {len(shard)} validation tokens, fewer than the "
        f"{validation_tokens + 1} to be evaluated; lower evaluation.tokens, "
        "or hold out more text (valid_fraction)"
        for name, shard in shards.items()
        if len(shard) <= validation_tokens and prepared.channels[name].is_trained
    ]
    if validation_tokens < sequence_tokens:
        problems.append(
            f"evaluation.tokens is {validation_tokens}, less than a sequence of "
            f"{sequence_tokens}; raise it"
        )
    if problems:
        raise InputError(problems)
    manifests = {name: prepared.channels[name] for name in channels}
    clean = {name: prepared.evaluated(name).sha256 for name in channels}
    complete = {name: manifest.valid.sha256 for name, manifest in manifests.items()}

    def cut(shard: NDArray[np.unsignedinteger]) -> Tensor:
        return cut_windows(shard, sequence_tokens, min(validation_tokens, len(shard) - 1))

    def name_text(valid_sha256: Mapping[str, str]) -> str:
        return hash_record(
            {
                "valid_sha256": valid_sha256,
                "sequence_tokens": sequence_tokens,
                "validation_tokens": validation_tokens,
                "packing": packing,
            }
        )

    return Validation(
        windows={name: cut(shard) for name, shard in shards.items()},
        all_windows={
            name: cut(open_shard(prepared.folder, name, "valid"))
            for name in channels
            if clean[name] != complete[name]
        },
        bytes_per_token={name: prepared.bytes_per_token(name) for name in channels},
        border_id=manifests[channels[0]].eos_id if packing == "documents" else None,
        eval_id=name_text(clean),
        all_eval_id=name_text(complete),
    )


def count_ids(prepared: Prepared, channels: Sequence[str]) -> int:
    """The largest id in the prepared text + 1; the tokenizer may have more that never occur."""
    return 1 + max(largest_id(prepared.folder, name) for name in channels)


def cut_windows(
    shard: NDArray[np.unsignedinteger], sequence_tokens: int, validation_tokens: int
) -> Tensor:
    """Cut evenly spread sequences out of a shard, whose documents may be sorted.

    Returns:
        Token ids of shape (S, T + 1), int64, S = ``validation_tokens // T``; no token is a target
        twice.
    """
    n_there = (len(shard) - 1) // sequence_tokens
    n = validation_tokens // sequence_tokens
    starts = np.arange(n) * n_there // n * sequence_tokens
    ids = np.asarray(shard)[starts[:, None] + np.arange(sequence_tokens + 1)]
    return torch.from_numpy(ids.astype(np.int64))


@torch.no_grad()
def sequence_losses(forward: Losses, weights: Weights, windows: Tensor) -> NDArray[np.float64]:
    """Mean loss of each sequence, without dropout.

    Args:
        forward: The model's forward pass.
        weights: The result of ``weights_of``.
        windows: Token ids, shape (S, T + 1).

    Returns:
        Nats per token, shape (S,).
    """
    device = next(iter(weights.values())).device
    most = max(1, EVALUATION_TOKENS // (windows.shape[1] - 1))
    n_passes = -(-len(windows) // most)
    per_pass, means = -(-len(windows) // n_passes), []
    for some in torch.split(windows, per_pass):
        WATCHDOG.announce()
        # The last pass is padded with its first sequence, since each new shape is compiled.
        missing = per_pass - len(some)
        filled = torch.cat([some, some[:1].expand(missing, -1)])
        _, losses = forward.losses(weights, filled.to(device))
        means.append(losses[: len(some)].double().mean(dim=1))
    # A single transfer, so that the host waits for the device once.
    result: NDArray[np.float64] = torch.cat(means).cpu().numpy()
    return result


def evaluate_channels(
    forward: Losses, weights: Weights, windows: Mapping[str, Tensor]
) -> dict[str, ChannelLoss]:
    """Validation loss of each channel; sequences are equally long, so they are averaged."""
    losses = {}
    for name, windows_ST in windows.items():
        losses_S = sequence_losses(forward, weights, windows_ST)
        n = len(losses_S)
        se = float(losses_S.std(ddof=1)) / math.sqrt(n) if n > 1 else None
        losses[name] = ChannelLoss(float(losses_S.mean()), se)
    return losses


def describe_evaluation(
    model: nn.Module, validation: Validation, forward: Losses
) -> dict[str, Any]:
    """Evaluate a model: the part of a point that does not depend on training.

    Args:
        model: The model.
        validation: The text.
        forward: Its losses.

    Returns:
        ``n_params``, ``n_params_non_embedding``, ``eval_id``, and by channel ``loss`` and ``se``
        (nats per token; ``se`` only where there are two sequences) and ``bytes_per_token``. Where
        near-copies of training text are left out, also ``all``: ``loss``, ``se`` and ``eval_id``
        with these documents.
    """
    counts = count_parameters(model)
    weights = weights_of(model)
    losses = evaluate_channels(forward, weights, validation.windows)
    complete = {**losses, **evaluate_channels(forward, weights, validation.all_windows)}
    on_all = {"all": {"eval_id": validation.all_eval_id, **_by_channel(complete)}}
    return {
        "n_params": counts.n_params,
        "n_params_non_embedding": counts.n_params_non_embedding,
        "eval_id": validation.eval_id,
        **_by_channel(losses),
        "bytes_per_token": validation.bytes_per_token,
        **(on_all if validation.all_windows else {}),
    }


def _by_channel(losses: Mapping[str, ChannelLoss]) -> dict[str, dict[str, float]]:
    return {
        "loss": {name: loss.mean for name, loss in losses.items()},
        "se": {name: loss.se for name, loss in losses.items() if loss.se is not None},
    }


def evaluate_model(
    path: str | Path,
    data: Path,
    channels: Sequence[str],
    sequence_tokens: int,
    validation_tokens: int,
    device: str = "cpu",
    dtype: Dtype = "float32",
    packing: Packing = "concatenated",
) -> dict[str, Any]:
    """Measure a base on a study's validation shards, as at D = 0 of a run.

    Args:
        path: A checkpoint folder or a hub id.
        data: The folder of the prepared text.
        channels: Channels to evaluate.
        sequence_tokens: Targets in a sequence, as in the study.
        validation_tokens: Tokens of each channel, as in the study.
        device: Where to compute.
        dtype: ``bfloat16`` for the precision that a study of that dtype evaluates in.
        packing: As in the study.

    Returns:
        ``n_tokens`` (0), ``phase`` (base), and the result of ``describe_evaluation``.

    Raises:
        InputError: If the model cannot be loaded, has another tokenizer than the text, knows fewer
            ids or has too few positions, or if the text is not prepared.
    """
    prepared = load_prepared(data)
    validation = open_validation(prepared, channels, sequence_tokens, validation_tokens, packing)
    folder = checkpoint_files(path)[0].parent
    check_same_tokenizer(folder, prepared.tokenizer_path, f"checkpoint {path}", str(path))
    check_finite(path, f"checkpoint {path}")
    model = load_model(path, device)
    check_positions(model, sequence_tokens, f"checkpoint {path}")
    check_vocabulary(model, count_ids(prepared, channels), f"checkpoint {path}")
    return describe_base(model, validation, dtype)


def describe_base(model: nn.Module, validation: Validation, dtype: Dtype) -> dict[str, Any]:
    """Evaluate a base: the point at D = 0 of a run that starts from it."""
    forward = forward_of(model, dtype, validation.border_id)
    return {"n_tokens": 0, "phase": "base", **describe_evaluation(model, validation, forward)}
