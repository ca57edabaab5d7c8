"""Choose the engine of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from dcpt.engines.engine import Engine, Say, Tick
from dcpt.errors import InputError, did_you_mean
from dcpt.grid.machines import Machine
from dcpt.grid.slots import GPU_LANES, Slot, choose_slots
from dcpt.study.engine import EngineSection, Kind, RaySection
from dcpt.study.folder import StudyFolder


def override_kind(section: EngineSection, kind: str | None) -> EngineSection:
    """The section with another kind of engine; None keeps that of the study.

    Raises:
        InputError: If there is no such engine.
    """
    if kind is None:
        return section
    kinds = get_args(Kind)
    if kind not in kinds:
        raise InputError(
            f"--engine {kind}: there is no such engine; name one of {', '.join(kinds)}"
            + did_you_mean(kind, kinds)
        )
    return EngineSection.model_validate({**section.model_dump(), "kind": kind})


def slots_of(section: EngineSection, workers: int | None) -> list[Slot]:
    """The places where runs train at the same time, as the views and the prices count them."""
    from dcpt.engines.slurm.times import job_slots

    if section.kind == "slurm":
        return job_slots(section.slurm) * section.slurm.parallel_jobs
    if section.kind == "ray":
        return ray_slots(section.ray)
    return choose_slots(workers)


def gpus_of(section: EngineSection) -> Machine | None:
    """The GPUs that the engine takes elsewhere; None for this machine and for jobs on the CPU."""
    from dcpt.engines.slurm.times import machine_of

    if section.kind == "ray" and section.ray.gpus_per_node:
        return Machine(section.ray.gpu, section.ray.nodes * section.ray.gpus_per_node)
    return machine_of(section.slurm) if section.kind == "slurm" else None


def ray_slots(section: RaySection) -> list[Slot]:
    """The places for runs in a Ray cluster; each GPU of all its nodes has a name of its own."""
    if section.gpus_per_node:
        n_gpus = section.nodes * section.gpus_per_node
        return [Slot((f"cuda:{index}",), lanes=GPU_LANES) for index in range(n_gpus)]
    return [Slot()] * (section.nodes * section.cpus_per_node)


def open_engine(
    section: EngineSection,
    folder: StudyFolder,
    slots: Sequence[Slot],
    on_tick: Tick | None = None,
    say: Say | None = None,
) -> Engine:
    """Open the engine that a study asks for.

    Args:
        section: The study's section ``engine``.
        folder: The study.
        slots: From :func:`slots_of`.
        on_tick: See :data:`Tick`.
        say: See :data:`Say`; None keeps silent.

    Raises:
        InputError: If its package is missing.
    """
    if section.kind == "slurm":
        from dcpt.engines.slurm.engine import SlurmEngine
        from dcpt.engines.slurm.submit import Submitter

        return SlurmEngine(Submitter(folder, section.slurm), on_tick=on_tick, say=say)
    if section.kind == "ray":
        from dcpt.engines.ray.cluster import check_installed
        from dcpt.engines.ray.engine import RayEngine

        check_installed()
        return RayEngine(folder, section.ray, slots, on_tick, say)
    from dcpt.grid.local import LocalEngine

    return LocalEngine(folder, slots, on_tick)
