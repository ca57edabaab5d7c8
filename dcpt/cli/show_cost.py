"""The output of ``--dry-run``: the layout and the cost of every run, and of all together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dcpt.cli.console import make_table, print_line
from dcpt.errors import InputError
from dcpt.quantities import count_things, format_count, format_percent, format_seconds

if TYPE_CHECKING:
    from dcpt.grid.estimate import Estimate
    from dcpt.grid.machines import Machine
    from dcpt.pipeline.cost import GridCost


def read_machine(on: str | None, *, dry_run: bool, workers: int | None) -> Machine | None:
    """The GPUs that ``--on`` names; None without it.

    Raises:
        InputError: If they are unknown, or the other options do not go with it.
    """
    if on is None:
        return None
    if not dry_run:
        raise InputError("--on prices runs on GPUs that need not be here; add --dry-run")
    if workers is not None:
        raise InputError("--workers counts processes of this machine; remove it or --on")
    from dcpt.grid.machines import parse_machine

    return parse_machine(on)


def show_cost(console: Console, cost: GridCost) -> None:
    """Print the estimated layout and cost of every run, and the cost of all."""
    console.print(cost_table(cost))
    for line in cost_words(cost):
        print_line(console, line)


def cost_record(cost: GridCost) -> dict[str, Any]:
    """The cost of every run and of all together, for programs."""
    left = cost.left
    return {
        "runs": [vars(run) for run in cost.runs],
        "total": {
            "n_runs": len(cost.runs),
            "n_done": len(cost.runs) - len(left),
            "left_n_tokens": sum(run.n_tokens for run in left),
            "left_flops": sum(run.flops for run in left),
            "left_disk_bytes": sum(run.disk_bytes for run in left),
            "left_gpu_hours": gpu_hours(left),
            "wall_s": cost.wall_s,
            "flops": sum(run.flops for run in cost.runs),
            "target_flops": cost.target_flops,
            "target_share": cost.target_share,
        },
    }


def gpu_hours(runs: Sequence[Estimate]) -> float | None:
    """GPU-hours of runs; None if none of them is on a GPU."""
    on_gpus = [run.device_seconds for run in runs if run.n_gpus]
    return sum(on_gpus) / 3600 if on_gpus else None


def cost_table(cost: GridCost) -> Table:
    """The estimated layout and cost of every run."""
    on_gpus = any(run.n_gpus for run in cost.runs)
    rows = [
        (
            run.name,
            format_count(run.n_params),
            format_count(run.n_tokens),
            f"{run.flops:.2e}",
            _format_bytes(run.disk_bytes),
            *(_layout(run) if on_gpus else ()),
            "done" if run.done else _format_time(run),
        )
        for run in cost.runs
    ]
    layout = ("GPUs", "micro-batch", "GiB") if on_gpus else ()
    columns = ("run", "parameters", "tokens", "FLOPs", "disk", *layout, "time")
    return make_table("", columns, rows)


def cost_words(cost: GridCost) -> list[str]:
    """The cost of all runs, and what it rests on, a sentence each."""
    left = cost.left
    hours = gpu_hours(left)
    lines = [
        f"{count_things(len(cost.runs), 'run')}, {len(cost.runs) - len(left)} done; left: "
        f"{format_count(sum(run.n_tokens for run in left))} tokens, "
        f"{sum(run.flops for run in left):.2e} FLOPs, "
        f"{_format_bytes(sum(run.disk_bytes for run in left))} of disk, "
        + (f"{hours:.3g} GPU-hours, " if hours else "")
        + f"about {format_seconds(cost.wall_s)} {cost.where}"
    ]
    if cost.target_share is not None:
        lines.append(
            f"all runs together cost {100 * cost.target_share:.3g} % of the target run's "
            f"FLOPs ({cost.target_flops:.2e})"
        )
    if any(run.activation_checkpointing for run in cost.runs):
        lines.append("* layers are computed again in the backward pass, to save memory")
    return lines + _sources(cost)


def _sources(cost: GridCost) -> list[str]:
    """Where the speeds come from, if not all were timed."""
    beyond = {run.n_params for run in cost.left if run.source == "extrapolated"}
    sizes = ", ".join(format_count(n_params) for n_params in sorted(beyond))
    if cost.machine is None:
        return [f"~ not timed, but taken from other speeds: {sizes}"] if beyond else []
    lines = [
        "speeds are those of dcpt/grid/speeds.csv, measured in bfloat16; compilation and waiting "
        "are not counted"
    ]
    if beyond:
        used = sorted({round(cost.machine.utilization(n), 2) for n in beyond})
        shares = format_percent(used[0])
        if len(used) > 1:
            shares += f" to {format_percent(used[-1])}"
        lines.append(
            f"~ not measured on this GPU: {sizes}; taken from others at {shares} of its "
            f"{cost.machine.gpu.flops / 1e12:g} TFLOP/s (6 N per token), a fourth less where "
            "layers are computed again"
        )
    return lines


def _layout(run: Estimate) -> tuple[str, str, str]:
    mark = "*" if run.activation_checkpointing else ""
    memory = "" if run.memory_bytes is None else f"{run.memory_bytes / 2**30:.1f}"
    return f"{run.n_gpus}", f"{run.micro_batch_sequences}{mark}", memory


def _format_time(run: Estimate) -> str:
    mark = "~" if run.source == "extrapolated" else ""
    return mark + format_seconds(run.seconds)


def _format_bytes(n_bytes: float) -> str:
    unit, size = ("MB", 1e6) if n_bytes < 1e9 else ("GB", 1e9)
    return f"{n_bytes / size:.3g} {unit}"
