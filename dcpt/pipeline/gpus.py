"""How many devices each run of a study trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dcpt.grid.planned import PlannedRun, unfinished
from dcpt.grid.slots import SHARED_PARAMS, Slot

if TYPE_CHECKING:
    from dcpt.pipeline.workspace import Workspace


def spread_runs(
    workspace: Workspace, planned: Sequence[PlannedRun], slots: Sequence[Slot]
) -> list[PlannedRun]:
    """Set the number of devices of planned runs.

    It is ``training.gpus_per_run``, or on GPUs as few as hold the run's base by the estimate of
    the memory.

    Args:
        workspace: The study.
        planned: The runs.
        slots: The workers of one device each.

    Raises:
        InputError: If a base does not fit on all GPUs together.
    """
    given = workspace.study.training.gpus_per_run
    if given is not None:
        return [replace(run, n_devices=given) for run in planned]
    gpus = {slot.device for slot in slots if slot.is_accelerator}
    large = [run for run in planned if run.about_n_params > SHARED_PARAMS]
    if not gpus or not large:
        return list(planned)
    sizes = {run.config.recorded.size for run in unfinished(large, workspace.folder)}
    fewest = {size: _fewest_gpus(workspace, size, gpus) for size in sorted(sizes)}
    return [replace(run, n_devices=fewest.get(run.config.recorded.size, 1)) for run in planned]


def _fewest_gpus(workspace: Workspace, size: str, gpus: set[str]) -> int:
    """GPUs that runs of a size need."""
    import torch

    from dcpt.training.memory import fewest_gpus
    from dcpt.training.models import shape_of

    # The shape of a base that the study trains itself is that of its pre-training run.
    config = next(
        run.config
        for run in workspace.planned
        if run.config.recorded.size == size and not run.config.identity.base.startswith("run:")
    )
    shape = shape_of(config, workspace.folder.path)
    n_bytes = min(torch.cuda.get_device_properties(gpu).total_memory for gpu in gpus)
    return fewest_gpus(config, shape, n_bytes, len(gpus))
