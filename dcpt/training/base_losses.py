"""Losses of a pre-trained base where CPT takes it up, on the validation text of any study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import Packing
from dcpt.text.manifest import load_prepared
from dcpt.training.evaluate import count_ids, describe_base, open_validation
from dcpt.training.forward import Dtype
from dcpt.training.models import check_positions, check_vocabulary, load_model
from dcpt.training.state import load_state, start_state


def evaluate_trained(
    folder: RunFolder,
    start_tokens: int,
    data: Path,
    channels: Sequence[str],
    *,
    sequence_tokens: int,
    validation_tokens: int,
    device: str = "cpu",
    dtype: Dtype = "float32",
    packing: Packing = "concatenated",
) -> dict[str, Any]:
    """Measure a pre-trained base: its end, or the state before its decay that trunks start from.

    Args:
        folder: The run that trained it, of this study or of another.
        start_tokens: Tokens of the base at which trunks start.
        data: The folder of the prepared text.
        channels: Channels to evaluate.
        sequence_tokens: Targets in a sequence, as in the study.
        validation_tokens: Tokens of each channel, as in the study.
        device: Where to compute.
        dtype: As in the study.
        packing: As in the study.

    Returns:
        ``run`` (the hash of the run), ``start_tokens``, ``n_tokens`` (0), ``phase`` (base), and the
        result of ``describe_evaluation``.

    Raises:
        InputError: If the text is not prepared, or has too few validation tokens or unknown ids, or
            the model too few positions.
        DamagedFileError: If the model or the state is damaged.
    """
    prepared = load_prepared(data)
    validation = open_validation(prepared, channels, sequence_tokens, validation_tokens, packing)
    folder.check()
    config = folder.config()
    assert config is not None, f"{folder.path} holds no run"
    identity, place = config.identity, f"base {config.recorded.size}"
    model = load_model(folder.model, device)
    check_positions(model, sequence_tokens, place)
    check_vocabulary(model, count_ids(prepared, channels), place)
    if start_tokens < config.recorded.n_tokens:
        load_state(folder.state(start_tokens), start_state(model, identity), identity)
    about = {"run": identity.hash, "start_tokens": start_tokens}
    return {**about, **describe_base(model, validation, dtype)}
