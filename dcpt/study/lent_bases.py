"""Bases that another study pre-trained, for several domains on one ladder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dcpt.errors import InputError
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.runs.stored import read_stored
from dcpt.study.bases import BaseBeforeDecay, Checkpoint, Ladder
from dcpt.study.folder import StudyFolder
from dcpt.study.schema import Study


def lender_of(content: Any) -> str | None:
    """The file that a study's content names in ``bases.study``; None if it names none."""
    bases = content.get("bases") if isinstance(content, dict) else None
    named = bases.get("study") if isinstance(bases, dict) else None
    return named if isinstance(named, str) and named else None


def name_lent(path: Path, content: Mapping[str, Any], lender: Study) -> dict[str, Any]:
    """Add the labels of the other study's bases, and a place for its tokenizer, to a study.

    Args:
        path: The study file, which begins the errors.
        content: What it holds.
        lender: The study that pre-trained the bases.

    Raises:
        InputError: If the study names a tokenizer or such a base itself, or if the bases cannot be
            taken.
    """
    bases = dict(content["bases"])
    named, own, ladder = bases["study"], bases.get("checkpoints") or {}, lender.bases.ladder
    problem = None
    if ladder is None:
        problem = f"{named} pre-trains no bases; name a study with bases.ladder"
    elif "tokenizer" in content:
        problem = f"the tokenizer is that of the bases of {named}; remove the key tokenizer"
    elif isinstance(own, dict) and (twice := sorted(ladder.sizes.keys() & own.keys())):
        problem = f"{named} has a base {twice[0]!r}, and so has bases.checkpoints; rename that"
    if problem is not None:
        raise InputError(f"{path}: bases.study: {problem}")
    assert ladder is not None
    lent = {label: {"model": named} for label in ladder.sizes}  # until they are found
    if isinstance(own, dict):
        bases["checkpoints"] = {**lent, **own}
    return {**content, "bases": bases, "tokenizer": named}


def find_lent(path: Path, study: Study, lender: Study) -> Study:
    """Fill in where the models of the other study are, with their tokenizer.

    Args:
        path: The study file.
        study: The study, after :func:`name_lent`.
        lender: The study that pre-trained the bases.

    Raises:
        InputError: If a base that the study uses is not trained, several could be meant, or the
            state before its decay is asked for and missing.
    """
    named, ladder = study.bases.study, lender.bases.ladder
    assert named is not None
    assert ladder is not None
    other = StudyFolder(path.parent / named)
    stored = read_stored(other.runs)
    found: dict[str, Checkpoint] = {}
    problems = []
    for label in (name for name in study.named_bases if name in ladder.sizes):
        trained = [
            (folder, config)
            for folder, config in stored.sound
            if _is_base(config, lender, label) and _is_trained(folder, config)
        ]
        problem = _problem_of(trained, ladder, other.file)
        if problem is None:
            found[label] = _as_checkpoint(*trained[0], ladder, path.parent)
        else:
            problems.append(f"{path}: bases.study: base {label} of {named} {problem}")
    if problems:
        raise InputError(problems)
    if not found:
        raise InputError(f"{path}: bases.study: no run starts from a base of {named}; remove it")
    own = {k: v for k, v in study.bases.checkpoints.items() if k not in ladder.sizes}
    bases = study.bases.model_copy(update={"checkpoints": {**found, **own}})
    tokenizer = next(iter(found.values())).model
    return study.model_copy(update={"bases": bases, "tokenizer": tokenizer})


def _problem_of(
    trained: Sequence[tuple[RunFolder, RunConfig]], ladder: Ladder, file: Path
) -> str | None:
    """Why a base cannot be taken, and the remedy; None if it can.

    Args:
        trained: The finished runs that pre-trained it.
        ladder: The ladder that it belongs to.
        file: The file of the study with that ladder.
    """
    if not trained:
        return f"is not trained; run `dcpt run-grid {file}`"
    if len(trained) > 1:
        names = ", ".join(folder.path.name for folder, _ in trained)
        return (
            f"was trained {len(trained)} times ({names}); name a model under bases.checkpoints "
            "instead"
        )
    folder, config = trained[0]
    start = _start_of(config, ladder)
    if start < config.recorded.n_tokens and not folder.state(start).exists():
        return (
            f"has no saved state at {start} tokens, where its decay begins; run `dcpt run-grid "
            f"{file}`, which trains it to there again"
        )
    return None


def _start_of(config: RunConfig, ladder: Ladder) -> int:
    """Tokens at which runs take up a base: at its end, or where its decay begins.

    The ladder may have been changed since the base was trained, so what was recorded with the base
    does not tell.
    """
    decay = config.identity.decay
    if ladder.start == "end":
        return config.recorded.n_tokens
    assert decay is not None, f"{config.name} has no decay"
    return decay.start_tokens


def _as_checkpoint(folder: RunFolder, config: RunConfig, ladder: Ladder, study: Path) -> Checkpoint:
    """A base as a checkpoint of the study in the folder ``study``."""
    about: dict[str, Any] = {
        "model": os.path.relpath(folder.model, study),
        "peak_learning_rate": config.recorded.base_peak_learning_rate,
        "n_tokens": _start_of(config, ladder),
    }
    if ladder.start == "end":
        return Checkpoint(**about)
    return BaseBeforeDecay(run=config.identity.hash, **about)


def _is_base(config: RunConfig, lender: Study, label: str) -> bool:
    """Whether a run pre-trained a base as the study describes it now; its text is not compared."""
    identity, ladder, training = config.identity, lender.bases.ladder, lender.training
    assert isinstance(ladder, Ladder)
    how = ("batch_sequences", "sequence_tokens", "optimizer", "packing", "dtype")
    size, shape = ladder.sizes[label], identity.architecture
    peak = ladder.learning_rate if size.learning_rate is None else size.learning_rate
    return (
        identity.kind == "pretrain"
        and shape is not None
        and (shape.width, shape.layers, shape.heads) == (size.width, size.layers, size.heads)
        and all(getattr(identity, name) == getattr(training, name) for name in how)
        and (identity.learning_rate, identity.seed) == (peak, ladder.seed)
        and 0 <= config.recorded.n_tokens - ladder.tokens < identity.batch_tokens
        and (identity.decay is not None or ladder.start == "end")
    )


def _is_trained(folder: RunFolder, config: RunConfig) -> bool:
    """Whether a run is done and its model is there."""
    result = folder.result()
    return (
        result is not None
        and result["n_tokens"] >= config.recorded.n_tokens
        and folder.model.is_dir()
    )
