"""Estimated cost of a grid before training: tokens, FLOPs, disk and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dcpt.grid.planned import PlannedRun, unfinished
from dcpt.grid.slots import Slot
from dcpt.study.folder import StudyFolder

_STATE_FACTOR = 3  # weights and two moments, fp32
_BYTES = 4


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of a planned run.

    Args:
        name: Name of the run.
        n_params: All parameters of the model.
        n_tokens: Tokens that it trains.
        flops: 6 N per trained token and 2 N per evaluated token, where N counts all parameters
            (Kaplan et al. 2001.08361).
        disk_bytes: Bytes of kept states and the saved model.
        seconds: Training and evaluation on a slot, from a few timed steps of its size.
        done: Whether the run is finished.
    """

    name: str
    n_params: int
    n_tokens: int
    flops: float
    disk_bytes: int
    seconds: float
    done: bool


def estimate_runs(planned: Sequence[PlannedRun], folder: StudyFolder, slot: Slot) -> list[Estimate]:
    """Estimate every planned run by timing a few steps of each size on this machine.

    Args:
        planned: The plan.
        folder: The study; its texts must be prepared.
        slot: The device to time on.
    """
    import torch

    from dcpt.training.timing import Timing, time_steps

    torch.set_num_threads(slot.threads)
    left = {run.config.identity.hash for run in unfinished(planned, folder)}
    timings: dict[str, Timing] = {}
    estimates = []
    for run in planned:
        identity, recorded = run.config.identity, run.config.recorded
        if not timings:  # the first call includes the start of torch
            time_steps(run.config, folder.path, device=slot.device)
        ready_s = 0.0
        if recorded.size not in timings:
            timings[recorded.size] = time_steps(
                run.config,
                folder.path,
                device=slot.device,
                lanes=slot.lanes_for(run.about_n_params),
            )
            ready_s = timings[recorded.size].compile_s  # once for all runs of a size
        timing = timings[recorded.size]
        trained = run.trained_tokens
        n_points = len(recorded.evaluation_at) + (identity.kind == "trunk")
        evaluated = n_points * identity.validation_tokens * len(identity.channels)
        states = len(recorded.keep_state_at) * _STATE_FACTOR + recorded.save_model
        estimates.append(
            Estimate(
                name=run.config.name,
                n_params=timing.n_params,
                n_tokens=trained,
                flops=timing.n_params * (6.0 * trained + 2.0 * evaluated),
                disk_bytes=states * timing.n_params * _BYTES,
                seconds=trained / timing.tokens_per_s + n_points * timing.evaluation_s + ready_s,
                done=identity.hash not in left,
            )
        )
    return estimates
