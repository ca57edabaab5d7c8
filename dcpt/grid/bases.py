"""The bases that planned trunks start from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dcpt.grid.planned import PlannedRun
from dcpt.study.bases import BaseBeforeDecay, Checkpoint


@dataclass(frozen=True)
class Base:
    """A base that trunks start from.

    Attributes:
        identity: What names it in the identity of a trunk.
        path: Its finished model: a folder, which may be relative to the study, or a hub id.
        n_tokens: Tokens that it was pre-trained on where trunks start; None if not known.
        n_params: Its parameters, about.
        state_tokens: Tokens at which it kept the state that trunks start from; None if they start
            from the finished model.
        needs: Hash of the run that has to train it first, if it is not there already.
    """

    identity: str
    path: str
    n_tokens: int | None
    n_params: float
    state_tokens: int | None = None
    needs: tuple[str, ...] = ()


def base_of_ladder(pretrain: PlannedRun, path: str) -> Base:
    """A base that the study pre-trains itself.

    Args:
        pretrain: The run that trains it.
        path: Its model folder.
    """
    config, recorded = pretrain.config, pretrain.config.recorded
    return Base(
        identity=f"run:{config.identity.hash}",
        path=path,
        n_tokens=recorded.base_n_tokens,
        n_params=pretrain.about_n_params,
        state_tokens=recorded.keep_state_at[0] if recorded.keep_state_at else None,
        needs=(config.identity.hash,),
    )


def base_of_checkpoint(checkpoint: Checkpoint, identity: str, place: str) -> Base:
    """A base that is there already: a checkpoint, or a base of another study.

    Args:
        checkpoint: The base as the study has it.
        identity: Names its weights.
        place: Where it was found.
    """
    found = Base(identity, place, checkpoint.n_tokens, _about_n_params(place))
    if isinstance(checkpoint, BaseBeforeDecay):
        return replace(
            found,
            identity=f"run:{checkpoint.run}",
            path=checkpoint.model,
            state_tokens=checkpoint.n_tokens,
        )
    return found


def _about_n_params(path: str) -> float:
    """Parameters of a checkpoint, about: half the bytes of its weights."""
    from dcpt.training.checkpoints import checkpoint_files

    return sum(file.stat().st_size for file in checkpoint_files(path)) / 2
