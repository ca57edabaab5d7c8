"""How long runs occupy a job, so that short ones can share it."""

from __future__ import annotations

from collections.abc import Sequence

from dcpt.grid.estimate import Prices, estimate_runs
from dcpt.grid.machines import Machine
from dcpt.grid.planned import PlannedRun
from dcpt.grid.slots import GPU_LANES, Slot
from dcpt.study.engine import SlurmSection
from dcpt.study.folder import StudyFolder


def job_slots(section: SlurmSection) -> list[Slot]:
    """The places for runs in a job."""
    if section.gpus_per_node:
        return [Slot((f"cuda:{i}",), lanes=GPU_LANES) for i in range(section.gpus_per_node)]
    return [Slot() for _ in range(section.cpus_per_task)]


def machine_of(section: SlurmSection) -> Machine | None:
    """The GPUs of all jobs that may run at the same time; None for jobs without GPUs."""
    n_gpus = section.gpus_per_node * section.parallel_jobs
    return Machine(section.gpu, n_gpus) if n_gpus else None


def occupied_seconds(
    planned: Sequence[PlannedRun], section: SlurmSection, folder: StudyFolder
) -> dict[str, float]:
    """Seconds that each run occupies a job, by name.

    On GPUs by the table of measured speeds, else by a few timed steps on this machine. A run on
    some of a job's devices occupies that share of the job.

    Raises:
        InputError: If a base fits on no layout of the devices.
    """
    from dcpt.grid.prices import TablePrices, TimedPrices

    slots = job_slots(section)
    prices: Prices = (
        TablePrices(Machine(section.gpu, section.gpus_per_node), folder, None)
        if section.gpus_per_node
        else TimedPrices(slots, folder, None)
    )
    runs = estimate_runs(planned, folder, prices)
    return {run.name: run.device_seconds / len(slots) for run in runs}
