"""What a run leaves at its end: its model, and the record in ``result.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training.data import RunData
from dcpt.training.models import save_model
from dcpt.training.sharded.ranks import whole
from dcpt.training.state import TrainingState


def save_whole_model(state: TrainingState, tokenizer: Path, folder: Path) -> None:
    """Save the model folder; the rows of a sharded model are gathered by the first process."""
    if state.ranks.count == 1:
        save_model(state.model, tokenizer, folder)
        return
    weights = {}
    for name, tensor in state.model.state_dict().items():
        gathered = whole(tensor)
        if state.ranks.is_first:
            weights[name] = gathered.cpu()
    if state.ranks.is_first:
        save_model(state.model, tokenizer, folder, weights)


def starting_points(config: RunConfig, folder: RunFolder) -> list[Path]:
    """The files of a pre-trained base that trunks start from; empty for other runs."""
    if config.identity.kind != "pretrain":
        return []
    states = (folder.state(n) for n in config.recorded.keep_state_at)
    model = folder.model.iterdir() if folder.model.is_dir() else ()
    return sorted(path for path in (*model, *states) if path.is_file())


def describe_end(folder: RunFolder, state: TrainingState, data: RunData) -> dict[str, Any]:
    """Sum up a run that reached its end: most of ``result.json``."""
    point = folder.points()[-1]
    copied = ("n_tokens", "loss", "n_params", "n_params_non_embedding", "epochs")
    return {
        "n_steps": state.step,
        **{name: point[name] for name in copied},
        "tokens": data.mixture.tokens(state.step),
    }
