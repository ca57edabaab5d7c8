"""How busy does the assignment of runs keep the GPUs of a grid?

Discrete events: the engine's own queue and assignment, with workers that train at the measured
speeds of an H100 (``dcpt/grid/speeds.py``, ``train.md``). A worker that starts a run trains nothing
for START_S, and for COMPILE_S more if it has not trained that size yet; a worker whose run is
moved away stops for half of MOVE_S. A run alone on its GPU trains 13 % slower at
1.8M and 6 % slower at 91M than three side by side, as measured.

Occupancy: tokens over the measured three-lane speed of their size, over GPUs x time after the first
step. No schedule ends before all work is done at full speed, or before a base is trained alone on a
GPU and then the longest chain behind it, or all runs behind it on all GPUs. The column "of bound"
is the time of that bound over the simulated time; "idle" is the share of the time in which the
worker with the least to do had no run.

"before": runs with most parameters x tokens first, each to the worker with the fewest runs; a
branch waits for the end of its trunk; no run moves.

    python experiments/benchmarks/grid_occupancy.py              # the grid of 108 runs; seconds
    python experiments/benchmarks/grid_occupancy.py --random 3000  # and random grids; 15 minutes

Result in ``grid_occupancy.md``.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpt.grid.assign import COMPILE_S, MOVE_S, Place, choose_move, choose_place, choose_to_compile
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import RunQueue, chain_seconds, seconds_behind
from dcpt.grid.slots import GPU_LANES, Slot
from dcpt.grid.speeds import speed_on_h100
from dcpt.runs.identity import ChannelIdentity, Decay, Identity, Recorded, RunConfig
from dcpt.study.folder import StudyFolder

BATCH = 32 * 512
START_S = 0.5
EVALUATED = 2 * 196_608 / 3
"""Tokens of a training step that take as long as an evaluation of two channels."""
SIZES = (1.8e6, 6.6e6, 29e6, 91e6)


CHANNELS = (
    ChannelIdentity(name="en", side="general", weight=1, train_sha256="a", valid_sha256="b"),
    ChannelIdentity(name="law", side="domain", weight=1, train_sha256="a", valid_sha256="b"),
)
IDENTITY = Identity(
    kind="trunk",
    base="weights:00",
    tokenizer_sha256="c",
    channels=CHANNELS,
    ratio=0.5,
    learning_rate=1e-3,
    warmup_tokens=0,
    batch_sequences=32,
    sequence_tokens=512,
    validation_tokens=196_608,
    seed=0,
)


@dataclass(kw_only=True, eq=False)
class SimulatedWorker(Place):
    """A worker that trains nothing until ``blocked_until``."""

    blocked_until: float = 0.0


def slowdown(n_params: float, n_runs: int) -> float:
    """Time of a step with fewer runs side by side, over that with three."""
    alone = 1.15 if n_params < 4e6 else 1.09 if n_params < 15e6 else 1.07
    return {1: alone, 2: 1.015}.get(n_runs, 1.0)


def grid_of_108() -> list[PlannedRun]:
    """The grid of ``occupancy.yaml``: 1.8M, 6.6M and 29M, two branches each."""
    return make_grid({1.8e6: 15, 6.6e6: 12, 29e6: 8}, 72e6, 40e6, [10e6])


def make_grid(
    trunks: dict[float, int], base_tokens: float, tokens: float, branches: Sequence[float]
) -> list[PlannedRun]:
    """A ladder: a base per size, its trunks, and their branches."""
    runs = []
    for size, n_trunks in trunks.items():
        base = make_run(size, base_tokens, n_points=1, base=f"{size:g}", kind="pretrain")
        runs.append(base)
        for seed in range(n_trunks):
            about = {"base": f"{size:g}", "seed": seed}
            trunk = make_run(size, tokens, 9, needs=base, **about)
            runs.append(trunk)
            for at in [*branches, tokens]:
                decay = Decay(start_tokens=int(at), n_tokens=int(at / 10))
                branch = {**about, "kind": "branch", "decay": decay}
                runs.append(make_run(size, at * 1.1, 1, needs=trunk, **branch))
    return runs


def make_run(
    size: float, n_tokens: float, n_points: int, needs: PlannedRun | None = None, **identity: Any
) -> PlannedRun:
    """Make a planned run with a number of evaluations."""
    recorded = Recorded(
        size=f"{size:g}", n_tokens=int(n_tokens), evaluation_at=tuple(range(1, n_points + 1))
    )
    config = RunConfig(identity=IDENTITY.model_copy(update=identity), recorded=recorded)
    return PlannedRun(config, (needs.identity_hash,) if needs else (), size)


def random_grid(chance: random.Random, n_gpus: int) -> list[PlannedRun]:
    """A grid of one to four sizes that takes every GPU a minute or longer."""
    while True:
        sizes = chance.sample(SIZES, chance.randint(1, 4))
        tokens = chance.choice([5e6, 10e6, 20e6, 40e6, 80e6])
        trunks = {size: chance.randint(2, 16 if n_gpus <= 8 else 60) for size in sizes}
        branches = [tokens * share for share in chance.choice([(), (0.25,), (0.25, 0.5)])]
        grid = make_grid(trunks, tokens * chance.choice([1, 2, 4]), tokens, branches)
        if sum(run.seconds for run in grid) >= 60 * n_gpus:
            return grid


class Simulation:
    """A call of the engine with simulated workers.

    Args:
        runs: The grid.
        n_gpus: Workers, a GPU each.
        is_new: Whether runs are assigned as they are now, or as before.
        folder: An empty folder.
    """

    def __init__(self, runs: list[PlannedRun], n_gpus: int, is_new: bool, folder: Path) -> None:
        self.queue = RunQueue(runs, StudyFolder(folder / "study.yaml"))
        self.places = [
            SimulatedWorker(slot=Slot((f"cuda:{i}",), lanes=GPU_LANES)) for i in range(n_gpus)
        ]
        self.is_new, self.now, self.idle_s = is_new, 0.0, [0.0] * n_gpus
        self.left = {run.name: self._all(run) for run in runs}

    def run(self) -> float:
        """Train everything; returns the seconds after the first step."""
        first = None
        while self.queue.is_unfinished:
            self._assign()
            if first is None:
                first = min(place.blocked_until for place in self.places if place.busy_with)
            self._advance()
        assert first is not None
        return self.now - first

    def _assign(self) -> None:
        for run in list(self.queue.ready()) if self.is_new else self._ready_before():
            if all(len(place.busy_with) == GPU_LANES for place in self.places):
                break
            place = self._choose(run)
            if place is not None:
                self.queue.take(run)
                place.busy_with[run.name] = run
                self._block(
                    place, START_S + (0 if run.about_n_params in place.sizes else COMPILE_S)
                )
                place.sizes.add(run.about_n_params)
        if self.is_new and not any(self.queue.ready()):
            moved = choose_move(self.queue, self.places)
            if moved is not None:
                run, place = moved
                del place.busy_with[run.name]
                self.queue.end(run, "released")
                self._block(place, MOVE_S / 2)
                self._assign()
        self._compile_ahead()

    def _compile_ahead(self) -> None:
        for place in self.places if self.is_new else ():
            run = choose_to_compile(self.queue, place)
            if run is not None and place.blocked_until <= self.now:
                self._block(place, COMPILE_S)
                place.sizes.add(run.about_n_params)

    def _choose(self, run: PlannedRun) -> SimulatedWorker | None:
        if self.is_new:
            return choose_place(run, self.queue, self.places, self.queue.all_seconds_left())
        free = [p for p in self.places if len(p.busy_with) < p.slot.lanes_for(run.about_n_params)]
        return min(free, key=lambda place: len(place.busy_with), default=None)

    def _ready_before(self) -> list[PlannedRun]:
        ready = [r for r in self.queue.pending.values() if self.queue.done.issuperset(r.needs)]
        return sorted(ready, key=lambda run: -run.about_n_params * run.trained_tokens)

    def _block(self, place: SimulatedWorker, seconds: float) -> None:
        place.blocked_until = max(place.blocked_until, self.now) + seconds

    def _advance(self) -> None:
        """Go on to the next event: a worker is free, a run ends, or a state is saved."""
        rates = {id(place): self._tokens_per_s(place) for place in self.places}
        until = min(self._events(rates)) + 1e-6
        for number, place in enumerate(self.places):
            self.idle_s[number] += 0.0 if place.busy_with else until
            for run in list(place.busy_with.values()):
                self.left[run.name] -= rates[id(place)] * until
                if self.left[run.name] <= 0:
                    del place.busy_with[run.name]
                    self.queue.end(run, "finished")
                else:
                    self.queue.note_progress(run.name, self._reached(run))
        self.now += until

    def _events(self, rates: dict[int, float]) -> Iterator[float]:
        for place in self.places:
            if place.blocked_until > self.now:
                yield place.blocked_until - self.now
            for run in place.busy_with.values() if rates[id(place)] else ():
                yield self.left[run.name] / rates[id(place)]
                for branch in self.queue._branches.get(run.identity_hash, ()):
                    tokens = branch.start_tokens + 1 - self._reached(run)
                    if tokens > 0:
                        yield tokens / rates[id(place)] * self._all(run) / run.trained_tokens

    def _all(self, run: PlannedRun) -> float:
        return run.trained_tokens + len(run.config.recorded.evaluation_at) * EVALUATED

    def _reached(self, run: PlannedRun) -> int:
        share = 1 - self.left[run.name] / self._all(run)
        return run.start_tokens + int(share * run.trained_tokens)

    def _tokens_per_s(self, place: SimulatedWorker) -> float:
        """Tokens that each run of a worker trains per second: a step of each in turn."""
        if place.blocked_until > self.now or not place.busy_with:
            return 0.0
        n_runs = len(place.busy_with)
        return 1 / sum(
            slowdown(run.about_n_params, n_runs) / speed_on_h100(run.about_n_params)
            for run in place.busy_with.values()
        )


def bound_s(runs: Sequence[PlannedRun], n_gpus: int) -> float:
    """Seconds below which no schedule ends, without the time to compile and to start runs."""
    chains, behind = chain_seconds(runs), seconds_behind(runs)
    bounds = [sum(run.seconds for run in runs) / n_gpus]
    for run in runs:
        alone, key = slowdown(run.about_n_params, 1), run.identity_hash
        after = max(alone * (chains[key] - run.seconds), behind[key] / n_gpus)
        bounds.append(alone * run.seconds + after if not run.needs else 0.0)
    return max(bounds)


def measure(runs: list[PlannedRun], n_gpus: int, is_new: bool, folder: Path) -> dict[str, float]:
    """Simulate one grid: seconds, occupancy, the share of the bound, the largest idle share."""
    simulation = Simulation(runs, n_gpus, is_new, folder)
    seconds = simulation.run()
    work = sum(run.seconds for run in runs)
    return {
        "seconds": seconds,
        "occupancy": work / (n_gpus * seconds),
        "of bound": bound_s(runs, n_gpus) / seconds,
        "idle": max(simulation.idle_s) / simulation.now,
    }


def _show(title: str, found: Sequence[dict[str, float]], is_worst: bool) -> None:
    """Print the median or the worst of some grids."""
    low = {key: sorted(grid[key] for grid in found) for key in found[0]}
    at = 0 if is_worst else len(found) // 2
    busy, bound, idle = low["occupancy"][at], low["of bound"][at], low["idle"][-1 - at]
    print(f"{title:44s} {busy:6.0%} {bound:8.0%} {idle:6.0%}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--random", type=int, default=0, help="random grids for 2, 4, 8 and 64 GPUs"
    )
    asked = parser.parse_args()
    print(f"{'':44s} busy  of bound  idle")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n_gpus in (1, 2, 4, 8, 64):
            for is_new in (False, True):
                found = measure(grid_of_108(), n_gpus, is_new, folder)
                label = "now" if is_new else "before"
                _show(f"108 runs, {n_gpus} GPUs, {label}, {found['seconds']:.0f} s", [found], True)
        for n_gpus in (2, 4, 8, 64) if asked.random else ():
            for is_new in (False, True):
                chance = random.Random(n_gpus)
                grids = (random_grid(chance, n_gpus) for _ in range(asked.random // 4))
                found_all = [measure(grid, n_gpus, is_new, folder) for grid in grids]
                label = f"{len(found_all)} grids, {n_gpus} GPUs, {'now' if is_new else 'before'}"
                _show(f"{label}, median", found_all, False)
                _show(f"{label}, worst", found_all, True)


if __name__ == "__main__":
    main()
