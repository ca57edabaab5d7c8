"""What comes before the first step of a run: its state, its remaining work, its text."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from dcpt.atomic_files import DamagedFileError, set_aside
from dcpt.runs.identity import RunConfig
from dcpt.training.bases import base_state, load_base, shape_of
from dcpt.training.data import RunData
from dcpt.training.forward import Losses, forward_of
from dcpt.training.sharded.divided import ReplicatedForward
from dcpt.training.sharded.layout import fits_whole
from dcpt.training.sharded.load import load_sharded
from dcpt.training.sharded.ranks import Ranks
from dcpt.training.state import TrainingState, load_state, start_state
from dcpt.training.watch import TrainingError
from dcpt.training.work import Work, find_work


def load_start(
    config: RunConfig, study: Path, device: str, data: RunData, ranks: Ranks
) -> TrainingState:
    """The state at D = 0; over several devices each holds a part of it where it is too large."""
    identity, border_id = config.identity, data.validation.border_id
    if ranks.count == 1:
        return start_state(load_base(config, study, device), identity, border_id)
    forward: Losses
    shape = shape_of(config, study)
    if not ranks.always_shards and ranks.decide(
        lambda: fits_whole(config, shape, device, ranks.count)
    ):
        model = load_base(config, study, device)
        forward = ReplicatedForward(forward_of(model, identity.dtype, border_id), ranks)
    else:
        model, forward = load_sharded(config, study, ranks, device, border_id)
    return start_state(model, identity, forward=forward, ranks=ranks)


def check_same_batches(config: RunConfig, data: RunData, work: Work, ranks: Ranks) -> None:
    """Compare the first and the last batch of the processes of a run.

    Raises:
        TrainingError: If they differ, so the processes do not read the same text.
    """
    if ranks.count == 1:
        return
    digest = hashlib.sha256(config.identity.hash.encode())
    for step in (0, work.end - 1):
        digest.update(data.mixture.batch(step).tokens.tobytes())
    digests = ranks.gather(digest.hexdigest())
    others = [index for index, other in enumerate(digests) if other != digests[0]]
    if others:
        raise TrainingError(
            f"run {config.name}: process {others[0]} of {ranks.count} reads other batches than "
            "process 0; make the same prepared text visible to all, and rerun",
            "input",
        )


def begin(config: RunConfig, study: Path, state: TrainingState) -> tuple[Work, list[str]]:
    """Find the remaining work and load the state that it starts from.

    A damaged state is set aside, and training starts from the state before it.

    Returns:
        The work, and a sentence for each state that was set aside.
    """
    notes: list[str] = []
    while True:
        try:
            work, start = state.ranks.decide(lambda: _find_start(config, study))
            if start is not None:
                load_state(start, state, config.identity)
        except DamagedFileError as damaged:
            state.ranks.decide(partial(set_aside, damaged.path))
            notes.append(str(damaged))
        else:
            return work, notes


def _find_start(config: RunConfig, study: Path) -> tuple[Work, Path | None]:
    """The remaining work, and the state that it starts from; None is the base."""
    work = find_work(config, study / "runs")
    return work, work.start or base_state(config, study)
