"""Losses of a pre-trained base where CPT takes it up, on the validation text of any study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.text.manifest import load_prepared
from dcpt.training.evaluate import count_ids, describe_base, open_validation
from dcpt.training.models import check_vocabulary, load_model
from dcpt.training.state import load_state, start_state


def evaluate_trained(
    run: RunConfig,
    study: Path,
    data: Path,
    channels: Sequence[str],
    *,
    validation_tokens: int,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure a pre-trained base: its end, or the state before its decay that trunks start from.

    Args:
        run: The run that trained it.
        study: The study's folder.
        data: The folder of the prepared text.
        channels: Channels to evaluate.
        validation_tokens: Tokens of each channel.
        device: Where to compute.

    Returns:
        ``n_tokens`` (0), ``phase`` (base), and the result of ``describe_evaluation``.

    Raises:
        InputError: If the text is not prepared, or has too few validation tokens or unknown ids.
        DamagedFileError: If the model or the state is damaged.
    """
    identity, prepared = run.identity, load_prepared(data)
    validation = open_validation(
        prepared, channels, identity.sequence_tokens, validation_tokens, identity.packing
    )
    folder = RunFolder.of(run, study / "runs")
    folder.check()
    model = load_model(folder.model, device)
    check_vocabulary(model, count_ids(prepared, channels), f"base {run.recorded.size}")
    start = run.recorded.base_n_tokens
    if start is not None and start < run.recorded.n_tokens:
        load_state(folder.state(start), start_state(model, identity), identity)
    return describe_base(model, validation, identity.dtype)
