"""The base that a run starts from: its model, its shape, its state before its decay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from dcpt.errors import InputError
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training.checkpoints import checkpoint_sha256, locate_checkpoint
from dcpt.training.models import build_llama, build_shape, check_positions, load_model


def load_base(config: RunConfig, study: Path, device: str = "cpu") -> nn.Module:
    """Load the model that a run starts from, in float32.

    Args:
        config: The run; ``identity.base`` says which base, ``recorded.base_path`` where it is.
        study: The study's folder.
        device: Device of the model.

    Raises:
        InputError: If the base is missing, is not the base that the run was planned with, or has
            too few positions for the run's sequences.
    """
    place = find_base(config, study)
    model = build_new(config, device) if place is None else load_model(place, device)
    check_positions(model, config.identity.sequence_tokens, f"run {config.name}")
    return model


def build_new(config: RunConfig, device: str = "cpu") -> nn.Module:
    """Build the untrained model that a pre-training run starts from."""
    identity = config.identity
    assert identity.architecture is not None, f"{config.name}: a pretrain run needs an architecture"
    return build_llama(identity.architecture, identity.seed, device)


def find_base(config: RunConfig, study: Path) -> str | None:
    """The checkpoint that a run starts from, checked; None for a pre-training run.

    Raises:
        InputError: If the base is missing or is not the base that the run was planned with.
    """
    identity, path = config.identity, config.recorded.base_path
    kind, _, name = identity.base.partition(":")
    if identity.kind == "pretrain":
        return None
    if kind == "run":
        runs = _runs_of_base(config, study)
        folder = RunFolder.find(name, runs)
        if folder is None or not folder.model.is_dir():
            raise InputError(
                f"run {config.name}: its base, the pretrain run {name}, has no finished model in "
                f"{runs}; train that run first"
            )
        folder.check()
        return str(folder.model)
    assert path is not None, f"{config.name}: base {identity.base} has no base_path"
    place = locate_checkpoint(path, study)
    if checkpoint_sha256(place) != name:
        raise InputError(
            f"run {config.name}: the checkpoint {path} is not the one the run was planned with "
            f"(sha256 {name[:12]}...); put the old files back, or plan the study again"
        )
    return place


def base_state(config: RunConfig, study: Path) -> Path | None:
    """The state of its base, with moments, that a trunk starts from; None if it has none.

    Raises:
        InputError: If that state is missing.
    """
    identity = config.identity
    if identity.base_state_tokens is None:
        return None
    name, runs = identity.base.partition(":")[2], _runs_of_base(config, study)
    folder = RunFolder.find(name, runs)
    path = None if folder is None else folder.state(identity.base_state_tokens)
    if path is None or not path.exists():
        raise InputError(
            f"run {config.name}: its base, the pretrain run {name} in {runs}, kept no state at "
            f"{identity.base_state_tokens} tokens; train that run again, or start from its end "
            "(bases.ladder.start: end)"
        )
    return path


def _runs_of_base(config: RunConfig, study: Path) -> Path:
    """The runs with the one that pre-trained a run's base: of this study, or of another."""
    path = config.recorded.base_path
    return study / "runs" if path is None else (study / path).parent.parent


def build_untrained(config: RunConfig, study: Path, device: str = "cpu") -> nn.Module:
    """Build a model of the shape of a run's base, with random weights.

    Args:
        config: The run; its base must be planned, not trained.
        study: The study's folder.
        device: Device of the model.

    Raises:
        InputError: If the base is a checkpoint that is missing.
    """
    identity, path = config.identity, config.recorded.base_path
    kind, _, name = identity.base.partition(":")
    if identity.architecture is not None:
        return build_llama(identity.architecture, device=device)
    if kind == "run":
        folder = RunFolder.find(name, _runs_of_base(config, study))
        base = None if folder is None else folder.config()
        assert base is not None, f"{config.name}: time the pretrain run {name} first"
        return build_untrained(base, study, device)
    assert path is not None, f"{config.name}: base {identity.base} has no base_path"
    return build_shape(locate_checkpoint(path, study), device)


def shape_of(config: RunConfig, study: Path) -> Any:
    """Configuration of a run's model (of ``transformers``), without its weights.

    Raises:
        InputError: As ``build_untrained``.
    """
    return build_untrained(config, study, "meta").config
