"""Which worker trains which run.

A grid ends with its longest chain of runs (base, trunk, branch) or when all work is done, whichever
is later. So runs with the longest chain behind them start first, each on the worker with the least
work left, and a run does not share its device if the runs that wait for it would then end after the
others. When a worker has nothing to do and no run is ready, it takes over a run in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import RunQueue
from dcpt.grid.slots import SHARED_PARAMS, Slot
from dcpt.grid.speeds import speed_on_h100

COMPILE_S = 5.0
"""Seconds that a worker on an accelerator needs before the first step of a size that it has not
trained yet: an estimate for a warm compile cache. With a cold one an H100 took 12 to 23 s
(``experiments/benchmarks/train.md``)."""

MOVE_S = 5.0
"""Seconds to save a run in training and to go on with it in another worker: an estimate."""


@dataclass(kw_only=True, eq=False)
class Place:
    """A worker as the assignment sees it.

    Attributes:
        slot: Its devices and lanes.
        busy_with: The runs that it trains, by name.
        sizes: Approximate parameters of the models that it has trained, which are compiled.
    """

    slot: Slot
    busy_with: dict[str, PlannedRun] = field(default_factory=dict)
    sizes: set[float] = field(default_factory=set)


P = TypeVar("P", bound=Place)


def seconds_left(queue: RunQueue, place: Place) -> float:
    """Seconds that the runs of a worker still take."""
    return sum(queue.seconds_left(run) for run in place.busy_with.values())


def has_room_for(place: Place, run: PlannedRun) -> bool:
    """Whether the run may start in a worker side by side with the runs in training."""
    if len(place.slot.devices) != run.n_devices:
        return False
    largest = max(other.about_n_params for other in [run, *place.busy_with.values()])
    return len(place.busy_with) < place.slot.lanes_for(largest)


def choose_place(run: PlannedRun, queue: RunQueue, places: Sequence[P], all_s: float) -> P | None:
    """Choose the worker for a run that is ready, None if it has to wait.

    Args:
        run: The run.
        queue: The runs of the call.
        places: The workers.
        all_s: The queue's ``all_seconds_left``, the same for all runs that are ready.
    """
    per_worker = all_s / len(places)
    fit = [
        place
        for place in places
        if has_room_for(place, run)
        and not (place.busy_with and run.name in queue.alone)
        and not queue.alone & place.busy_with.keys()
        and not any(
            queue.earliest_end(other, len(places))
            + _delay_s(other, run, queue)
            + _compile_seconds(run, place)
            > per_worker
            for other in place.busy_with.values()
        )
    ]
    return min(fit, key=lambda place: _seconds_until_end(run, queue, place), default=None)


def choose_group(run: PlannedRun, queue: RunQueue, places: Sequence[P]) -> list[P]:
    """Choose the workers whose devices a run over several devices takes together.

    Returns:
        The workers of one device with the least work left, each of another GPU; empty if there are
        too few. While one of them still trains, they should take no other runs.
    """
    single = [place for place in places if len(place.slot.devices) == 1]
    single.sort(key=lambda place: seconds_left(queue, place))
    # NCCL refuses two processes on a GPU, which --workers 4 on two GPUs would give.
    group, taken = [], set()
    for place in single:
        device = place.slot.device
        if not place.slot.is_accelerator or device not in taken:
            taken.add(device)
            group.append(place)
    return group[: run.n_devices] if len(group) >= run.n_devices else []


def choose_move(queue: RunQueue, places: Sequence[P]) -> tuple[PlannedRun, P] | None:
    """Choose a run in training that should move to a worker that has none.

    Returns:
        The run and the worker that trains it; None if no move ends the work of these two workers
        sooner by more than it costs.
    """
    places = [place for place in places if len(place.slot.devices) == 1]
    idle = [place for place in places if not place.busy_with]
    best: tuple[PlannedRun, P] | None = None
    gain = MOVE_S
    for place in places:
        if len(place.busy_with) < 2:
            continue
        before = seconds_left(queue, place)
        for run in place.busy_with.values():
            takes = queue.seconds_left(run)
            for other in idle:
                starts = MOVE_S + _compile_seconds(run, other)
                after = max(before - takes, starts + takes)
                if before - after > gain:
                    best, gain = (run, place), before - after
    return best


def choose_to_compile(queue: RunQueue, place: Place) -> PlannedRun | None:
    """Choose a run whose model an idle worker compiles ahead of need; None if there is none.

    A worker that compiles while it trains lets its other runs wait.
    """
    is_idle = place.slot.is_accelerator and len(place.slot.devices) == 1 and not place.busy_with
    small = (
        run
        for run in queue.to_come()
        if run.about_n_params not in place.sizes and 2 * run.about_n_params <= SHARED_PARAMS
    )
    return next(small, None) if is_idle else None


def _delay_s(run: PlannedRun, added: PlannedRun, queue: RunQueue) -> float:
    """Seconds by which a run ends later if another shares its worker, a step of each in turn."""
    steps = speed_on_h100(run.about_n_params) / speed_on_h100(added.about_n_params)
    return min(queue.seconds_left(added), queue.seconds_left(run) * steps)


def _seconds_until_end(run: PlannedRun, queue: RunQueue, place: Place) -> float:
    # While a size is compiled, the other runs of the process stand still.
    compiles = _compile_seconds(run, place) * (1 + len(place.busy_with))
    return seconds_left(queue, place) + compiles


def _compile_seconds(run: PlannedRun, place: Place) -> float:
    is_compiled = run.about_n_params in place.sizes or not place.slot.is_accelerator
    return 0.0 if is_compiled else COMPILE_S
