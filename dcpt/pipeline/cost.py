"""What the runs of a study would cost, on this machine or on GPUs that need not be there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcpt.grid.estimate import Estimate, estimate_runs, wall_seconds
from dcpt.grid.planned import PlannedRun
from dcpt.pipeline.text_changes import check_text
from dcpt.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from dcpt.grid.machines import Machine
    from dcpt.grid.slots import Slot


@dataclass(frozen=True)
class GridCost:
    """The cost of runs.

    Attributes:
        runs: The cost of each run.
        machine: The GPUs that it is for; None for this machine.
        where: The devices, as the end of a sentence.
        wall_s: Seconds until all runs that are not done would be.
        target_flops: FLOPs of the target run, 6 N D; None if its size is unknown.
    """

    runs: list[Estimate]
    machine: Machine | None
    where: str
    wall_s: float
    target_flops: float | None

    @property
    def left(self) -> list[Estimate]:
        """The runs that are not done."""
        return [run for run in self.runs if not run.done]

    @property
    def target_share(self) -> float | None:
        """FLOPs of all runs, done or not, over those of the target run."""
        if self.target_flops is None:
            return None
        return sum(run.flops for run in self.runs) / self.target_flops


def estimate_study(
    workspace: Workspace, slots: Sequence[Slot], machine: Machine | None = None
) -> GridCost:
    """What every run of the study would cost.

    Args:
        workspace: The study.
        slots: The workers of this machine; not used if a machine is given.
        machine: GPUs that need not be there.

    Raises:
        InputError: If a base fits on no layout of the devices, or settings of the text were changed
            after it was prepared.
    """
    check_text(workspace)
    return estimate_planned(workspace, workspace.planned, slots, machine)


def estimate_planned(
    workspace: Workspace,
    planned: Sequence[PlannedRun],
    slots: Sequence[Slot],
    machine: Machine | None = None,
) -> GridCost:
    """What some runs of the study would cost; see :func:`estimate_study`."""
    from dcpt.grid.prices import TablePrices, TimedPrices

    folder, gpus_per_run = workspace.folder, workspace.study.training.gpus_per_run
    prices = (
        TimedPrices(slots, folder, gpus_per_run)
        if machine is None
        else TablePrices(machine, folder, gpus_per_run)
    )
    runs = estimate_runs(planned, folder, prices)
    return GridCost(
        runs=runs,
        machine=machine,
        where=prices.where,
        wall_s=wall_seconds(planned, runs, prices.n_devices),
        target_flops=_target_flops(workspace, planned, runs),
    )


def _target_flops(
    workspace: Workspace, planned: Sequence[PlannedRun], runs: Sequence[Estimate]
) -> float | None:
    section = workspace.study.target
    if section is None:
        return None
    sizes = {
        run.config.recorded.size: estimate.n_params
        for run, estimate in zip(planned, runs, strict=True)
    }
    n_params = section.n_params or sizes.get(section.base or "")
    if n_params is None and section.base in workspace.study.bases.checkpoints:
        from dcpt.training.checkpoints import locate_checkpoint
        from dcpt.training.memory import count_from_config
        from dcpt.training.models import build_shape

        model = workspace.study.bases.checkpoints[section.base].model
        shape = build_shape(locate_checkpoint(model, workspace.folder.path))
        n_params = count_from_config(shape.config)
    return None if n_params is None else 6.0 * n_params * section.tokens
