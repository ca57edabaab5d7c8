"""How many devices each run of a study trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dcpt.engines.choose import gpus_of
from dcpt.grid.planned import PlannedRun, unfinished
from dcpt.grid.slots import SHARED_PARAMS, Slot
from dcpt.study.engine import EngineSection

if TYPE_CHECKING:
    from dcpt.pipeline.workspace import Workspace


def spread_runs(
    workspace: Workspace,
    planned: Sequence[PlannedRun],
    slots: Sequence[Slot],
    engine: EngineSection,
) -> list[PlannedRun]:
    """Set the number of devices of planned runs.

    It is ``training.gpus_per_run``, or on GPUs as few as hold the run's base by the estimate of
    the memory.

    Args:
        workspace: The study.
        planned: The runs.
        slots: The workers of one device each.
        engine: Where they train.

    Raises:
        InputError: If a base does not fit on all GPUs together.
    """
    given = workspace.study.training.gpus_per_run
    if given is not None:
        return [replace(run, n_devices=given) for run in planned]
    n_gpus, n_bytes = _gpus_of_a_run(slots, engine)
    large = [run for run in planned if run.about_n_params > SHARED_PARAMS]
    if not n_gpus or not large:
        return list(planned)
    sizes = {run.config.recorded.size for run in unfinished(large, workspace.folder)}
    fewest = {size: _fewest_gpus(workspace, size, n_gpus, n_bytes) for size in sorted(sizes)}
    return [replace(run, n_devices=fewest.get(run.config.recorded.size, 1)) for run in planned]


def _gpus_of_a_run(slots: Sequence[Slot], engine: EngineSection) -> tuple[int, int]:
    """Most GPUs that a run can take, and the bytes of the smallest; 0 and 0 on the CPU."""
    gpus = {slot.device for slot in slots if slot.is_accelerator}
    if not gpus:
        return 0, 0
    machine = gpus_of(engine)
    if machine is not None:
        return len(gpus), machine.gpu.n_bytes
    import torch

    return len(gpus), min(torch.cuda.get_device_properties(gpu).total_memory for gpu in gpus)


def _fewest_gpus(workspace: Workspace, size: str, n_gpus: int, n_bytes: int) -> int:
    """GPUs that runs of a size need."""
    from dcpt.training.bases import shape_of
    from dcpt.training.passes import fewest_gpus

    # A base that the study trains itself comes before its trunks, whose shape is then not known.
    config = next(run.config for run in workspace.planned if run.config.recorded.size == size)
    shape = shape_of(config, workspace.folder.path)
    return fewest_gpus(config, shape, n_bytes, n_gpus)
