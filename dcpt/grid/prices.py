"""What runs of a size cost: on GPUs by the table of measured speeds, here by a few timed steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dcpt.errors import InputError
from dcpt.grid.estimate import Layout, Price, Prices
from dcpt.grid.machines import GPUS, Machine
from dcpt.grid.planned import PlannedRun
from dcpt.grid.slots import GPU_LANES, SHARED_PARAMS, Slot
from dcpt.quantities import format_count
from dcpt.runs.identity import RunConfig
from dcpt.study.folder import StudyFolder

EVALUATION_SPEED = 3.0
"""A forward pass computes a third of what a training step does."""

RECOMPUTED_SPEED = 0.75
"""Layers that are computed again add a third of the FLOPs of a step."""

CORE_FLOPS = 5e10
"""FLOP/s of a core: a 29M model trains 16,000 tokens in about a minute."""

LONGEST_STEP_S = 60.0
"""Sizes whose step takes longer on the CPU are not timed."""

STATE_BYTES = 16
"""Bytes per parameter of weights, gradients and two moments in float32."""


class TablePrices(Prices):
    """Prices on GPUs that need not be there, from ``speeds.csv``.

    Args:
        machine: The GPUs.
        folder: The study.
        gpus_per_run: GPUs of each run; None takes as few as hold its base.
    """

    def __init__(self, machine: Machine, folder: StudyFolder, gpus_per_run: int | None) -> None:
        self.machine, self.folder, self.gpus_per_run = machine, folder, gpus_per_run
        self.n_devices = machine.n_gpus
        if gpus_per_run is not None and gpus_per_run > machine.n_gpus:
            raise InputError(
                f"training.gpus_per_run is {gpus_per_run}, and there are {machine.n_gpus} GPUs; "
                "lower it, or name more GPUs"
            )

    @property
    def where(self) -> str:
        """The GPUs."""
        return f"with {self.machine}"

    def price(self, run: PlannedRun) -> Price:
        """The price of a size, by the speed in the table and the estimate of the memory."""
        from dcpt.training.bases import shape_of
        from dcpt.training.memory import count_from_config

        shape = shape_of(run.config, self.folder.path)
        n_params = count_from_config(shape)
        layout, speed = self._lay_out(run, shape), self.machine.tokens_per_s(n_params)
        is_measured = self.machine.is_measured(n_params)
        if layout.activation_checkpointing and not is_measured:
            speed *= RECOMPUTED_SPEED
        return Price(
            n_params=n_params,
            tokens_per_s=speed,
            evaluated_per_s=EVALUATION_SPEED * speed,
            ready_s=0.0,
            layout=layout,
            source="measured" if is_measured else "extrapolated",
        )

    def _lay_out(self, run: PlannedRun, shape: Any) -> Layout:
        from dcpt.training.passes import USABLE

        n_bytes = self.machine.gpu.n_bytes
        n_gpus = self.gpus_per_run or count_gpus(run, shape, n_bytes, self.machine.n_gpus)
        layout = lay_out(run.config, shape, n_bytes, n_gpus)
        assert layout.memory_bytes is not None
        if layout.memory_bytes > USABLE * n_bytes:
            raise InputError(
                f"size {run.config.recorded.size}: a run needs about "
                f"{layout.memory_bytes / 2**30:.0f} GiB on each of its {n_gpus} GPUs, which have "
                f"{n_bytes / 2**30:.0f} GiB; raise training.gpus_per_run, or lower "
                "training.micro_batch_sequences"
            )
        return layout


def lay_out(config: RunConfig, shape: Any, n_bytes: int, n_gpus: int) -> Layout:
    """Choose how a run uses its GPUs, as training does.

    Args:
        config: The run.
        shape: Configuration of its model (of ``transformers``).
        n_bytes: Memory of a GPU.
        n_gpus: GPUs of the run.
    """
    from dcpt.training.memory import count_from_config
    from dcpt.training.passes import (
        choose_passes,
        is_held_whole,
        memory_of_layout,
        sequences_per_pass,
    )

    lanes = Slot(lanes=GPU_LANES).lanes_for(count_from_config(shape)) if n_gpus == 1 else 1
    n_bytes //= lanes  # runs side by side share the memory
    fitted = choose_passes(config, shape, n_bytes, n_gpus)
    micro = sequences_per_pass(fitted, n_gpus)
    checkpointing = bool(fitted.recorded.activation_checkpointing)
    sharing = 1 if is_held_whole(fitted, shape, n_bytes, n_gpus) else n_gpus
    held = memory_of_layout(fitted, shape, n_gpus, shared_by=sharing)
    return Layout(n_gpus, micro, checkpointing, held.n_bytes)


class TimedPrices(Prices):
    """Prices on this machine, from a few timed steps of each size that it can train.

    Runs over several GPUs are not timed: their price is that of the table.

    Args:
        slots: The workers.
        folder: The study.
        gpus_per_run: GPUs of each run; None takes as few as hold its base.
    """

    def __init__(
        self, slots: Sequence[Slot], folder: StudyFolder, gpus_per_run: int | None
    ) -> None:
        self.slot, self.folder, self.gpus_per_run = slots[0], folder, gpus_per_run
        self.n_devices = len(slots)
        self.flops: float | None = None  # per second, of the largest size that was timed

    @property
    def where(self) -> str:
        """The workers."""
        return f"with {self.n_devices} workers on this machine"

    def price(self, run: PlannedRun) -> Price:
        """The price of a size, from timed steps where they take no minutes."""
        from dcpt.training.bases import shape_of
        from dcpt.training.memory import count_from_config

        shape = shape_of(run.config, self.folder.path)
        if self.slot.is_accelerator:
            import torch

            n_bytes = torch.cuda.get_device_properties(self.slot.device).total_memory
            n_gpus = self.gpus_per_run or count_gpus(run, shape, n_bytes, self.n_devices)
            if n_gpus > 1:
                table = TablePrices(self._machine(run), self.folder, n_gpus)
                return replace(table.price(run), source="extrapolated")
            return self._time(run, lay_out(run.config, shape, n_bytes, 1))
        n_params = count_from_config(shape)
        layout = Layout(0, run.config.micro_batch_sequences, False)
        flops = self.flops or CORE_FLOPS * self.slot.threads
        if 6.0 * n_params * run.config.identity.batch_tokens > LONGEST_STEP_S * flops:
            speed = flops / (6.0 * n_params)
            return Price(n_params, speed, EVALUATION_SPEED * speed, 0.0, layout, "extrapolated")
        return self._time(run, layout)

    def check(self, run: PlannedRun) -> None:
        """Refuse what this machine is not priced for, and a state larger than its memory."""
        from dcpt.training.bases import shape_of
        from dcpt.training.memory import count_from_config

        if self.slot.is_accelerator:
            return
        if (self.gpus_per_run or 1) > 1:
            raise InputError(
                f"training.gpus_per_run is {self.gpus_per_run}, and this machine has no GPU: runs "
                "over several processes of a CPU are for tests and are not priced; price them on "
                "GPUs with --dry-run --on h100:8, or remove gpus_per_run"
            )
        n_params = count_from_config(shape_of(run.config, self.folder.path))
        needs, there = STATE_BYTES * n_params, memory_bytes()
        if there is not None and needs > there:
            raise InputError(
                f"size {run.config.recorded.size}: weights, gradients and moments of "
                f"{format_count(n_params)} parameters take {needs / 2**30:.0f} GiB, and this "
                f"machine has {there / 2**30:.0f} GiB; price the runs on GPUs with --dry-run --on "
                "h100:8, or choose a smaller base"
            )

    def _time(self, run: PlannedRun, layout: Layout) -> Price:
        import torch

        from dcpt.training.timing import time_steps

        torch.set_num_threads(self.slot.threads)
        device, identity = self.slot.device, run.config.identity
        if self.flops is None:  # the first call includes the start of torch
            time_steps(run.config, self.folder.path, device=device)
        lanes = self.slot.lanes_for(run.about_n_params)
        timing = time_steps(run.config, self.folder.path, device=device, lanes=lanes)
        self.flops = 6.0 * timing.n_params * timing.tokens_per_s
        evaluated = identity.validation_tokens * len(identity.channels)
        return Price(
            n_params=timing.n_params,
            tokens_per_s=timing.tokens_per_s,
            evaluated_per_s=evaluated / timing.evaluation_s,
            ready_s=timing.compile_s,
            layout=layout,
            source="timed",
        )

    def _machine(self, run: PlannedRun) -> Machine:
        """The GPUs of this machine, as in the table."""
        import torch

        name = torch.cuda.get_device_name(self.slot.device)
        known = next((gpu for gpu in GPUS if gpu in name.lower()), None)
        if known is None:
            raise InputError(
                f"size {run.config.recorded.size}: its runs train over several GPUs, and no speed "
                f"is known of {name}; name a known GPU, such as --on h100:{self.n_devices}"
            )
        return Machine(known, self.n_devices)


def count_gpus(run: PlannedRun, shape: Any, n_bytes: int, most: int) -> int:
    """Number of GPUs of a run whose study does not set it: as few as hold its base.

    Args:
        run: The run.
        shape: Configuration of its model (of ``transformers``).
        n_bytes: Memory of a GPU.
        most: GPUs there are.

    Raises:
        InputError: If not even all of them are enough.
    """
    from dcpt.training.passes import fewest_gpus

    # Runs of small bases share a GPU, so none takes several.
    return fewest_gpus(
        run.config, shape, n_bytes, most if run.about_n_params > SHARED_PARAMS else 1
    )


def memory_bytes() -> int | None:
    """Memory of this machine; None where it is unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
